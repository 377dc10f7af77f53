import numpy as np
import pandas as pd
import pytest
from made_results import cells_of, made_results, made_rows
from scipy import stats

from src.evaluation.results import ALL_SEEDS
from src.report import numbers, original, tables


def test_interval_table_keeps_the_order_of_its_rows_and_has_daggers():
    rows = made_rows(model=["b", "a", "b"], test_set=["insight", "insight", "inpainting"])
    table = tables.interval_table(rows, "model", "test_set")
    assert table.index.tolist() == ["b", "a"]
    assert table.columns.tolist() == ["insight", "inpainting"]
    assert table.loc["b", "inpainting"] == "0.80 [0.75, 0.85]"
    assert table.loc["a", "inpainting"] == "–"
    renamed = rows.rename(columns={"value": "auc"})
    named = tables.interval_table(renamed, ["model"], "test_set", value="auc")
    assert named.equals(table)
    with pytest.raises(ValueError):
        tables.interval_table(pd.concat([rows, rows]), "model", "test_set")
    failed = rows.assign(ci_low=[0.6, 0.6, 0.4])
    assert tables.interval_table(failed, "model", "test_set").index.tolist() == ["b †", "a"]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.51, 1, "better"), (0.504, 1, "not better"), (0, 0.496, "not better"), (0, 0.49, "worse")],
)
def test_against_chance(low, high, words):
    row = pd.Series({"ci_low": low, "ci_high": high})
    assert tables.against_chance(row) == f"{words} than chance"


def test_metric_table_has_the_five_metrics_and_daggers():
    rows = made_rows(metric=["auc", "f1", "ece"], value=[0.1, 0.2, 0.3], ci_low=0.6)
    table = tables.metric_table(rows, "model")
    assert tables.metric_table(rows.assign(ci_low=0.4), "model").index.tolist() == ["VGG16_V3 †"]
    assert table.columns.tolist() == ["accuracy", "precision", "recall", "f1", "auc"]
    assert table.loc["VGG16_V3", ["f1", "auc"]].tolist() == [0.2, 0.1]
    assert table["recall"].isna().all()


def test_significant_differences_have_a_star_and_are_counted():
    columns = ["second", "difference", "ci_low", "ci_high", "significant"]
    rows = [("b-controlled", -0.2, -0.3, -0.1, True), ("c-controlled", 0.01, -0.1, 0.1, False)]
    rows = pd.DataFrame(rows, columns=columns).assign(first="a-controlled", test_set="insight")
    table = tables.difference_table(rows, "second", "test_set")
    assert table["insight"].tolist() == ["-0.20 [-0.30, -0.10] *", "+0.01 [-0.10, +0.10]"]
    (row,) = tables.significant(rows).to_dict("records")
    assert row == {"tested on": "insight", "significant": "1 of 2", "which": "a < b"}


def test_means_in_domain_and_elsewhere(study):
    rows = made_rows(test_set=["inpainting", "insight", "text2img"], value=[0.9, 0.6, 0.4])
    (row,) = tables.in_domain_and_elsewhere(study, rows).to_dict("records")
    assert row == pytest.approx({"in-domain": 0.9, "elsewhere, on average": 0.5})


def test_seeds_are_averaged(study):
    values = np.random.default_rng(0).uniform(size=4)
    rows = made_rows(seed=[0, 1, 2, 0], value=values, model=["a", "a", "a", "b"])
    foreign = rows.assign(real_source="celeba", value=0.0)
    matrix = rows.iloc[:3].assign(model="Matrix_direct", value=0.0)
    mean = rows.iloc[:1].assign(seed=ALL_SEEDS, num_seeds=3, value=0.0)
    rows = pd.concat([rows, foreign, matrix, mean])
    _, cells = cells_of(numbers.number_tables(study, rows)["Several seeds"])
    text = f"{values[:3].mean():.2f} ± {np.std(values[:3], ddof=1):.2f} (3)"
    assert cells == [["controlled", "a", text]]


def test_the_reports_numbers_are_read_as_they_are():
    reference, histories = original.read_tables(), original.read_histories()
    assert len(reference) == 18
    assert [*reference["table"].unique()] == ["5.1", "5.2", "5.3", "5.4", "5.5", "5.6"]
    assert set(histories) == {"VGG16_V3", "Fourier_DenseNet"}
    assert all(rows["epoch"].tolist() == [1, 2, 3, 4, 5] for rows in histories.values())


