import numpy as np
import pandas as pd
import pytest
from made_results import cells_of, made_results, made_rows

from src import config
from src.config import ROOT
from src.evaluation.results import write_results
from src.report import reporting


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(src.config, "HOME", tmp_path)
    return config.get_study("tiny")


def test_markdown():
    frame = pd.DataFrame(
        {"a|b": [1.23456, np.nan], "n": [3, 4], "text": ["x|y", None]}, index=[7, 8]
    )
    lines = reporting.to_markdown(frame, decimals=1).splitlines()
    assert lines == [
        "| a\\|b | n | text |",
        "| --- | --- | --- |",
        "| 1.2 | 3 | x\\|y |",
        "|  | 4 |  |",
    ]


def test_the_reports_numbers_are_read_as_they_are():
    tables, histories = reporting.read_report_tables(), reporting.read_report_histories()
    assert len(tables) == 18 and tables["table"].unique().tolist() == [
        f"5.{number}" for number in range(1, 7)
    ]
    assert set(histories) == {"VGG16_V3", "Fourier_DenseNet"}
    assert all(
        len(history) == 5 and history["epoch"].tolist() == [1, 2, 3, 4, 5]
        for history in histories.values()
    )


def test_finds_the_reports_contradictions():
    tables = reporting.read_report_tables()
    found = tables.assign(sentence=reporting.contradictions(tables)).query("sentence != ''")
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
    assert len(plausible) > 300 and (reporting.contradictions(plausible) == "").all()
    assert (
        reporting.contradictions(plausible.assign(f1=plausible["f1"] + 0.3))
        .str.startswith("F1")
        .all()
    )
    wrong = reporting.contradictions(plausible.assign(accuracy=plausible["accuracy"] - 0.7))
    assert wrong.str.startswith("accuracy").all()
    assert reporting.contradictions(plausible.assign(precision=np.nan)).eq("").all()


def test_report_table_sets_the_class_real_beside_the_reports_numbers():
    reference = reporting.read_report_tables()
    table = reporting.report_table(made_results(), reference, "direct", "report")
    assert list(zip(table["test_set"], table["model"]))[:3] == [
        ("inpainting", "VGG16_V1"),
        ("inpainting", "VGG16_V2"),
        ("inpainting", "VGG16_V3"),
    ]
    row = table.query("model == 'VGG16_V3' and test_set == 'inpainting'").iloc[0]
    assert row["precision_report"] == 96.14 and row["f1_report"] == 94.73
    ours = [row[f"{name}_ours"] for name in ("auc", "accuracy", "precision", "recall", "f1")]
    assert ours == pytest.approx([50, 51, 54, 55, 56])  # percent, and those of real
    assert row["data"] == "simulated" and "95.84" in row["contradiction"]
    assert np.isnan(table.query("model == 'DenseNet_V2'")["auc_ours"]).all()
    assert len(reporting.report_table(made_results(), reference, "5.1", "report")) == 4


def test_report_table_matches_names_and_shows_headline_rows_only():
    reference = reporting.read_report_tables()
    others = [
        made_results(seeds=(1, 2)).assign(value=0.0),
        made_results(real_source="celeba").assign(value=0.0),
        made_results(train_set="insight").assign(value=0.0),
        made_results().assign(value=0.0, model="Matrix_direct"),
        made_results().assign(value=0.0, metric=lambda rows: rows["metric"] + "@jpeg:50"),
        made_results().query("approach == 'fourier'").assign(value=0.9, model="Fourier_same_size"),
    ]
    table = reporting.report_table(
        pd.concat([made_results(), *others]), reference, "fourier", "controlled"
    )
    assert len(table) == 6 and set(table["model"]) == {"Fourier_DenseNet", "Fourier_same_size"}
    row = table.query("test_set == 'insight' and model == 'Fourier_DenseNet'").iloc[0]
    assert row["auc_report"] == 81.15 and row["auc_ours"] == pytest.approx(60)
    assert table.query("model == 'Fourier_same_size'")["auc_report"].isna().all()
    other = reporting.report_table(
        made_results(train_set="insight"), reference, "fourier", "report"
    )
    assert (
        len(other) == 4 and other["auc_ours"].isna().all()
    )  # trained on another set: never side by side
    nobody = reporting.report_table(made_results(), reference, "autoencoder", "report")
    assert set(nobody["model"]) == {"Autoencoder_classifier"} and nobody["auc_ours"].isna().all()


