import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from src.report import charts


def _texts(figure):
    """All words on a figure."""
    figure.draw_without_rendering()
    return [
        text.get_text()
        for text in figure.findobj(plt.Text)
        if text.get_text() and text.get_visible()
    ]


def _scored(seed=0):
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [40, 60])
    return labels, np.clip(0.3 * labels + 0.35 + 0.2 * generator.normal(size=100), 0, 1).round(2)


def _history(num_epochs, names=("loss", "accuracy")):
    epochs = np.arange(1, num_epochs + 1)
    values = {column: 1 / epochs for name in names for column in (name, f"val_{name}")}
    return pd.DataFrame({"epoch": epochs, **values})


def test_image_grid_shows_the_pixels_in_order():
    pictures = [np.full((4, 6, 3), value, np.uint8) for value in (0, 100, 200)] + [
        np.full((5, 5), 0.5)
    ]
    figure = charts.image_grid(pictures, list("abcd"), num_columns=3, row_titles=["1", "2"])
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert all(np.array_equal(*pair) for pair in zip(shown, pictures)) and len(figure.axes) == 6
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c", "d", "", ""]
    assert [axis.get_ylabel() for axis in figure.axes[::3]] == ["1", "2"]
    assert figure.axes[3].images[0].get_clim() == (0, 1)
    with pytest.raises(ValueError, match="at least one image"):
        charts.image_grid([])
    with pytest.raises(ValueError, match="each of 4 images, received 2"):
        charts.image_grid(pictures, ["a", "b"])


def test_training_curves_mark_the_epoch_of_least_validation_loss():
    history = _history(5).assign(val_loss=[0.9, 0.5, 0.2, 0.4, 0.6])
    figure = charts.training_curves(
        {"A": history, "B": _history(2, ["loss"])}, reference={"A": _history(5)}
    )
    lines = figure.axes[0].lines
    assert [line.get_linestyle() for line in lines] == ["--", "-", "None", ":"]
    assert lines[2].get_xydata().tolist() == [[3, 0.2]]
    assert [axis.get_visible() for axis in figure.axes] == [True, True, True, False]
    assert "validation, in the report" in _texts(figure) and {"A", "B", "Loss", "epoch"} <= set(
        _texts(figure)
    )
    with pytest.raises(ValueError, match="'loss'"):
        charts.training_curves({"A": pd.DataFrame({"epoch": [1]})})


def test_roc_curves_state_the_area_and_the_numbers_of_images():
    labels, scores = _scored()
    figure = charts.roc_curves(
        {"A": {"insight": (labels, scores), "text2img": (labels[1:], scores[1:])}}
    )
    area = sklearn.metrics.roc_auc_score(labels, scores)
    assert f"insight: {area:.3f}" in _texts(figure) and "39 to 40 reals, 60 fakes a set" in _texts(
        figure
    )
    x, y = figure.axes[0].lines[1].get_xydata().T
    assert sklearn.metrics.auc(x, y) == pytest.approx(area)


def test_confusion_matrices_count_and_share():
    figure = charts.confusion_matrices({"A": ([0, 0, 0, 1], [0.1, 0.5, 0.2, 0.5])})
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells == ["67 %", "2", "33 %", "1", "0 %", "0", "100 %", "1"]
    other = charts.confusion_matrices({"A": ([0, 1], [0.1, 0.5])}, {"A": 0.6})
    assert "A\nthreshold 0.60" in _texts(other)


def test_heat_map_writes_each_value_in_its_cell():
    matrix = pd.DataFrame([[0.9, 0.2], [np.nan, 0.5]], index=["A", "B"], columns=["x", "y"])
    text = matrix.map("±{:.1f}".format)
    figure = charts.heat_map(matrix, text.iloc[::-1], outline=[("B", "x")])
    cells = [item.get_text() for item in figure.axes[0].texts]
    assert cells == ["0.90", "±0.9", "0.20", "±0.2", "–", "", "0.50", "±0.5"]
    assert figure.axes[0].patches[0].get_xy() == (-0.5, 0.5)


