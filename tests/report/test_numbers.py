import numpy as np
import pandas as pd
import pytest
from made_results import cells_of, made_results, made_rows

from src.report import tables
from src.report.numbers import _marked, number_tables, with_texts

FOREIGN = "The same fakes against other real photographs"
ALARMS = "False alarms on photographs from elsewhere"
LOOK = "Where the networks look"
MATRIX = "Trained on every generator in turn"


def _cells(study, rows, heading):
    return cells_of(number_tables(study, rows)[heading].replace("\\|", "¦"))


def test_what_an_interval_shows_is_what_its_mark_says():
    bounds = np.random.default_rng(0).uniform(0.4, 0.6, (2000, 2)).round(3)
    # Halves round both ways.
    bounds = np.sort(bounds[(bounds * 1000 % 10 != 5).all(axis=1)], axis=1)
    rows = with_texts(made_rows(value=0.5, ci_low=bounds[:, 0], ci_high=bounds[:, 1]))
    low, high = rows["text"].str.extract(r"\[(.*), (.*)\]").astype(float).to_numpy().T
    expected = np.where(low > 0.5, "better than chance", "not better than chance")
    assert (rows["verdict"] == np.where(high < 0.5, "worse than chance", expected)).all()
    values = {"value": [0.9, 0.5, 0.1, 0.55], "ci_low": [0.8, 0.4, 0.0, 0.5]}
    rows = made_rows(**values, ci_high=[1.0, 0.6, 0.2, 0.6])
    marked = ["0.90 [0.80, 1.00]", "*0.50 [0.40, 0.60]*", "▼ 0.10 [0.00, 0.20]"]
    assert _marked(rows)["text"].tolist() == [*marked, "*0.55 [0.50, 0.60]*"]


def test_names_cannot_become_markdown(study):
    names = ["<b>", "a*b*c", "[x](y)", "a|b", "new\nline", "_x_", "VGG16_V3"]
    header, rows = _cells(study, made_rows(model=names), "AUC under `controlled`")
    shown = ["\\<b\\>", "a\\*b\\*c", "\\[x\\](y)", "a¦b", "new line", "\\_x\\_", "VGG16_V3"]
    assert header == ["detector", "inpainting"] and [row[0] for row in rows] == shown


def test_tables_keep_their_order_and_show_what_is_missing(study):
    sets = ["gan140k", "inpainting", "inpainting", "inpainting"]
    models = ["VGG16_V3", "Unheard_of", "VGG16_V1", "VGG16_V3"]
    rows = made_rows(model=models, test_set=sets, real_source=["gan140k", *["wiki"] * 3])
    rows = tables.in_reading_order(study, rows)
    header, cells = _cells(study, rows, "AUC under `controlled`")
    assert header == ["detector", "inpainting", "gan140k"]
    assert [row[0] for row in cells] == ["VGG16_V1", "VGG16_V3", "Unheard_of"]
    assert cells[0][2] == "–" and cells[1][2] == "0.80 [0.75, 0.85]"
    assert number_tables(study, rows)["AUC under `report`"] == ""
    assert not any(number_tables(study, made_results().iloc[:0]).values())


def test_foreign_and_unseen_real_photographs(study):
    sets = {"test_set": ["gan140k", "gan140k", "inpainting"], "value": [0.3, 0.8, 0.9]}
    rows = made_rows(**sets, real_source=["wiki", "gan140k", "wiki"])
    header, cells = _cells(study, rows, FOREIGN)
    assert header == ["protocol", "detector", "gan140k against gan140k", "gan140k against wiki"]
    assert cells == [["controlled", "VGG16_V3", "0.80 [0.75, 0.85]", "▼ 0.30 [0.25, 0.35]"]]
    assert number_tables(study, rows.iloc[1:])[FOREIGN] == ""
    names = ["fpr_at_threshold", "fpr_at_threshold", "recall_real_at_threshold"]
    values = {"value": [0.25, 0.4, 0.9], "num_fake": [0, 9, 9]}
    rows = made_rows(metric=names, **values, real_source=["celeba", "wiki", "wiki"])
    header, cells = _cells(study, rows, ALARMS)
    assert header == ["protocol", "detector", "wiki (its own)", "celeba"]
    assert cells == [["controlled", "VGG16_V3", "0.10 [0.05, 0.15]", "0.25 [0.20, 0.30]"]]
    assert number_tables(study, rows.iloc[1:])[ALARMS] == ""


