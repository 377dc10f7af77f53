import numpy as np
import pandas as pd
import pytest
from made_results import cells_of, made_results, made_rows

from src import config
from src.report import page, tables


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    return config.get_study("tiny")


def _write_results(study, frame):
    study.figures.mkdir(parents=True, exist_ok=True)
    frame.to_csv(study.figures / "results.csv", index=False)


def test_the_page_never_hides_on_which_side_of_chance_an_interval_ends():
    bounds = np.sort(np.random.default_rng(0).uniform(0.4, 0.6, (2000, 2)).round(3))
    rows = made_rows(value=bounds.mean(axis=1), ci_low=bounds[:, 0], ci_high=bounds[:, 1])
    for text, exact in zip(page._with_texts(rows)["text"], bounds):
        shown = [float(bound) for bound in text.split("[")[1].strip("]").split(", ")]
        assert [np.sign(bound - 0.5) for bound in shown] == [
            np.sign(bound - 0.5) for bound in exact
        ]
    values = {"value": [0.9, 0.5, 0.1, 0.55], "ci_low": [0.8, 0.4, 0.0, 0.5]}
    rows = made_rows(**values, ci_high=[1.0, 0.6, 0.2, 0.6])
    marked = ["0.90 [0.80, 1.00]", "*0.50 [0.40, 0.60]*", "▼ 0.10 [0.00, 0.20]"]
    assert page._auc_texts(rows) == [*marked, "*0.55 [0.50, 0.60]*"]


def test_interval_table_keeps_the_order_of_its_rows():
    rows = made_rows(model=["b", "a", "b"], test_set=["insight", "insight", "inpainting"])
    table = tables.interval_table(rows, "model", "test_set", decimals=2)
    assert table.index.tolist() == ["b", "a"] and table.columns.tolist() == [
        "insight",
        "inpainting",
    ]
    assert table.loc["b", "inpainting"] == "0.80 [0.75, 0.85]"
    assert table.loc["a", "inpainting"] == "–"
    renamed = rows.rename(columns={"value": "auc"})
    assert tables.interval_table(renamed, "model", "test_set", value="auc", decimals=2).equals(
        table
    )
    with pytest.raises(ValueError):
        tables.interval_table(pd.concat([rows, rows]), "model", "test_set")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.51, 0.6, "better than chance"),
        (0.5, 0.6, "not better than chance"),
        (0.4, 0.49, "worse than chance"),
    ],
)
def test_against_chance(low, high, words):
    assert tables.against_chance(pd.Series({"ci_low": low, "ci_high": high})) == words


def test_metric_table_has_the_five_metrics():
    rows = made_rows(metric=["auc", "f1", "ece"], value=[0.1, 0.2, 0.3])
    table = tables.metric_table(rows, "model")
    assert table.columns.tolist() == ["accuracy", "precision", "recall", "f1", "auc"]
    assert table.loc["VGG16_V3", ["f1", "auc"]].tolist() == [0.2, 0.1]
    assert table["recall"].isna().all()


def test_significant_differences_have_a_star_and_are_counted():
    rows = pd.DataFrame(
        {
            "first": ["a-controlled", "a-controlled"],
            "second": ["b-controlled", "c-controlled"],
            "test_set": ["insight", "insight"],
            "difference": [-0.2, 0.01],
            "ci_low": [-0.3, -0.1],
            "ci_high": [-0.1, 0.1],
            "significant": [True, False],
        }
    )
    table = tables.difference_table(rows, "second", "test_set")
    assert table["insight"].tolist() == ["-0.20 [-0.30, -0.10] *", "+0.01 [-0.10, +0.10]"]
    (row,) = tables.significant(rows).to_dict("records")
    assert row == {"tested on": "insight", "significant": "1 of 2", "which": "a < b"}


def test_means_in_domain_and_elsewhere(study):
    rows = made_rows(test_set=["inpainting", "insight", "text2img"], value=[0.9, 0.6, 0.4])
    (row,) = tables.in_domain_and_elsewhere(study, rows).to_dict("records")
    assert row == pytest.approx({"in-domain": 0.9, "elsewhere, on average": 0.5})