def test_scatter_draws_every_point_and_counts_them():
    points, names = np.random.default_rng(0).normal(size=(50, 3)), np.array(["real", "fake"] * 25)
    for function, given, num_axes in (
        (charts.scatter_2d, {"all": points}, 1),
        (charts.scatter_3d, points, 2),
    ):
        figure = function(given, names, shares=[0.5, 0.25, 0.125])
        assert len(figure.axes) == num_axes and {"real (25)", "fake (25)"} <= set(_texts(figure))
        assert any(text.startswith("component 2 (25 %") for text in _texts(figure))
    figure = charts.scatter_2d({"all": points}, names)
    drawn = np.concatenate([piece.get_offsets() for piece in figure.axes[0].collections])
    assert sorted(drawn.tolist()) == sorted(points[:, :2].tolist())
    with pytest.raises(ValueError, match="each of 50 points, received 49"):
        charts.scatter_2d({"all": points}, names[1:])


def test_heat_overlays_show_where_and_which_region_was_altered():
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (3, 8, 10, 3), dtype="uint8")
    heat, signed = random.random((3, 8, 10)), random.normal(size=(3, 8, 10))
    heat[2], boxes = 0, np.array([[0.1, 0.25, 0.6, 0.75], [0, 0, 1, 1], [np.nan] * 4])
    figure = charts.heat_overlays(
        pictures, {"Grad-CAM": heat, "occlusion": signed}, boxes, title="T"
    )
    assert not plt.get_fignums() and {"T", "picture", "Grad-CAM", "occlusion"} <= set(
        _texts(figure)
    )
    axes = np.reshape(figure.axes[:9], (3, 3))
    assert np.array_equal(axes[0, 1].images[0].get_array(), pictures[1])
    for row, values, limits in ((1, heat, (0, 1)), (2, signed, (-1, 1))):
        drawn = axes[row, 0].images[1]
        assert (
            np.allclose(drawn.get_array(), values[0] / np.abs(values[0]).max())
            and drawn.get_clim() == limits
        )
    assert len(axes[1, 2].images) == 1 and [text.get_text() for text in axes[1, 2].texts] == [
        "no heat"
    ]
    frame = axes[2, 0].patches[-1].get_bbox()  # pixel 0 is drawn from -0.5 to 0.5
    assert np.allclose(frame.extents, [0.5, 1.5, 5.5, 5.5])
    scales = [[text.get_text() for text in axis.get_yticklabels()] for axis in figure.axes[9:]]
    assert scales == [["0", "highest"], ["for real", "0", "for fake"]]
    assert (
        charts.heat_overlays(pictures[:1, ..., 0], {"one": heat[:1]}).axes[0].get_title() == ""
    )  # grey pictures
    with pytest.raises(ValueError, match="each of 3 pictures"):
        charts.heat_overlays(pictures, {"Grad-CAM": heat[:2]})


def test_ring_curve_is_a_stair_over_frequency():
    rings = pd.DataFrame(
        {"low": [0, 0.25, 0.5], "high": [0.25, 0.5, 0.7], "auc": [0.8, 0.9, 0.9]}, index=[4, 5, 6]
    )
    rings = rings.assign(drop=[0.1, 0.0, 0.0], ci_low=[0.05, -0.02, 0.0], ci_high=[0.2, 0.02, 0.0])
    figure = charts.ring_curve(rings, "Rings")
    assert not plt.get_fignums()
    band, line = (
        patch.get_data() for patch in figure.axes[0].patches if hasattr(patch, "get_data")
    )
    assert line.values.tolist() == [0.1, 0, 0] and line.edges.tolist() == [0, 0.25, 0.5, 0.7]
    assert band.values.tolist() == [0.2, 0.02, 0] and band.baseline.tolist() == [0.05, -0.02, 0]
    words = {"1/8", "1/4", "corners", "Rings", "cycles per pixel", "95 % interval"}
    assert words | {"drop in AUC (from 0.90)"} <= set(_texts(figure))
    low, high = figure.axes[0].get_ylim()
    assert low < -0.02 and high > 0.2