def test_finds_the_reports_contradictions():
    reference = original.read_tables()
    found = reference.assign(sentence=original.contradictions(reference)).query("sentence != ''")
    wrong_f1 = found[found["sentence"].str.startswith("F1")]
    sets = wrong_f1.groupby("model")["test_set"].agg(sorted).to_dict()
    assert sets.pop("DenseNet_V2") == ["gan140k", "insight"]
    assert sets == {"VGG16_V3": ["gan140k", "inpainting", "insight"]}
    others = found.drop(wrong_f1.index)
    assert set(others["model"]) == {"Autoencoder"}
    assert sorted(others["test_set"]) == ["gan140k", "insight", "text2img"]


def test_report_table_sets_the_class_real_beside_the_reports_numbers(study):
    rows = made_results()
    changes = [{"seed": 1}, {"real_source": "celeba"}, {"train_set": "insight"}]
    changes += [{"model": "Matrix_direct"}, {"metric": rows["metric"] + "@jpeg:50"}]
    others = [rows.assign(value=0.0, **change) for change in changes]
    table = original.beside_ours(study, pd.concat([rows, *others]))
    row = table.query("model == 'VGG16_V3' and test_set == 'inpainting'").iloc[0]
    assert row["precision_report"] == 96.14 and row["f1_report"] == 94.73
    ours = [row[f"{name}_ours"] for name in ("auc", "accuracy", "precision", "recall", "f1")]
    assert ours == pytest.approx([50, 51, 54, 55, 56])  # percent, and those of real
    assert "95.84" in row["contradiction"]
    assert table.query("model == 'DenseNet_V2'")["auc_ours"].isna().all()
    row = table.query("model == 'Fourier_DenseNet' and test_set == 'insight'").iloc[0]
    assert row["auc_report"] == 81.15 and row["auc_ours"] == pytest.approx(60)
    assert table.query("approach == 'autoencoder'")["auc_ours"].isna().all()
    other = original.beside_ours(study, made_results(train_set="insight"))
    assert other["auc_ours"].isna().all() or other.dropna(subset=["auc_ours", "auc_report"]).empty
    texts = original.texts(table).query("model == 'VGG16_V3' and test_set == 'inpainting'")
    assert texts["accuracy"].item() == "95.8 / 51.0"


def test_a_row_computed_from_counts_does_not_contradict_itself():
    generator = np.random.default_rng(0)
    right_reals, right_fakes = generator.integers(1, 5000, size=(2, 500))
    recall, precision = right_reals / 5000, right_reals / (right_reals + 5000 - right_fakes)
    accuracy = (right_reals + right_fakes) / 10_000
    f1 = 2 * precision * recall / (precision + recall)
    columns = {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}
    table = pd.DataFrame(columns).mul(100).round(2)
    # Roundings of tiny shares explain much.
    plausible = table[(table["precision"] > 20) & (table["recall"] > 5)]
    assert len(plausible) > 300 and (original.contradictions(plausible) == "").all()
    wrong = original.contradictions(plausible.assign(f1=plausible["f1"] + 0.3))
    assert wrong.str.startswith("F1").all()
    wrong = original.contradictions(plausible.assign(accuracy=plausible["accuracy"] - 0.7))
    assert wrong.str.startswith("accuracy").all()
    assert original.contradictions(plausible.assign(precision=np.nan)).eq("").all()


def test_headline_rows_by_a_plain_loop(study):
    """Of a mean over seeds and one training the mean; of baselines those fitted elsewhere, too."""
    generator = np.random.default_rng(0)
    choices = dict(
        model=["VGG16_V3", "Matrix_direct", "Matrix_fourier", "Face_box_own"],
        train_set=["inpainting", "insight", "inpainting+insight"],
        test_set=["inpainting", "gan140k", "unheard_of"],
        real_source=["wiki", "gan140k", "celeba"],
        seed=[0, 1, ALL_SEEDS],
        metric=["auc", "f1", "auc@jpeg:50", "fpr_at_threshold"],
    )
    rows = made_rows(**{name: generator.choice(values, 900) for name, values in choices.items()})
    rows = rows.drop_duplicates([*choices], ignore_index=True)
    rows["num_seeds"] = np.where(rows["seed"] == ALL_SEEDS, 3, 1)
    records, kept = rows.to_dict("records"), []
    places = [name for name in choices if name != "seed"]
    means = {tuple(row[key] for key in places) for row in records if row["seed"] == ALL_SEEDS}
    for place, row in enumerate(records):
        has_mean = tuple(row[key] for key in places) in means
        own = row["model"].endswith("_own")
        if (
            row["seed"] == (ALL_SEEDS if has_mean else 0)
            and (row["train_set"] == "inpainting" or own)
            and not row["model"].startswith("Matrix_")
            and study.test_sets.get(row["test_set"]) == row["real_source"]
            and "@" not in row["metric"]
        ):
            kept.append(place)
    assert len(kept) > 10 and tables.headline(study, rows).index.tolist() == kept
    assert set(rows.loc[kept, "seed"]) == {0, ALL_SEEDS}
    assert tables.headline(study, rows.iloc[:0]).empty