def test_report_table_says_what_there_is():
    reference = reporting.read_report_tables()
    with pytest.raises(ValueError, match="no table or approach '6.1'.*'5.1'"):
        reporting.report_table(made_results(), reference, "6.1", "report")
    with pytest.raises(ValueError, match=r"protocol 'controlled', only \['report'\]"):
        reporting.report_table(
            made_results().query("protocol == 'report'"), reference, "direct", "controlled"
        )


def test_headline_rows_by_a_plain_loop(study):
    generator = np.random.default_rng(0)
    choices = dict(
        model=["VGG16_V3", "Matrix_direct", "Matrix_fourier"], train_set=["inpainting", "insight", "inpainting+insight"],
        test_set=["inpainting", "gan140k", "unheard_of"], real_source=["wiki", "gan140k", "celeba"], seed=[0, 1],
        metric=["auc", "auc@jpeg:50", "fpr_at_threshold"],
    )  # fmt: skip
    rows = made_rows(**{name: generator.choice(values, 3000) for name, values in choices.items()})
    kept = [
        place for place, row in enumerate(rows.to_dict("records"))
        if row["seed"] == 0 and row["train_set"] == "inpainting" and not row["model"].startswith("Matrix_")
        and study.test_sets.get(row["test_set"]) == row["real_source"] and "@" not in row["metric"]
    ]  # fmt: skip
    assert len(kept) > 20 and reporting.headline(study, rows).index.tolist() == kept
    assert reporting.headline(study, rows.iloc[:0]).empty


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
    found = reporting.conditions(study, rows)
    assert found[["metric", "kind", "level", "is_step"]].to_numpy().tolist() == [
        ["auc", "jpeg", "50", True],
        ["f1_at_threshold", "noise", "2.5", True],
        ["auc", "grey", "", True],
        ["auc", "colour", "grey", False],
        ["auc", "jpeg", "bad", False],
    ]
    elsewhere = rows.assign(test_set="insight")
    assert (
        len(reporting.conditions(study, pd.concat([rows, elsewhere]))) == 5
    )  # the training generator's only
    assert len(reporting.conditions(study, elsewhere)) == 5  # unless there are none


def test_readme_table_shows_headline_rows_and_gaps(study):
    others = [
        made_results(seeds=(1,)).assign(value=0.0),
        made_results(real_source="celeba").assign(value=0.0),
    ]
    variant = (
        made_results()
        .query("approach == 'direct' and protocol == 'controlled'")
        .assign(model="VGG16_V3_variant")
    )
    write_results(study, pd.concat([made_results(), *others, variant]))
    header, rows = cells_of(reporting.readme_table(study))
    assert header == ["detector", *study.test_sets]
    assert [row[0] for row in rows] == [
        "boosting",
        "VGG16_V3",
        "VGG16_V3_variant",
        "Fourier_DenseNet",
    ]
    assert rows[2][1:3] == ["– → 0.50", "– → –"]
    assert rows[3][1:] == [
        "0.60 → 0.60 [0.99]",
        "– → – [0.72]",
        "0.60 → 0.60 [0.81]",
        "– → – [0.72]",
    ]


def test_the_readme_shows_the_committed_results(tmp_path):
    import shutil
    import subprocess

    changed = subprocess.run(
        ["git", "diff", "--quiet", "HEAD", "--", "figures"], cwd=ROOT, capture_output=True
    )
    if changed.returncode:
        pytest.skip("figures/ holds other results than the committed ones")

    readme = tmp_path / "README.md"
    shutil.copy(ROOT / "README.md", readme)
    assert not reporting.update_readme(readme), "run python -m src.reporting"
    text = readme.read_text(encoding="utf-8")
    start, end = text.index("<!-- results: demo -->"), text.index("<!-- end -->")
    readme.write_text(text[:start] + "<!-- results: demo -->\nold\n" + text[end:], encoding="utf-8")
    assert reporting.update_readme(readme) and readme.read_text(encoding="utf-8") == text
