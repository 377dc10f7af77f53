import numpy as np
import pytest
from made_charts import words

from src.report import data_charts


def test_image_grid_shows_the_pixels_in_order():
    pictures = [np.full((4, 6, 3), value, np.uint8) for value in (0, 100, 200)]
    pictures.append(np.full((5, 5), 0.5))
    figure = data_charts.image_grid(pictures, list("abcd"), num_columns=3, row_titles=["1", "2"])
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert all(np.array_equal(*pair) for pair in zip(shown, pictures)) and len(figure.axes) == 6
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c", "d", "", ""]
    assert [axis.get_ylabel() for axis in figure.axes[::3]] == ["1", "2"]
    assert figure.axes[3].images[0].get_clim() == (0, 1)


def test_reconstructions_have_one_scale_of_errors_and_state_them():
    originals = np.full((2, 4, 4, 3), 51, np.uint8)
    reconstructed = np.full((2, 4, 4, 3), 0.2)
    reconstructed[1, 0, 0] = 0.6
    axes = data_charts.reconstructions(originals, reconstructed, ["a", "b"], title="T").axes
    assert [axis.get_title() for axis in axes[:2]] == ["a", "b"]
    assert [axis.get_xlabel() for axis in axes[4:6]] == ["0.0000", "0.0100"]
    for axis, highest in zip(axes[4:6], (0, 0.4)):
        assert axis.images[0].get_array().max() == pytest.approx(highest, abs=1e-9)
        assert axis.images[0].get_clim() == (0, pytest.approx(0.4))


def test_heat_overlays_show_where_and_which_region_was_altered():
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (3, 8, 10, 3), dtype="uint8")
    heat, signed = random.random((3, 8, 10)), random.normal(size=(3, 8, 10))
    heat[2], boxes = 0, np.array([[0.1, 0.25, 0.6, 0.75], [0, 0, 1, 1], [np.nan] * 4])
    heats = {"Grad-CAM": heat, "occlusion": signed}
    figure = data_charts.heat_overlays(pictures, heats, boxes, title="T")
    axes = np.reshape(figure.axes[:9], (3, 3))
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["picture", "Grad-CAM", "occlusion"]
    assert np.array_equal(axes[0, 1].images[0].get_array(), pictures[1])
    for row, values, limits in ((1, heat, (0, 1)), (2, signed, (-1, 1))):
        drawn = axes[row, 0].images[1]
        np.testing.assert_allclose(drawn.get_array(), values[0] / np.abs(values[0]).max())
        assert drawn.get_clim() == limits
    assert len(axes[1, 2].images) == 1 and words(axes[1, 2].texts) == ["no heat"]
    frame = axes[2, 0].patches[-1].get_bbox()  # pixel 0 is drawn from -0.5 to 0.5
    assert np.allclose(frame.extents, [0.5, 1.5, 5.5, 5.5])
    scales = [words(row[-1].child_axes[0].get_yticklabels()) for row in axes[1:]]
    assert scales == [["0", "highest"], ["for real", "0", "for fake"]]


def test_scatter_draws_every_point_and_counts_them():
    points, names = np.random.default_rng(0).normal(size=(50, 3)), np.array(["real", "fake"] * 25)
    panels, twins = {"all": points[:, :2], "again": points[:, 1:]}, np.repeat(range(25), 2)
    flat = data_charts.scatter_2d(panels, names, shares=[0.5, 0.25], twins=twins)
    assert flat.axes[0].lines[0].get_xydata().tolist() == points[:2, :2].tolist()
    assert len(flat.axes[0].lines) == len(flat.axes[1].lines) == 25
    pairs = data_charts.scatter_pairs(points, names, shares=[0.5, 0.25, 0.125])
    for figure, num_panels in ((flat, 2), (pairs, 3)):
        assert figure.axes[0].get_ylabel() == "component 2 (25 % of the variance)"
        assert len(figure.axes) == num_panels
        shown = set(words(figure.legends[0].get_texts()))
        assert shown == {"real (25)", "fake (25)", "large: mean"}
    assert pairs.axes[2].get_ylabel() == "component 3 (12 % of the variance)"
    assert flat.axes[1].get_ylabel() == "component 2"
    *drawn, real, fake, _ = [piece.get_offsets() for piece in flat.axes[0].collections]
    np.testing.assert_allclose(real, [points[::2, :2].mean(axis=0)])
    np.testing.assert_allclose(fake, [points[1::2, :2].mean(axis=0)])
    drawn = np.concatenate(drawn)
    assert sorted(drawn.tolist()) == sorted(points[:, :2].tolist())
    with pytest.raises(IndexError):
        data_charts.scatter_2d({"all": points[:, :2]}, names[1:])


def test_no_class_is_left_out_of_a_scatter():
    points, names = np.random.default_rng(0).normal(size=(36, 2)), [f"g{n}" for n in range(12)] * 3
    axis = data_charts.scatter_2d({"all": points}, names).axes[0]
    drawn = np.concatenate([piece.get_offsets() for piece in axis.collections[:-13]])
    assert sorted(drawn.tolist()) == sorted(points.tolist())