def test_means_of_the_matrix(study):
    rows = made_rows(
        model="Matrix_direct",
        train_set=["inpainting", "inpainting", "text2img+insight+gan140k"],
        test_set=["inpainting", "insight", "inpainting"],
        value=[0.9, 0.6, 0.3],
    )
    found = tables.matrix_means(tables.matrix(study, rows))
    assert found.loc[("Matrix_direct", "one generator")].tolist() == pytest.approx([0.9, 0.6])
    assert found.loc[("Matrix_direct", "several"), "others"] == pytest.approx(0.3)


def test_seeds_are_averaged(study):
    values = np.random.default_rng(0).uniform(size=4)
    rows = made_rows(seed=[0, 1, 2, 0], value=values, model=["a", "a", "a", "b"])
    foreign = rows.assign(real_source="celeba", value=0.0)
    matrix = rows.assign(model="Matrix_direct", value=0.0)
    _, cells = cells_of(page._seeds(study, pd.concat([rows, foreign, matrix])))
    assert cells == [
        ["controlled", "a", f"{values[:3].mean():.2f} ± {np.std(values[:3], ddof=1):.2f} (3)"]
    ]


def test_matrix_marks_what_was_trained_on(study):
    sets = ["insight", "text2img+insight+gan140k", "inpainting", "inpainting+insight"]
    rows = made_rows(train_set=sets, model="Matrix_direct", test_set="insight")
    rows = pd.concat(
        [
            rows,
            rows.assign(test_set="inpainting", value=0.5),
            rows.assign(seed=1),
            rows.assign(protocol="report"),
        ]
    )
    header, cells = cells_of(page._matrix(study, tables.in_reading_order(study, rows)))
    assert header == ["approach", "trained on", "inpainting", "insight"]
    other, own = "0.50 [0.75, 0.85]", "**0.80 [0.75, 0.85]**"
    assert [row[1] for row in cells] == [
        "inpainting",
        "insight",
        "all but inpainting",
        "inpainting + insight",
    ]
    assert [row[3] for row in cells] == ["0.80 [0.75, 0.85]", own, own, own]
    assert [row[2] for row in cells] == [f"**{other}**", other, other, f"**{other}**"]


def test_the_reports_numbers_are_read_as_they_are():
    reference, histories = tables.read_report_tables(), tables.read_report_histories()
    assert len(reference) == 18 and reference["table"].unique().tolist() == [
        f"5.{number}" for number in range(1, 7)
    ]
    assert set(histories) == {"VGG16_V3", "Fourier_DenseNet"}
    assert all(
        len(history) == 5 and history["epoch"].tolist() == [1, 2, 3, 4, 5]
        for history in histories.values()
    )


def test_finds_the_reports_contradictions():
    reference = tables.read_report_tables()
    found = reference.assign(sentence=tables.contradictions(reference)).query("sentence != ''")
    wrong_f1 = found[found["sentence"].str.startswith("F1")]
    assert sorted(zip(wrong_f1["model"], wrong_f1["test_set"])) == [
        ("DenseNet_V2", "gan140k"),
        ("DenseNet_V2", "insight"),
        ("VGG16_V3", "gan140k"),
        ("VGG16_V3", "inpainting"),
        ("VGG16_V3", "insight"),
    ]
    others = found.drop(wrong_f1.index)
    assert set(others["model"]) == {"Autoencoder"}
    assert sorted(others["test_set"]) == ["gan140k", "insight", "text2img"]


