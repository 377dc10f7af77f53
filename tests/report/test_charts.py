import made_charts as made
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from made_charts import MATRIX, texts, words

from src.report import charts


def test_training_curves_mark_the_epoch_of_least_validation_loss():
    losses = made.history(5).assign(val_loss=[0.9, 0.5, 0.2, 0.4, 0.6])
    both = {"A": losses, "B": made.history(2, ["loss"])}
    figure = charts.training_curves(both, reference={"A": made.history(5)}, mean_face=0.7)
    lines = figure.axes[0].lines
    assert [line.get_linestyle() for line in lines] == ["--", "-", "None", ":", "-"]
    assert set(lines[4].get_ydata()) == {0.7}
    assert lines[2].get_xydata().tolist() == [[3, 0.2]]
    assert [axis.get_visible() for axis in figure.axes] == [True, True, True, False]


def test_roc_curves_state_the_area_and_the_numbers_of_images():
    labels, scores = made.scored()
    curves = {"insight": (labels, scores), "text2img": (labels[1:], scores[1:])}
    figure = charts.roc_curves({"A": curves})
    area = sklearn.metrics.roc_auc_score(labels, scores)
    assert {f"insight: {area:.3f}", "39 to 40 reals, 60 fakes a set"} <= set(texts(figure))
    x, y = figure.axes[0].lines[1].get_xydata().T
    assert sklearn.metrics.auc(x, y) == pytest.approx(area)


@pytest.mark.parametrize(
    "labels, scores, cells",
    [
        ([0, 0, 0, 1], [0.1, 0.5, 0.2, 0.5], ["67 %", "2", "33 %", "1", "0 %", "0", "100 %", "1"]),
        ([1, 1, 1], [0.2, 0.6, 0.7], ["–", "", "–", "", "33 %", "1", "67 %", "2"]),
    ],
)
def test_confusion_matrices_count_and_share(labels, scores, cells):
    figure = charts.confusion_matrices({"A": (labels, scores)}, {"A": 0.5}, num_columns=1)
    assert words(figure.axes[0].texts) == cells


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_the_curve_of_one_class_alone_is_drawn():
    figure = charts.roc_curves({"A": {"insight": ([1, 1, 1], [0.2, 0.6, 0.7])}})
    assert "0 reals, 3 fakes a set" in texts(figure)


def test_auc_dumbbells_join_the_protocols_and_set_baselines_apart():
    first, second = charts.auc_dumbbells(made.both_protocols(), title="").axes
    titles = [axis.get_title() for axis in (first, second)]
    assert titles[0] == "inpainting (trained on)\n30 real + 28 fake\nin 20 groups"
    assert titles[1].startswith("insight\n") and words(first.get_yticklabels()) == ["X", "V"]
    dots = first.collections[1]
    np.testing.assert_allclose(dots.get_offsets().T[0], [0.9, 0.8, 0.5])
    white, black, grey = (1, 1, 1, 1), (0, 0, 0, 1), (0xB0 / 255,) * 3 + (1,)
    np.testing.assert_allclose(dots.get_facecolors(), [white, white, grey])
    np.testing.assert_allclose(dots.get_edgecolors(), [black, black, grey])
    assert [0.8, 0.5] in [list(line.get_xdata()) for line in first.lines]


def test_heat_map_writes_each_value_in_its_cell():
    text = MATRIX.map("±{:.1f}".format)
    figure = charts.heat_map(MATRIX, text.iloc[::-1], outline=[("B", "x")])
    cells = ["0.90", "±0.9", "0.20", "±0.2", "–", "", "0.50", "±0.5"]
    assert words(figure.axes[0].texts) == cells
    assert figure.axes[0].patches[0].get_xy() == (-0.5, 0.5)


def test_ring_curve_is_a_stair_over_frequency():
    [axis] = charts.ring_curve(made.rings(), title="Rings").axes
    band, line = (patch.get_data() for patch in axis.patches if hasattr(patch, "get_data"))
    assert line.values.tolist() == [0.1, 0, 0] and line.edges.tolist() == [0, 0.25, 0.5, 0.7]
    assert band.values.tolist() == [0.2, 0.02, 0] and band.baseline.tolist() == [0.05, -0.02, 0]
    assert axis.get_ylim()[0] < -0.02 and axis.get_ylim()[1] > 0.2


def test_reliability_diagrams_place_each_bin_of_calibrated_scores():
    other = made.bins().query("test_set == 'insight'").assign(real_source="celeba", mean_score=0)
    tested = {"A": made.bins(), "B": pd.concat([made.bins(), other])}
    test_sets = {"inpainting": "wiki", "insight": "wiki"}
    axes = charts.reliability_diagrams(tested, test_sets, title="").axes
    titles = [axis.get_title() for axis in axes]
    assert titles == ["inpainting (trained on)\n4 pictures", "insight\n4 pictures"]
    for axis in axes:
        dots = axis.collections
        np.testing.assert_allclose([dot.get_offsets() for dot in dots], [[[0.3, 0], [0.9, 1]]] * 2)
        assert dots[0].get_sizes()[0] > dots[0].get_sizes()[1]


def test_false_alarm_bars_are_percent_and_name_every_source():
    fewer = made.alarms().assign(num_real=made.alarms()["num_real"] - 1)[:2]
    figure = charts.false_alarm_bars({"A": made.alarms(), "B": fewer}, title="")
    bars = [[bar.get_width() for bar in container] for container in figure.axes[0].containers]
    np.testing.assert_allclose(bars, [[20, 60], [20, np.nan]])
    names = ["wiki\n(39 to 40 pictures)", "celeba\n(30 pictures)"]
    assert words(figure.axes[0].get_yticklabels()) == names


def test_subgroup_dots_name_subgroups_and_count_their_images():
    values = {"gender:female": 0.7, "size:<0.3": 0.9, "gender:male": 0.6, "face_box:>=0.36": 0.5}
    [axis] = charts.subgroup_dots(made.auc_rows(values), title="").axes
    names = ["all", "face box ≥ 0.36", "gender: female", "gender: male", "size < 0.3"]
    assert words(axis.get_yticklabels()) == names and words(axis.texts) == ["30 real + 28 fake"] * 5
    dots = [item for item in axis.collections if item.get_label() in ("A", "B")]
    areas = [item.get_offsets()[:, 0].tolist() for item in dots]
    assert areas == [[0.8, 0.5, 0.7, 0.6, 0.9], [0.5] * 5]


def test_robustness_curves_start_from_clean_pictures():
    rows = made.auc_rows({"jpeg:90": 0.75, "jpeg:50": 0.6, "noise:2": 0.7})
    first, second = charts.robustness_curves(rows, title="").axes
    assert [first.get_title(), second.get_title()] == ["JPEG quality", "noise (σ, grey levels)"]
    assert words(first.get_xticklabels()) == ["clean", "90", "50"]
    assert first.lines[1].get_ydata().tolist() == [0.8, 0.75, 0.6]
    assert second.lines[1].get_ydata().tolist() == [0.8, 0.7]
    one, two = (line.get_color() for line in first.lines[1:])
    assert one != two and second.lines[1].get_color() == one
    turned = charts.robustness_curves(rows.iloc[::-1], title="")
    assert turned.axes[0].lines[2].get_color() == one
