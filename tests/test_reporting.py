import inspect

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


def test_report_table_matches_names_and_shows_headline_rows_only():
    reference = reporting.read_report_tables()
    others = [
        _results(seeds=(1, 2)).assign(value=0.0),
        _results(real_source="celeba").assign(value=0.0),
        _results(train_set="insight").assign(value=0.0),
        _results().assign(value=0.0, model="Matrix_direct"),
        _results().assign(value=0.0, metric=lambda rows: rows["metric"] + "@jpeg:50"),
        _results().query("approach == 'fourier'").assign(value=0.9, model="Fourier_same_size"),
    ]
    table = reporting.report_table(pd.concat([_results(), *others]), reference, "fourier", "controlled")
    assert len(table) == 6 and set(table["model"]) == {"Fourier_DenseNet", "Fourier_same_size"}
    row = table.query("test_set == 'insight' and model == 'Fourier_DenseNet'").iloc[0]
    assert row["auc_report"] == 81.15 and row["auc_ours"] == pytest.approx(60)
    assert table.query("model == 'Fourier_same_size'")["auc_report"].isna().all()
    other = reporting.report_table(_results(train_set="insight"), reference, "fourier", "report")
    assert len(other) == 4 and other["auc_ours"].isna().all()  # trained on another set: never side by side
    nobody = reporting.report_table(_results(), reference, "autoencoder", "report")
    assert set(nobody["model"]) == {"Autoencoder_classifier"} and nobody["auc_ours"].isna().all()


def test_report_table_says_what_there_is():
    reference = reporting.read_report_tables()
    with pytest.raises(ValueError, match="no table or approach '6.1'.*'5.1'"):
        reporting.report_table(_results(), reference, "6.1", "report")
    with pytest.raises(ValueError, match=r"protocol 'controlled', only \['report'\]"):
        reporting.report_table(_results().query("protocol == 'report'"), reference, "direct", "controlled")


# Rows and tables ---------------------------------------------------------------------------------------------------


def _rows(**columns):
    """Headline rows under `controlled`, but for the columns given."""
    common = dict(study="tiny", approach="direct", model="VGG16_V3", protocol="controlled", train_set="inpainting")
    common |= dict(test_set="inpainting", real_source="wiki", seed=0, metric="auc", value=0.8, num_real=30, num_fake=28)
    frame = pd.DataFrame(
        common | columns, index=range(max(len(each) for each in columns.values() if not isinstance(each, str)))
    )
    frame = frame.assign(ci_low=frame["value"] - 0.05, ci_high=frame["value"] + 0.05)
    return frame.assign(**{name: columns[name] for name in ("ci_low", "ci_high") if name in columns})


