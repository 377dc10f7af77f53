from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
from made_charts import made_figures, texts
from matplotlib.figure import Figure
from PIL import Image

from src.report import style


@pytest.fixture(scope="module")
def figures():
    before = dict(plt.rcParams)
    figures = made_figures()
    assert not plt.get_fignums() and dict(plt.rcParams) == before
    return figures


def test_every_chart_is_a_figure_with_its_words(figures):
    for figure, *words in figures:
        assert isinstance(figure, Figure) and set(words) <= set(texts(figure)), words


def test_figures_say_once_and_outside_of_all_else_that_data_are_simulated(
    study, figures, monkeypatch
):
    monkeypatch.setattr(style, "DPI", 50)
    for name, (figure, *_) in enumerate(figures):
        for _ in range(2):  # a cell may be run again
            path = style.save_figure(figure, study, f"03_{name}")
        assert path == study.figures / f"03_{name}.png"
        with Image.open(path) as image:
            assert image.format == "PNG" and round(image.info["dpi"][0]) == 50
        assert texts(figure).count("simulated data") == 1
        [note] = [text for text in figure.texts if text.get_gid() == "simulated"]
        panels = [axis.get_tightbbox() for axis in figure.axes]
        legends = [legend.get_window_extent() for legend in figure.legends]
        assert not any(note.get_window_extent().overlaps(box) for box in panels + legends), name
        assert not any(legend.overlaps(panel) for legend in legends for panel in panels), name
    files = list(study.figures.iterdir())
    assert len(files) == len(figures) and all(file.suffix == ".png" for file in files)


def test_figures_of_real_data_do_not_say_simulated(study):
    figure, _ = style.new_axes([""], 2, 2)
    style.save_figure(figure, replace(study, simulation=None), "06_heat")
    assert "simulated data" not in texts(figure)


def test_names_have_the_same_colour_in_every_figure():
    known = ["real", "inpainting", "text2img", "insight", "gan140k"]
    palette = style.colors([*known, "face_swap", "stylegan", "stylegan"])
    assert palette["insight"] == style.colors(["other", "insight"])["insight"]
    assert len({palette[name] for name in [*known, "face_swap", "stylegan"]}) == 7
    assert palette["real"] == style.LABEL_COLORS["real"]


@pytest.mark.parametrize("number", [7, 40])
def test_any_number_of_names_has_colours_of_its_own(number):
    names = [f"generator {index}" for index in range(number)]
    assert len({style.colors(names)[name] for name in names}) == number
    assert len(set(style.detector_colors(names).values())) == number
