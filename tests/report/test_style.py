from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

import src.config
from src import config
from src.report import charts, style


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(src.config, "HOME", tmp_path)
    return config.get_study("tiny")


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


def _all_figures():
    picture = np.zeros((8, 8, 3), np.uint8)
    matrix = pd.DataFrame([[0.9, np.nan]], index=["VGG16_V3"], columns=["inpainting", "insight"])
    points, names = (
        np.random.default_rng(0).normal(size=(30, 3)),
        ["real", "inpainting", "other"] * 10,
    )
    return {
        "grid": charts.image_grid([picture], title="One"),
        "curves": charts.training_curves({"A": _history(3)}),
        "roc": charts.roc_curves({"A": {"insight": _scored()}}),
        "confusion": charts.confusion_matrices({"insight": _scored()}),
        "heat": charts.heat_map(matrix),
        "scatter2": charts.scatter_2d({"one": points, "other": points}, names),
        "scatter3": charts.scatter_3d(points, names),
    }


def test_every_function_returns_a_closed_figure_and_leaves_the_style_alone():
    before = dict(plt.rcParams)
    figures = _all_figures()
    assert all(isinstance(figure, Figure) for figure in figures.values())
    assert not plt.get_fignums() and dict(plt.rcParams) == before


def test_saved_figures_say_that_data_are_simulated_once(study):
    for name, figure in _all_figures().items():
        for _ in range(2):  # a cell may be run again
            path = style.save_figure(figure, study, f"03_{name}")
        assert path == study.figures / f"03_{name}.png"
        assert _texts(figure).count("simulated data") == 1
        with Image.open(path) as image:
            assert (
                image.format == "PNG"
                and min(image.size) > 100
                and round(image.info["dpi"][0]) == 150
            )
    assert all(path.suffix == ".png" and path.name[0] != "." for path in study.figures.iterdir())


def test_figures_of_real_data_do_not_say_simulated(study):
    figure = _all_figures()["heat"]
    style.save_figure(figure, replace(study, simulation=None), "06_heat")
    assert "simulated data" not in _texts(figure)


def test_the_note_lies_outside_of_everything_else(study):
    for name, figure in _all_figures().items():
        style.save_figure(figure, study, name)
        figure.draw_without_rendering()
        note = next(
            text for text in figure.texts if text.get_gid() == "simulated"
        ).get_window_extent()
        drawn = [axis.get_tightbbox() for axis in figure.axes] + [
            legend.get_window_extent() for legend in figure.legends
        ]
        assert not any(note.overlaps(box) for box in drawn), name
        for legend in figure.legends:
            assert not any(
                legend.get_window_extent().overlaps(axis.get_tightbbox()) for axis in figure.axes
            ), name


def test_names_have_the_same_colour_in_every_figure():
    assert (
        style.colors(["insight", "real"])["insight"]
        == style.colors(["other", "insight"])["insight"]
    )
    several = style.colors(
        ["real", "inpainting", "text2img", "insight", "gan140k", "face_swap", "stylegan"]
    )
    assert len(set(several.values())) == 7 and several["real"] == style.LABEL_COLORS["real"]
    with pytest.raises(ValueError, match="Draw two figures"):
        style.colors([f"generator {number}" for number in range(7)])