def _bins():
    """As `comparisons.reliability`: one bin of 3 images and one of 1, in two test sets."""
    rows = [
        {
            "test_set": name,
            "real_source": "wiki",
            "in_domain": name == "inpainting",
            "calibrated": calibrated,
        }
        | {"mean_score": score + 0.1 * calibrated, "share_fake": share, "num_images": num}
        for name in ("inpainting", "insight")
        for calibrated in (False, True)
        for score, share, num in ((0.2, 0.0, 3), (0.8, 1.0, 1))
    ]
    return pd.DataFrame(rows)


def test_reliability_diagrams_place_each_bin_and_state_the_error():
    figure = charts.reliability_diagrams({"A": _bins(), "B": _bins()})
    assert len(figure.axes) == 4 and not plt.get_fignums()
    texts = _texts(figure)
    assert texts.count("ECE 0.20 → 0.25") == 4
    assert {"inpainting (in-domain)", "insight", "A\nshare of fakes"} <= set(texts)
    dots = [
        item
        for item in figure.axes[0].collections
        if len(item.get_offsets()) == 2 and len(item.get_sizes()) == 2
    ]
    places = [[[0.2, 0.0], [0.8, 1.0]], [[0.3, 0.0], [0.9, 1.0]]]
    np.testing.assert_allclose([dot.get_offsets() for dot in dots], places)
    assert dots[0].get_sizes()[0] > dots[0].get_sizes()[1]


def test_false_alarm_bars_are_percent_and_name_every_source():
    table = pd.DataFrame(
        {"split": ["valid", "test", "test"], "real_source": ["wiki", "wiki", "celeba"]}
    )
    table = table.assign(value=[0.1, 0.2, 0.6], ci_low=0.05, ci_high=0.7, num_real=[50, 40, 30])
    figure = charts.false_alarm_bars(
        {"A": table, "B": table.assign(num_real=table["num_real"] - 1)[:2]}
    )
    bars = [[bar.get_width() for bar in container] for container in figure.axes[0].containers]
    np.testing.assert_allclose(bars[0], [20, 60])
    assert bars[1][0] == pytest.approx(20) and np.isnan(bars[1][1])
    words = {"wiki\n(39 to 40 photographs)", "celeba\n(30 photographs)", "on validation", "A", "B"}
    assert words <= set(_texts(figure))


def _rows(values):
    """Rows of `results.csv` of two detectors: metric → value."""
    table = pd.DataFrame({"metric": list(values), "value": list(values.values())})
    table = table.assign(
        ci_low=table["value"] - 0.1, ci_high=table["value"] + 0.1, num_real=30, num_fake=20
    )
    table = table.assign(test_set="inpainting", real_source="wiki")
    return pd.concat([table.assign(model="A"), table.assign(model="B", value=0.5)])


def test_subgroup_dots_name_subgroups_and_count_their_images():
    values = {
        "auc": 0.8,
        "auc@gender:female": 0.7,
        "auc@size:<0.3": 0.9,
        "auc@gender:male": 0.6,
        "ece": 0.1,
    }
    rows = _rows(values)
    figure = charts.subgroup_dots(
        pd.concat([rows, rows[rows["metric"] == "auc"].assign(test_set="insight")])
    )
    axis = figure.axes[0]
    names = ["all", "gender: female", "gender: male", "size < 0.3"]
    assert [text.get_text() for text in axis.get_yticklabels()] == names
    dots = [
        dots.get_offsets()[:, 0].tolist() for dots in axis.collections if dots.get_label() in "AB"
    ]
    assert dots == [[0.8, 0.7, 0.6, 0.9], [0.5] * 4]
    assert [text.get_text() for text in figure.axes[1].texts] == [
        "30 + 20",
        "too few",
        "too few",
        "too few",
    ]


