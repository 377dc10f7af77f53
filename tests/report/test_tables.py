import numpy as np
import pandas as pd
import pytest
from made_results import cells_of, made_results, made_rows

from src import config
from src.report import reporting, tables


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(src.config, "HOME", tmp_path)
    return config.get_study("tiny")


def test_intervals_never_hide_on_which_side_of_chance_they_end():
    for value, low, high in np.random.default_rng(0).uniform(0.4, 0.6, (2000, 3)).round(3):
        shown = [
            float(bound)
            for bound in tables.interval(value, low, high).split("(")[1].strip(")").split("–")
        ]
        assert [np.sign(bound - 0.5) for bound in shown] == [
            np.sign(bound - 0.5) for bound in (low, high)
        ]
    assert tables.interval(1, 0.5, 1) == "1.00 (0.50–1.00)"
    rows = made_rows(
        value=[0.9, 0.5, 0.1, 0.55], ci_low=[0.8, 0.4, 0.0, 0.5], ci_high=[1.0, 0.6, 0.2, 0.6]
    )
    marked = ["0.90 (0.80–1.00)", "*0.50 (0.40–0.60)*", "▼ 0.10 (0.00–0.20)", "*0.55 (0.50–0.60)*"]
    assert tables.auc_texts(rows) == marked


def test_names_cannot_become_markdown(study):
    names = ["<b>", "a*b*c", "[x](y)", "a|b", "new\nline", "_x_", "VGG16_V3"]
    header, rows = cells_of(
        tables.auc(study, made_rows(model=names), "controlled").replace("\\|", "¦")
    )
    shown = ["\\<b\\>", "a\\*b\\*c", "\\[x\\](y)", "a¦b", "new line", "\\_x\\_", "VGG16_V3"]
    assert header == ["detector", "inpainting"] and [row[0] for row in rows] == shown


def test_tables_keep_their_order_and_show_what_is_missing(study):
    rows = made_rows(
        model=["VGG16_V3", "Unheard_of", "VGG16_V1", "VGG16_V3"], test_set=["gan140k", "inpainting", "inpainting", "inpainting"],
        real_source=["gan140k", "wiki", "wiki", "wiki"],
    )  # fmt: skip
    header, cells = cells_of(
        tables.auc(study, reporting.in_reading_order(study, rows), "controlled")
    )
    assert header == ["detector", "inpainting", "gan140k"] and [row[0] for row in cells] == [
        "VGG16_V1",
        "VGG16_V3",
        "Unheard_of",
    ]
    assert cells[0][2] == "–" and cells[1][2] == "0.80 (0.75–0.85)"
    assert tables.auc(study, rows, "report") == ""


def test_differences_are_bold_where_intervals_lie_apart(study):
    before = made_rows(model=["a", "b", "c", "d"], value=[0.9, 0.80, 0.5, 0.7], protocol="report")
    after = made_rows(model=["a", "b", "c", "e"], value=[0.7, 0.799, 0.601, 0.7])
    _, rows = cells_of(tables.difference(study, pd.concat([before, after])))
    assert rows == [["a", "**−0.20**"], ["b", "0.00"], ["c", "**+0.10**"]]


def test_seeds_are_averaged(study):
    values = np.random.default_rng(0).uniform(size=4)
    rows = made_rows(seed=[0, 1, 2, 0], value=values, model=["a", "a", "a", "b"])
    foreign = rows.assign(real_source="celeba", value=0.0)
    matrix = rows.assign(model="Matrix_direct", value=0.0)
    _, cells = cells_of(tables.seeds(study, pd.concat([rows, foreign, matrix])))
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
    header, cells = cells_of(tables.matrix(study, reporting.in_reading_order(study, rows)))
    assert header == ["approach", "trained on", "inpainting", "insight"]
    other, own = "0.50 (0.75–0.85)", "**0.80 (0.75–0.85)**"
    assert [row[1] for row in cells] == [
        "inpainting",
        "insight",
        "all but inpainting",
        "inpainting + insight",
    ]
    assert [row[3] for row in cells] == ["0.80 (0.75–0.85)", own, own, own]
    assert [row[2] for row in cells] == [f"**{other}**", other, other, f"**{other}**"]