def test_networks_that_did_not_learn_by_a_plain_loop():
    generator = np.random.default_rng(0)
    keys = {"approach": ["direct", "metadata"], "model": ["A", "B"], "seed": [0, 1]}
    keys |= {"protocol": ["report", "controlled"]}
    keys |= {"train_set": ["insight", "inpainting+insight", "text2img"]}
    sets = ["inpainting", "insight"]
    index = pd.MultiIndex.from_product([*keys.values(), sets], names=[*keys, "test_set"])
    rows = index.to_frame(index=False)
    rows = made_rows(**rows, value=generator.uniform(0.4, 0.8, len(rows)))
    expected = []
    for row in rows.itertuples():
        failed = [
            other.ci_low <= 0.505
            for other in rows.itertuples()
            if all(getattr(other, key) == getattr(row, key) for key in keys)
            and other.test_set in row.train_set.split("+")
        ]
        expected.append(row.approach == "direct" and any(failed))
    found = tables.unlearned(rows)
    assert found.tolist() == expected and 0.1 < found.mean() < 0.5
    first = rows.query("seed == 0 and approach == 'direct'")
    daggers = tables.with_daggers(first.assign(metric="f1"), first)["model"]
    assert daggers.str.endswith(" †").tolist() == found[first.index].tolist()
    assert tables.unlearned(rows.iloc[:0]).empty


def test_conditions_are_taken_apart(study):
    metrics = "auc auc@jpeg:50 f1_at_threshold@noise:2.5 auc@grey auc@colour:grey"
    rows = made_rows(metric=metrics.split())
    found = tables.conditions(study, rows)
    assert found[["name", "kind", "level", "is_step"]].to_numpy().tolist() == [
        ["auc", "jpeg", "50", True],
        ["f1_at_threshold", "noise", "2.5", True],
        ["auc", "grey", "", True],
        ["auc", "colour", "grey", False],
    ]
    elsewhere = rows.assign(test_set="insight")  # taken only if the training's own is missing
    assert len(tables.conditions(study, pd.concat([rows, elsewhere]))) == 4
    assert len(tables.conditions(study, elsewhere)) == 4


def test_strengths_and_from_which_on_the_trace_is_seen(study):
    sets = ["strength_0", "strength_0.25", "strength_1", "strength_2"]
    values = {"sees": [0.5, 0.5, 0.7, 0.9], "blind": [0.5] * 4, "by luck": [0.6, 0.5, 0.5, 0.6]}
    rows = [
        made_rows(model=model, test_set=sets, value=value, real_source="trace")
        for model, value in values.items()
    ]
    others = [made_rows(), made_rows(model="x_own", test_set="strength_1", real_source="trace")]
    rows = tables.strengths(study, pd.concat([*rows, *others]))
    assert set(rows["model"]) == set(values)
    assert rows["strength"].tolist() == np.repeat([0, 0.25, 1, 2], 3).tolist()
    seen = tables.first_seen(rows)
    assert seen["sees"] == 1 and np.isnan(seen["blind"]) and seen["by luck"] == 2
    assert tables.strengths(study, made_rows()).empty
    assert "strength_1" not in tables.headline(study, pd.concat(others))["test_set"].tolist()


def test_ranks_are_compared_of_means_over_seeds(study):
    first, mean = [[0.9, 0.8, 0.7]] * 4, [[0.9, 0.8, 0.7], *[[0.7, 0.8, 0.9]] * 2, [0.8, 0.7, 0.9]]
    parts = [
        made_rows(model=[*"ABC"], test_set=test_set, real_source=source, value=values, **of_seed)
        for table, of_seed in ((first, {}), (mean, {"seed": ALL_SEEDS, "num_seeds": 3}))
        for (test_set, source), values in zip(study.test_sets.items(), table)
    ]
    alone, both = (
        tables.rank_agreement_in_words(study, pd.concat(rows), "controlled")
        for rows in (parts[:4], parts)
    )
    oracle = stats.friedmanchisquare(*np.transpose(mean))
    assert "more alike than by chance: Kendall's W = 1.00" in alone and "p = 0.018 by" in alone
    said = f"not shown to agree: Kendall's W = {oracle.statistic / 8:.2f}"
    assert said in both and f"p = {oracle.pvalue:.2g} by" in both
    few = tables.rank_agreement_in_words(study, parts[0][:2], "controlled")
    assert few.startswith("With 2 networks that learned in-domain and 1 test sets under")