def test_robustness_curves_start_from_clean_pictures():
    values = {
        "auc": 0.9,
        "auc@jpeg:90": 0.8,
        "auc@jpeg:50": 0.6,
        "auc@noise:2": 0.7,
        "auc@gender:male": 0.1,
    }
    rows = _rows(values)
    figure = charts.robustness_curves(rows)
    assert [axis.get_title() for axis in figure.axes] == ["JPEG quality", "noise (σ, grey levels)"]
    first, second = figure.axes
    assert [text.get_text() for text in first.get_xticklabels()] == ["clean", "90", "50"]
    assert first.lines[1].get_ydata().tolist() == [0.9, 0.8, 0.6] and second.lines[
        1
    ].get_ydata().tolist() == [0.9, 0.7]
    colors = {line.get_color() for line in first.lines[1:]}
    assert len(colors) == 2 and first.lines[1].get_color() == second.lines[1].get_color()
    assert (
        charts.robustness_curves(rows.iloc[::-1]).axes[0].lines[2].get_color()
        == first.lines[1].get_color()
    )
    with pytest.raises(ValueError, match="colours for 9 names, received 10"):
        charts.robustness_curves(
            pd.concat([rows.assign(model=str(number)) for number in range(10)])
        )


def test_keys_are_words_or_tuples_of_words():
    key = ("VGG16_V3", "report")
    scored = ([0, 1], [0.1, 0.9])
    figures = {
        "VGG16_V3\nreport": charts.training_curves(
            {key: _history(2)}, reference={key: _history(3)}
        ),
        "VGG16_V3, report\n": charts.roc_curves({key: {"insight": scored}}),
        "VGG16_V3, report\nthreshold 0.40": charts.confusion_matrices({key: scored}, {key: 0.4}),
        "VGG16_V3\nreport\nshare of fakes": charts.reliability_diagrams({key: _bins()}),
    }
    for text, figure in figures.items():
        assert text in _texts(figure)
    assert "validation, in the report" in _texts(figures["VGG16_V3\nreport"])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_one_class_alone_is_drawn():
    scored = ([1, 1, 1], [0.2, 0.6, 0.7])
    cells = [text.get_text() for text in charts.confusion_matrices({"A": scored}).axes[0].texts]
    assert cells == ["–", "", "–", "", "33 %", "1", "67 %", "2"]
    assert "0 reals, 3 fakes a set" in _texts(charts.roc_curves({"A": {"insight": scored}}))


def test_figures_of_the_audit_and_of_spectra():
    random = np.random.default_rng(0)
    interval = {"auc": [0.9, 0.2], "ci_low": [0.8, 0.1], "ci_high": [1.0, 0.3]}
    traits = pd.DataFrame({"trait": ["file_size", "width"], **interval})
    panels = {"report": traits, ("controlled", "again"): traits[::-1]}
    maps = {"report": traits.set_index("trait")[["auc", "ci_low"]]}
    probe = pd.DataFrame({"k": [2, 5], "null_mean": 0.5, "null_high": 0.6, **interval})
    leaks = pd.DataFrame({"kind": "person", "split": ["ours", "theirs"], "test_in_train": [1, 0]})
    files = pd.DataFrame({"width": [9, 8], "height": [5, 8], "luminance_table": [4.0, np.nan]})
    joint = traits.rename(columns={"trait": "generator"})
    errors = pd.DataFrame({"task": list("abab"), "label": "real", "error": [0, 1, 2, 3]})
    means = {("report", label): random.random((8, 8)) for label in ("real", "fake")}
    profiles = {"insight": ("wiki", random.random((5, 9)), random.random((4, 9)))}
    for figure, words in (
        (charts.trait_bars(panels), {"file size", "controlled, again"}),
        (charts.trait_maps(maps), {"file size", "0.90", "0.20"}),
        (charts.shortcut({"as they lie": (files, np.array([0, 1]), joint)}), {"real (1)", "0.90"}),
        (charts.scree(np.array([0.5, 0.3, 0.1])), {"explained by it alone"}),
        (charts.probe_curves({"report": probe}), {"5", "shuffled labels (90 %)"}),
        (charts.leak_bars(leaks), {" 100 %", " 0 %", "ours", "theirs"}),
        (charts.error_histograms(errors), {"a", "b", "real (2)", "fake (0)"}),
        (charts.mean_spectra(means), {"report: fake − real"}),
        (charts.radial_profiles(profiles), {"real: wiki (5)", "insight (4)"}),
    ):
        assert words <= set(_texts(figure)) and not plt.get_fignums()
    low, high = charts.heat([np.zeros((2, 3)), np.full((2, 3), 0.2)])
    assert low.dtype == np.uint8 and low.shape == (2, 3, 3) and high.sum() > 10 * low.sum()
