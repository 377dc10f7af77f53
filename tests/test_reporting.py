import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import src.config
from src import reporting
from src.evaluation import RESULT_COLUMNS, write_results


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(src.config, "HOME", tmp_path)
    return src.config.get_study("tiny")


def _results(seeds=(0,), **changes):
    """A row for each detector, test set and metric, with values that tell them apart."""
    detectors = [("direct", "VGG16_V3"), ("fourier", "Fourier_DenseNet"), ("metadata", "boosting")]
    names = ["auc", "accuracy", "precision", "f1", "precision_real", "recall_real", "f1_real"]
    rows = [
        ("tiny", approach, model, protocol, "inpainting", test_set, "wiki", seed, name, value, value - 0.05, value + 0.05, 9, 8)
        for place, (approach, model) in enumerate(detectors)
        for protocol in ("report", "controlled")
        for test_set in ("inpainting", "insight")
        for seed in seeds
        for name, value in zip(names, 0.5 + 0.01 * np.arange(7) + 0.1 * place + 0.02 * seed)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS)).assign(**changes)


def test_markdown():
    frame = pd.DataFrame({"a|b": [1.23456, np.nan], "n": [3, 4], "text": ["x|y", None]}, index=[7, 8])
    lines = reporting.to_markdown(frame, decimals=1).splitlines()
    assert lines == ["| a\\|b | n | text |", "| --- | --- | --- |", "| 1.2 | 3 | x\\|y |", "|  | 4 |  |"]


def test_the_reports_numbers_are_read_as_they_are():
    tables, histories = reporting.read_report_tables(), reporting.read_report_histories()
    assert len(tables) == 18 and tables["table"].unique().tolist() == [f"5.{number}" for number in range(1, 7)]
    assert set(histories) == {"VGG16_V3", "Fourier_DenseNet"}
    assert all(len(history) == 5 and history["epoch"].tolist() == [1, 2, 3, 4, 5] for history in histories.values())


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
    accuracy, f1 = (right_reals + right_fakes) / 10_000, 2 * precision * recall / (precision + recall)
    table = pd.DataFrame({"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}).mul(100).round(2)
    plausible = table[(table["precision"] > 20) & (table["recall"] > 5)]  # roundings of tiny shares explain much
    assert len(plausible) > 300 and (reporting.contradictions(plausible) == "").all()
    assert reporting.contradictions(plausible.assign(f1=plausible["f1"] + 0.3)).str.startswith("F1").all()
    wrong = reporting.contradictions(plausible.assign(accuracy=plausible["accuracy"] - 0.7))
    assert wrong.str.startswith("accuracy").all()
    assert reporting.contradictions(plausible.assign(precision=np.nan)).eq("").all()


def test_report_table_sets_the_class_real_beside_the_reports_numbers():
    reference = reporting.read_report_tables()
    table = reporting.report_table(_results(), reference, "direct", "report")
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
    assert len(reporting.report_table(_results(), reference, "5.1", "report")) == 4


def test_report_table_matches_the_only_model_of_an_approach_and_averages_seeds():
    reference = reporting.read_report_tables()
    table = reporting.report_table(_results(seeds=(0, 1)), reference, "fourier", "controlled")
    row = table.query("test_set == 'insight'").iloc[0]
    assert set(table["model"]) == {"Fourier_DenseNet"} and row["auc_report"] == 81.15
    assert row["auc_ours"] == pytest.approx(61)
    other = reporting.report_table(_results(train_set="insight"), reference, "fourier", "report")
    assert len(other) == 6 and other["auc_report"].notna().sum() == 4  # trained on another set: never side by side


def test_report_table_says_what_there_is():
    reference = reporting.read_report_tables()
    with pytest.raises(ValueError, match="no table or approach '6.1'.*'5.1'"):
        reporting.report_table(_results(), reference, "6.1", "report")
    with pytest.raises(ValueError, match=r"protocol 'controlled', only \['report'\]"):
        reporting.report_table(_results().query("protocol == 'report'"), reference, "direct", "controlled")


def test_summary_holds_what_was_run_and_what_was_not(study):
    write_results(study, _results())
    study.models.mkdir(parents=True)
    (study.models / "VGG16_V3-report.json").write_text(json.dumps({"starts_from": "ImageNet", "threshold": 0.4321}))
    (study.models / "Other-report.json").write_text(json.dumps({"weights": "random values", "seed": 5}))
    (study.figures / "03_curves.png").write_bytes(b"")
    path = reporting.write_summary(study)
    page = path.read_text(encoding="utf-8")
    assert path == study.figures / "summary.md" and "**Simulated data:**" in page
    assert "| direct | VGG16_V3 | 0.500 (0.450–0.550) | 0.500 (0.450–0.550) |" in page
    assert "| metadata | boosting | 0.710 / 0.730 | 0.710 / 0.730 |" in page
    assert "inpainting (8 fakes, 9 reals of wiki)" in page
    assert "| VGG16_V3-report | ImageNet |  | 0.432 |" in page and "| Other-report | random values | 5 |" in page
    assert "- direct VGG16_V3: protocol `report` on text2img, gan140k, `controlled` on text2img, gan140k" in page
    assert "- autoencoder: protocol `report`, `controlled`\n" in page
    assert "- [03 curves](03_curves.png)" in page and "numpy " + np.__version__ in page
    assert page.count("## Protocol") == 2 and "chosen on the validation split" not in page
    assert " nan" not in page


def test_summary_of_several_seeds_training_sets_and_real_sources(study):
    frame = pd.concat([_results(seeds=(0, 1)), _results(real_source="celeba"), _results(train_set="insight")])
    write_results(study, frame)
    page = reporting.write_summary(replace(study, simulation=None)).read_text(encoding="utf-8")
    assert "imulated data:" not in page and "seeds: 0, 1" in page
    assert "| direct | VGG16_V3 | inpainting |" in page and "| direct | VGG16_V3 | insight |" in page
    assert "inpainting / wiki | " in page and "0.510 ± 0.014 (2 seeds)" in page


def test_summary_needs_results(study):
    with pytest.raises(FileNotFoundError, match="Run the notebooks"):
        reporting.write_summary(study)


def test_the_readme_shows_the_committed_results(tmp_path):
    import shutil
    import subprocess

    from src.config import ROOT

    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "figures"], cwd=ROOT, capture_output=True)
    if changed.returncode:
        pytest.skip("figures/ holds other results than the committed ones")

    readme = tmp_path / "README.md"
    shutil.copy(ROOT / "README.md", readme)
    assert not reporting.update_readme(readme), "run python -m src.reporting"
    text = readme.read_text(encoding="utf-8")
    start, end = text.index("<!-- results: demo -->"), text.index("<!-- end -->")
    readme.write_text(text[:start] + "<!-- results: demo -->\nold\n" + text[end:], encoding="utf-8")
    assert reporting.update_readme(readme) and readme.read_text(encoding="utf-8") == text