def test_robustness_and_parts_of_the_test_set(study):
    metrics = """auc accuracy_at_threshold auc@jpeg:90 accuracy_at_threshold@jpeg:90 auc@jpeg:50
        auc@grey auc@gender:male auc@gender:female""".split()
    rows = made_rows(metric=metrics, value=0.6 + np.arange(8) / 100)
    rows = pd.concat([rows, made_rows(model="never degraded")])
    robustness = number_tables(study, rows)["Robustness"]
    first, second = (cells_of(part) for part in robustness.split("\n\n")[1::2])
    assert first[0] == ["protocol", "detector", "unchanged", "90", "50"]
    assert first[1] == [["controlled", "VGG16_V3", "0.60 / 0.61", "0.62 / 0.63", "0.64 / –"]]
    assert second[0][2:] == ["unchanged", "grey"]
    assert second[1][0][2:] == ["0.60 / 0.61", "0.65 / –"]
    header, cells = _cells(study, rows, "Parts of the test set")
    assert header == ["protocol", "detector", "gender: male (n = 58)", "gender: female (n = 58)"]
    assert cells == [["controlled", "VGG16_V3", "0.66 [0.61, 0.71]", "0.67 [0.62, 0.72]"]]


def test_attention_beside_area_and_other_pictures(study):
    names = [f"cam_in_region{suffix}" for suffix in ("", "_chance", "_elsewhere", "_excess")]
    rows = made_rows(metric=names, value=[0.4, 0.1, 0.3, 0.1])
    _, cells = _cells(study, rows, LOOK)
    assert cells == [["controlled", "VGG16_V3", "**0.40 [0.35, 0.45] / 0.10 / 0.30**"]]
    assert _cells(study, rows.assign(ci_low=-0.01), LOOK)[1][0][2].startswith("0.40 [")
    assert number_tables(study, rows.iloc[:1])[LOOK] == ""


@pytest.mark.parametrize(
    ("at", "text"), [("0.5", "0.10 / 0.20"), ("the validation threshold", "0.30 / –")]
)
def test_accuracy_and_f1_share_a_cell(study, at, text):
    metrics = ["accuracy", "f1", "accuracy_at_threshold", "auc"]
    rows = made_rows(metric=metrics, value=[0.1, 0.2, 0.3, 0.8])
    assert _cells(study, rows, f"Accuracy / F1 at {at}")[1] == [["controlled", "VGG16_V3", text]]


def test_matrix_marks_what_was_trained_on(study):
    sets = ["insight", "text2img+insight+gan140k", "inpainting", "inpainting+insight"]
    rows = made_rows(train_set=sets, model="Matrix_direct", test_set="insight")
    others = [rows.assign(seed=1), rows.assign(protocol="report")]
    rows = pd.concat([rows, rows.assign(test_set="inpainting", value=0.5), *others])
    header, cells = _cells(study, tables.in_reading_order(study, rows), MATRIX)
    assert header == ["approach", "trained on", "inpainting", "insight"]
    other, own = "0.50 [0.75, 0.85]", "**0.80 [0.75, 0.85]**"
    names = ["inpainting", "insight", "all but inpainting", "inpainting + insight"]
    assert [row[1] for row in cells] == names
    assert [row[3] for row in cells] == ["0.80 [0.75, 0.85]", own, own, own]
    assert [row[2] for row in cells] == [f"**{other}**", other, other, f"**{other}**"]


def test_matrix_and_its_means_of_networks_that_did_not_learn(study):
    sets = {"train_set": ["insight", "inpainting", "text2img+insight+gan140k"] * 2}
    sets["test_set"] = np.repeat(["insight", "inpainting"], 3)
    rows = made_rows(model="Matrix_direct", **sets, value=[0.52, 0.9, 0.6, 0.9, 0.8, 0.3])
    found = tables.matrix(study, rows)
    learned = found.groupby("train_set")["learned"].all()
    assert learned.to_dict() == {"insight": False, "inpainting": True, "all but inpainting": True}
    means = tables.matrix_means(found).loc["Matrix_direct", ["generators it saw", "others"]]
    assert means.loc["one generator"].tolist() == pytest.approx([0.8, 0.9])
    assert means.loc["several"].tolist() == pytest.approx([0.6, 0.3])
    _, cells = _cells(study, rows, MATRIX)
    assert [row[1] for row in cells] == ["inpainting", "insight †", "all but inpainting"]