def _cells(table):
    """A Markdown table as (header, row by its first cells)."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return lines[0], lines[2:]


def test_headline_rows_by_a_plain_loop(study):
    generator = np.random.default_rng(0)
    choices = dict(
        model=["VGG16_V3", "Matrix_direct", "Matrix_fourier"], train_set=["inpainting", "insight", "inpainting+insight"],
        test_set=["inpainting", "gan140k", "unheard_of"], real_source=["wiki", "gan140k", "celeba"], seed=[0, 1],
        metric=["auc", "auc@jpeg:50", "fpr_at_threshold"],
    )  # fmt: skip
    rows = _rows(**{name: generator.choice(values, 3000) for name, values in choices.items()})
    kept = [
        place for place, row in enumerate(rows.to_dict("records"))
        if row["seed"] == 0 and row["train_set"] == "inpainting" and not row["model"].startswith("Matrix_")
        and study.test_sets.get(row["test_set"]) == row["real_source"] and "@" not in row["metric"]
    ]  # fmt: skip
    assert len(kept) > 20 and reporting.headline(study, rows).index.tolist() == kept
    assert reporting.headline(study, rows.iloc[:0]).empty


def test_conditions_are_taken_apart(study):
    rows = _rows(
        metric=["auc", "auc@jpeg:50", "f1_at_threshold@noise:2.5", "auc@grey", "auc@colour:grey", "auc@jpeg:bad"]
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
    assert len(reporting.conditions(study, pd.concat([rows, elsewhere]))) == 5  # the training generator's only
    assert len(reporting.conditions(study, elsewhere)) == 5  # unless there are none


def test_intervals_never_hide_on_which_side_of_chance_they_end():
    for value, low, high in np.random.default_rng(0).uniform(0.4, 0.6, (2000, 3)).round(3):
        shown = [float(bound) for bound in reporting.interval(value, low, high).split("(")[1].strip(")").split("–")]
        assert [np.sign(bound - 0.5) for bound in shown] == [np.sign(bound - 0.5) for bound in (low, high)]
    assert reporting.interval(1, 0.5, 1) == "1.00 (0.50–1.00)"
    rows = _rows(value=[0.9, 0.5, 0.1, 0.55], ci_low=[0.8, 0.4, 0.0, 0.5], ci_high=[1.0, 0.6, 0.2, 0.6])
    marked = ["0.90 (0.80–1.00)", "*0.50 (0.40–0.60)*", "▼ 0.10 (0.00–0.20)", "*0.55 (0.50–0.60)*"]
    assert reporting.auc_texts(rows) == marked


def test_names_cannot_become_markdown(study):
    names = ["<b>", "a*b*c", "[x](y)", "a|b", "new\nline", "_x_", "VGG16_V3"]
    header, rows = _cells(reporting.auc_table(study, _rows(model=names), "controlled").replace("\\|", "¦"))
    shown = ["\\<b\\>", "a\\*b\\*c", "\\[x\\](y)", "a¦b", "new line", "\\_x\\_", "VGG16_V3"]
    assert header == ["detector", "inpainting"] and [row[0] for row in rows] == shown


def test_tables_keep_their_order_and_show_what_is_missing(study):
    rows = _rows(
        model=["VGG16_V3", "Unheard_of", "VGG16_V1", "VGG16_V3"], test_set=["gan140k", "inpainting", "inpainting", "inpainting"],
        real_source=["gan140k", "wiki", "wiki", "wiki"],
    )  # fmt: skip
    header, cells = _cells(reporting.auc_table(study, reporting.in_reading_order(study, rows), "controlled"))
    assert header == ["detector", "inpainting", "gan140k"] and [row[0] for row in cells] == [
        "VGG16_V1",
        "VGG16_V3",
        "Unheard_of",
    ]
    assert cells[0][2] == "–" and cells[1][2] == "0.80 (0.75–0.85)"
    assert reporting.auc_table(study, rows, "report") == ""


def test_differences_are_bold_where_intervals_lie_apart(study):
    before = _rows(model=["a", "b", "c", "d"], value=[0.9, 0.80, 0.5, 0.7], protocol="report")
    after = _rows(model=["a", "b", "c", "e"], value=[0.7, 0.799, 0.601, 0.7])
    _, rows = _cells(reporting.difference_table(study, pd.concat([before, after])))
    assert rows == [["a", "**−0.20**"], ["b", "0.00"], ["c", "**+0.10**"]]


def test_seeds_are_averaged(study):
    values = np.random.default_rng(0).uniform(size=4)
    rows = _rows(seed=[0, 1, 2, 0], value=values, model=["a", "a", "a", "b"])
    foreign = rows.assign(real_source="celeba", value=0.0)
    matrix = rows.assign(model="Matrix_direct", value=0.0)
    _, cells = _cells(reporting.seeds_table(study, pd.concat([rows, foreign, matrix])))
    assert cells == [["controlled", "a", f"{values[:3].mean():.2f} ± {np.std(values[:3], ddof=1):.2f} (3)"]]


def test_matrix_marks_what_was_trained_on(study):
    sets = ["insight", "text2img+insight+gan140k", "inpainting", "inpainting+insight"]
    rows = _rows(train_set=sets, model="Matrix_direct", test_set="insight")
    rows = pd.concat(
        [rows, rows.assign(test_set="inpainting", value=0.5), rows.assign(seed=1), rows.assign(protocol="report")]
    )
    header, cells = _cells(reporting.matrix_table(study, reporting.in_reading_order(study, rows)))
    assert header == ["approach", "trained on", "inpainting", "insight"]
    other, own = "0.50 (0.75–0.85)", "**0.80 (0.75–0.85)**"
    assert [row[1] for row in cells] == ["inpainting", "insight", "all but inpainting", "inpainting + insight"]
    assert [row[3] for row in cells] == ["0.80 (0.75–0.85)", own, own, own]
    assert [row[2] for row in cells] == [f"**{other}**", other, other, f"**{other}**"]


def test_foreign_and_unseen_real_photographs(study):
    rows = _rows(
        test_set=["gan140k", "gan140k", "inpainting"], real_source=["wiki", "gan140k", "wiki"], value=[0.3, 0.8, 0.9]
    )
    header, cells = _cells(reporting.foreign_table(study, rows))
    assert header == ["protocol", "detector", "gan140k against gan140k", "gan140k against wiki"]
    assert cells == [["controlled", "VGG16_V3", "0.80 (0.75–0.85)", "▼ 0.30 (0.25–0.35)"]]
    assert reporting.foreign_table(study, rows.iloc[1:]) == ""
    alarms = _rows(metric=["fpr_at_threshold", "fpr_at_threshold", "recall_real_at_threshold"], value=[0.25, 0.4, 0.9],
                   real_source=["celeba", "wiki", "wiki"], num_fake=[0, 9, 9])  # fmt: skip
    header, cells = _cells(reporting.false_alarm_table(study, alarms))
    assert header == ["protocol", "detector", "wiki (its own)", "celeba"]
    assert cells == [["controlled", "VGG16_V3", "0.10 (0.05–0.15)", "0.25 (0.20–0.30)"]]
    assert reporting.false_alarm_table(study, alarms.iloc[1:]) == ""


def test_robustness_and_parts_of_the_test_set(study):
    metrics = [
        "auc",
        "accuracy_at_threshold",
        "auc@jpeg:90",
        "accuracy_at_threshold@jpeg:90",
        "auc@jpeg:50",
        "auc@grey",
    ]
    rows = _rows(metric=[*metrics, "auc@gender:male", "auc@gender:female"], value=np.arange(8) / 10)
    rows = pd.concat([rows, _rows(metric=["auc"], model=["never degraded"])])
    first, second = (_cells(part) for part in reporting.robustness_tables(study, rows).split("\n\n")[1::2])
    assert first[0] == ["protocol", "detector", "unchanged", "90", "50"]
    assert first[1] == [["controlled", "VGG16_V3", "0.00 / 0.10", "0.20 / 0.30", "0.40 / –"]]
    assert second[0][2:] == ["unchanged", "grey"] and second[1][0][2:] == ["0.00 / 0.10", "0.50 / –"]
    header, cells = _cells(reporting.subgroup_table(study, rows))
    assert header == ["protocol", "detector", "gender: male (n = 58)", "gender: female (n = 58)"]
    assert cells == [["controlled", "VGG16_V3", "0.60 (0.55–0.65)", "0.70 (0.65–0.75)"]]


def test_attention_beside_chance(study):
    rows = _rows(metric=["cam_in_region", "cam_in_region_chance"], value=[0.4, 0.1])
    assert _cells(reporting.attention_table(study, rows))[1] == [["controlled", "VGG16_V3", "0.40 (0.35–0.45) / 0.10"]]
    assert reporting.attention_table(study, rows.iloc[:1]) == ""


def test_the_reports_rows_with_one_of_ours_beside_them():
    header, rows = _cells(reporting.beside_the_report(_results()))
    assert header[:3] == ["detector", "tested on", "accuracy"] and len(rows) == 4
    assert rows[0][:3] == ["VGG16_V3", "inpainting", "95.8 / 51.0"] and rows[0][-1].startswith("⚠ F1 94.73")
    assert reporting.beside_the_report(_results(train_set="insight")) == ""
    assert reporting.beside_the_report(_results().query("protocol == 'controlled'")) == ""


def test_every_table_of_no_rows_is_empty(study):
    tables = [value for name, value in vars(reporting).items() if name.endswith(("_table", "_tables"))]
    tables = [table for table in tables if list(inspect.signature(table).parameters) == ["study", "results"]]
    assert len(tables) == 9 and all(table(study, _results().iloc[:0]) == "" for table in tables)


def test_readme_table_shows_headline_rows_and_gaps(study):
    others = [_results(seeds=(1,)).assign(value=0.0), _results(real_source="celeba").assign(value=0.0)]
    variant = _results().query("approach == 'direct' and protocol == 'controlled'").assign(model="VGG16_V3_variant")
    write_results(study, pd.concat([_results(), *others, variant]))
    header, rows = _cells(reporting.readme_table(study))
    assert header == ["detector", *study.test_sets]
    assert [row[0] for row in rows] == ["boosting", "VGG16_V3", "VGG16_V3_variant", "Fourier_DenseNet"]
    assert rows[2][1:3] == ["– → 0.50", "– → –"]
    assert rows[3][1:] == ["0.60 → 0.60 [0.99]", "– → – [0.72]", "0.60 → 0.60 [0.81]", "– → – [0.72]"]


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