def test_report_table_sets_the_class_real_beside_the_reports_numbers(study):
    others = [
        made_results(seeds=(1, 2)).assign(value=0.0),
        made_results(real_source="celeba").assign(value=0.0),
        made_results(train_set="insight").assign(value=0.0),
        made_results().assign(value=0.0, model="Matrix_direct"),
        made_results().assign(value=0.0, metric=lambda rows: rows["metric"] + "@jpeg:50"),
    ]
    table = tables.report_table(study, pd.concat([made_results(), *others]))
    row = table.query("model == 'VGG16_V3' and test_set == 'inpainting'").iloc[0]
    assert row["precision_report"] == 96.14 and row["f1_report"] == 94.73
    ours = [row[f"{name}_ours"] for name in ("auc", "accuracy", "precision", "recall", "f1")]
    assert ours == pytest.approx([50, 51, 54, 55, 56])  # percent, and those of real
    assert "95.84" in row["contradiction"]
    assert table.query("model == 'DenseNet_V2'")["auc_ours"].isna().all()
    row = table.query("model == 'Fourier_DenseNet' and test_set == 'insight'").iloc[0]
    assert row["auc_report"] == 81.15 and row["auc_ours"] == pytest.approx(60)
    assert table.query("approach == 'autoencoder'")["auc_ours"].isna().all()
    other = tables.report_table(study, made_results(train_set="insight"))
    assert other["auc_ours"].isna().all() or other.dropna(subset=["auc_ours", "auc_report"]).empty
    texts = tables.report_texts(table).query("model == 'VGG16_V3' and test_set == 'inpainting'")
    assert texts["accuracy"].item() == "95.8 / 51.0"


def test_a_row_computed_from_counts_does_not_contradict_itself():
    generator = np.random.default_rng(0)
    right_reals, right_fakes = generator.integers(1, 5000, size=(2, 500))
    recall, precision = right_reals / 5000, right_reals / (right_reals + 5000 - right_fakes)
    accuracy, f1 = (
        (right_reals + right_fakes) / 10_000,
        2 * precision * recall / (precision + recall),
    )
    table = (
        pd.DataFrame({"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1})
        .mul(100)
        .round(2)
    )
    plausible = table[
        (table["precision"] > 20) & (table["recall"] > 5)
    ]  # roundings of tiny shares explain much
    assert len(plausible) > 300 and (tables.contradictions(plausible) == "").all()
    assert (
        tables.contradictions(plausible.assign(f1=plausible["f1"] + 0.3)).str.startswith("F1").all()
    )
    wrong = tables.contradictions(plausible.assign(accuracy=plausible["accuracy"] - 0.7))
    assert wrong.str.startswith("accuracy").all()
    assert tables.contradictions(plausible.assign(precision=np.nan)).eq("").all()


def test_headline_rows_by_a_plain_loop(study):
    generator = np.random.default_rng(0)
    choices = dict(
        model=["VGG16_V3", "Matrix_direct", "Matrix_fourier"],
        train_set=["inpainting", "insight", "inpainting+insight"],
        test_set=["inpainting", "gan140k", "unheard_of"],
        real_source=["wiki", "gan140k", "celeba"],
        seed=[0, 1],
        metric=["auc", "auc@jpeg:50", "fpr_at_threshold"],
    )
    rows = made_rows(**{name: generator.choice(values, 3000) for name, values in choices.items()})
    kept = [
        place
        for place, row in enumerate(rows.to_dict("records"))
        if row["seed"] == 0
        and row["train_set"] == "inpainting"
        and not row["model"].startswith("Matrix_")
        and study.test_sets.get(row["test_set"]) == row["real_source"]
        and "@" not in row["metric"]
    ]
    assert len(kept) > 20 and tables.headline(study, rows).index.tolist() == kept
    assert tables.headline(study, rows.iloc[:0]).empty


def test_conditions_are_taken_apart(study):
    rows = made_rows(
        metric=[
            "auc",
            "auc@jpeg:50",
            "f1_at_threshold@noise:2.5",
            "auc@grey",
            "auc@colour:grey",
            "auc@jpeg:bad",
        ]
    )
    found = tables.conditions(study, rows)
    assert found[["name", "kind", "level", "is_step"]].to_numpy().tolist() == [
        ["auc", "jpeg", "50", True],
        ["f1_at_threshold", "noise", "2.5", True],
        ["auc", "grey", "", True],
        ["auc", "colour", "grey", False],
        ["auc", "jpeg", "bad", False],
    ]
    elsewhere = rows.assign(test_set="insight")
    assert (
        len(tables.conditions(study, pd.concat([rows, elsewhere]))) == 5
    )  # the training generator's only
    assert len(tables.conditions(study, elsewhere)) == 5  # unless there are none