def test_foreign_and_unseen_real_photographs(study):
    rows = made_rows(
        test_set=["gan140k", "gan140k", "inpainting"],
        real_source=["wiki", "gan140k", "wiki"],
        value=[0.3, 0.8, 0.9],
    )
    header, cells = cells_of(tables.foreign(study, rows))
    assert header == ["protocol", "detector", "gan140k against gan140k", "gan140k against wiki"]
    assert cells == [["controlled", "VGG16_V3", "0.80 (0.75–0.85)", "▼ 0.30 (0.25–0.35)"]]
    assert tables.foreign(study, rows.iloc[1:]) == ""
    alarms = made_rows(metric=["fpr_at_threshold", "fpr_at_threshold", "recall_real_at_threshold"], value=[0.25, 0.4, 0.9],
                   real_source=["celeba", "wiki", "wiki"], num_fake=[0, 9, 9])  # fmt: skip
    header, cells = cells_of(tables.false_alarms(study, alarms))
    assert header == ["protocol", "detector", "wiki (its own)", "celeba"]
    assert cells == [["controlled", "VGG16_V3", "0.10 (0.05–0.15)", "0.25 (0.20–0.30)"]]
    assert tables.false_alarms(study, alarms.iloc[1:]) == ""


def test_robustness_and_parts_of_the_test_set(study):
    metrics = [
        "auc",
        "accuracy_at_threshold",
        "auc@jpeg:90",
        "accuracy_at_threshold@jpeg:90",
        "auc@jpeg:50",
        "auc@grey",
    ]
    rows = made_rows(
        metric=[*metrics, "auc@gender:male", "auc@gender:female"], value=np.arange(8) / 10
    )
    rows = pd.concat([rows, made_rows(metric=["auc"], model=["never degraded"])])
    first, second = (cells_of(part) for part in tables.robustness(study, rows).split("\n\n")[1::2])
    assert first[0] == ["protocol", "detector", "unchanged", "90", "50"]
    assert first[1] == [["controlled", "VGG16_V3", "0.00 / 0.10", "0.20 / 0.30", "0.40 / –"]]
    assert second[0][2:] == ["unchanged", "grey"] and second[1][0][2:] == [
        "0.00 / 0.10",
        "0.50 / –",
    ]
    header, cells = cells_of(tables.subgroups(study, rows))
    assert header == ["protocol", "detector", "gender: male (n = 58)", "gender: female (n = 58)"]
    assert cells == [["controlled", "VGG16_V3", "0.60 (0.55–0.65)", "0.70 (0.65–0.75)"]]


def test_attention_beside_area_and_other_pictures(study):
    names = [f"cam_in_region{suffix}" for suffix in ("", "_chance", "_elsewhere", "_excess")]
    rows = made_rows(metric=names, value=[0.4, 0.1, 0.3, 0.1])
    text = "0.40 (0.35–0.45) / 0.10 / 0.30"
    assert cells_of(tables.attention(study, rows))[1] == [["controlled", "VGG16_V3", f"**{text}**"]]
    assert cells_of(tables.attention(study, rows.assign(ci_low=-0.01)))[1][0][2].startswith(
        "0.40 ("
    )
    assert tables.attention(study, rows.iloc[:1]) == ""


def test_accuracy_and_f1_share_a_cell(study):
    rows = made_rows(
        metric=["accuracy", "f1", "accuracy_at_threshold", "auc"], value=[0.1, 0.2, 0.3, 0.4]
    )
    assert cells_of(tables.accuracy(study, rows))[1] == [["controlled", "VGG16_V3", "0.10 / 0.20"]]
    assert cells_of(tables.accuracy(study, rows, "_at_threshold"))[1] == [
        ["controlled", "VGG16_V3", "0.30 / –"]
    ]


def test_the_reports_rows_with_one_of_ours_beside_them(study):
    text = tables.beside_the_report(study, made_results())
    before, table, after = text.split("\n\n")
    header, rows = cells_of(table)
    assert header[:3] == ["detector", "tested on", "accuracy"] and len(rows) == 4
    assert rows[0][:3] == ["VGG16_V3", "inpainting", "95.8 / 51.0"] and rows[0][-1].startswith(
        "⚠ F1 94.73"
    )
    assert before.endswith("Ours are of simulated pictures, so that only the form compares.")
    assert after == "8 of the report's 18 rows contradict their own precision and recall."
    for others in (
        made_results(train_set="insight"),
        made_results().query("protocol == 'controlled'"),
        made_results().iloc[:0],
    ):
        assert tables.beside_the_report(study, others).startswith(
            "None of the report's rows has one of ours"
        )


def test_every_table_of_no_rows_is_empty(study):
    assert len(tables.TABLES) == 12
    assert all(table(study, made_results().iloc[:0]) == "" for table, _ in tables.TABLES.values())
