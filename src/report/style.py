"""What all figures share: colours, sizes, `save_figure`, and the plots that `charts` builds on."""

import re
from pathlib import Path
from textwrap import TextWrapper

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke

from ..config import Study
from ..files import write_atomically

styled = plt.style.context(Path(__file__).with_name("figures.mplstyle"))  # decorates what draws
DPI = 150
# Okabe and Ito's palette: people with any kind of colour vision can tell these colours apart.
REAL, FAKE, SKY, GREY = "#0072B2", "#D55E00", "#56B4E9", "#777777"
LABEL_COLORS = {"real": REAL, "fake": FAKE}
_KNOWN_COLORS = LABEL_COLORS | {"inpainting": FAKE, "text2img": "#CC79A7"}
_KNOWN_COLORS |= {"insight": "#222222", "gan140k": "#F0C000"}
_SPARE_COLORS = (SKY, "#882255", "#44AA99", "#AA4499", "#117733", "#999999")
# Tol's "muted" palette for detectors, in an order in which colour-blind readers tell them apart.
_DETECTOR_COLORS = "#44AA99 #332288 #999933 #882255 #CC6677 #DDCC77 #88CCEE #AA4499 #117733".split()
MARKERS = "osD^vP*X"
_SHARES = ListedColormap(plt.get_cmap("BrBG")(np.linspace(0.12, 0.88, 257)))  # no black ends
OUTLINED = {"color": "black", "path_effects": [withStroke(linewidth=3.6, foreground="white")]}


def colors(names) -> dict[str, str]:
    """A colour for each name; labels and known generators have their own, others unused ones."""
    others = [name for name in dict.fromkeys(names) if name not in _KNOWN_COLORS]
    return _KNOWN_COLORS | _paired(others, _SPARE_COLORS)


def detector_colors(names) -> dict:
    """A colour for each detector, the same in every figure of the same detectors."""
    return _paired(sorted(set(names)), _DETECTOR_COLORS)


def _paired(names, palette) -> dict:
    """A colour for each name; of more names than the palette has, along a rainbow."""
    if len(names) > len(palette):
        palette = map(to_hex, plt.get_cmap("turbo")(np.linspace(0.05, 0.95, len(names))))
    return dict(zip(names, palette))


def save_figure(figure: Figure, study: Study, name: str) -> Path:
    """Writes `figures/<study>/<name>.png`, with a note if data are simulated; returns its path.

    The file knows its title, which the summary page takes as the caption.
    """
    if study.simulated and not any(text.get_gid() == "simulated" for text in figure.texts):
        note = figure.text(1, -0.005, "simulated data", ha="right", va="top", gid="simulated")
        note.set(fontsize=9, color=GREY, style="italic", in_layout=True)
    look = {"dpi": DPI, "bbox_inches": "tight", "pad_inches": 0.12, "facecolor": "white"}
    titles = figure.get_suptitle() or "; ".join(axis.get_title() for axis in figure.axes[:2])
    look["metadata"] = {"Title": " ".join(titles.split())}
    path = study.figures / f"{name}.png"
    return write_atomically(path, lambda part: figure.savefig(part, format="png", **look))


def words(key, between: str = ", ") -> str:
    """A key as text: `"A"` → `"A"`, `("A", "report")` → `"A, report"`."""
    return between.join(map(str, key)) if isinstance(key, tuple) else str(key)


def wrapped(name: str, width: int) -> str:
    r"""A text in lines of at most `width` characters, broken at joints such as "_" where possible.

    Example:
    >>> wrapped("stylegan&latent_diffusion", 12)
    'stylegan&\nlatent_\ndiffusion'
    """
    wrapper = TextWrapper(width)
    wrapper.wordsep_re = re.compile("(?<=[&+/_ -])")
    return "\n".join(map(wrapper.fill, name.split("\n")))


def span(counts: list[int]) -> str:
    """`"30"`, or `"20 to 30"`."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def new_axes(
    titles, width, height, margin=0.0, title="", *, num_columns=None, rows=(), sharey=False
) -> tuple[Figure, np.ndarray]:
    """A closed figure and its axes `(num_rows, num_columns)`; by default all stand in one row.

    Each panel has one of `titles`; with names of `rows`, only the panels of the first row have. A
    panel is `width` by `height` inches; `margin` is for titles and a legend.
    """
    num_columns = min(num_columns or len(titles), len(titles))
    shape = (len(rows) or -(-len(titles) // num_columns), num_columns)
    size = (width * shape[1], height * shape[0] + margin)
    figure, axes = plt.subplots(*shape, figsize=size, squeeze=False, sharey=sharey)
    plt.close(figure)  # else notebooks would show it twice
    for axis, name in zip(axes.flat, titles):
        axis.set_title(words(name))
    for axis, name in zip(axes[:, 0], rows):
        axis.set_ylabel(wrapped(words(name, "\n"), 16))
    for axis in () if len(rows) else axes.flat[len(titles) :]:
        axis.set_visible(False)
    figure.suptitle(title or None)
    return figure, axes


def legend_below(figure: Figure, num_columns: int = 8) -> Figure:
    """Adds a legend of all labels, in a strip below the axes that is kept free of them."""
    shown = {}
    for axis in figure.axes:
        handles, labels = axis.get_legend_handles_labels()
        shown |= dict(zip(labels, handles))
    num_columns = min(num_columns, len(shown))
    # Matplotlib has "outside" legends, but cropping at saving would move them.
    strip = (0.12 + 0.24 * -(-len(shown) // num_columns)) / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, strip, 1, 1 - strip))
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 0}
    legend = figure.legend(shown.values(), shown, ncols=num_columns, **place)
    for handle in legend.legend_handles:
        handle.set_alpha(1)
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([60])
    return figure


def remove_frame(axis) -> None:
    """Leaves the labels of the axes, without ticks, grid and frame."""
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)


def show_picture(axis, picture, **look) -> AxesImage:
    """Draws a picture without ticks and frame."""
    axis.set(xticks=[], yticks=[])
    remove_frame(axis)
    return axis.imshow(picture, **look)


def draw_matrix(
    axis, matrix: pd.DataFrame, below=None, *, text="{:.2f}", cmap=_SHARES, highest=1, fontsize=14
) -> AxesImage:
    """An annotated heat map of values from 0 to `highest`, NaN as a dash on white.

    `text` is how a value is written, `below` a second line for each cell, of the same shape. By
    default colours are teal above the middle, brown below it.
    """
    values, shades = matrix.to_numpy(float), plt.get_cmap(cmap).with_extremes(bad="white")
    image = axis.imshow(values, cmap=shades, vmin=0, vmax=highest, aspect="auto")
    lightness = image.to_rgba(values)[..., :3] @ (0.299, 0.587, 0.114)
    for (row, column), value in np.ndenumerate(values):
        look = {"ha": "center", "color": "white" if lightness[row, column] < 0.5 else "black"}
        written = "–" if np.isnan(value) else text.format(value)
        second = "" if below is None or np.isnan(value) else below.iloc[row, column]
        va = "bottom" if second else "center"
        axis.text(column, row, written, va=va, fontsize=fontsize, **look)
        axis.text(column, row + 0.06, second, va="top", fontsize=10, **look)
    axis.set_xticks(range(matrix.shape[1]), map(words, matrix.columns))
    axis.set_yticks(range(len(matrix)), map(words, matrix.index))
    axis.set(xlabel=matrix.columns.name, ylabel=matrix.index.name)
    remove_frame(axis)
    for draw_line, num_cells in ((axis.axhline, len(matrix)), (axis.axvline, matrix.shape[1])):
        for edge in np.arange(1, num_cells) - 0.5:
            draw_line(edge, color="white", linewidth=3)
    return image


def draw_intervals(
    axis, series: dict, palette: dict, *, value="value", bars_from=None, places=None
) -> None:
    """Values with intervals: a row for each label of the index, in it a dot or bar for each series.

    Args:
        series: Name → table with `value` and, where known, `ci_low` and `ci_high`; all have the
            same index. NaN draws nothing.
        palette: Name → colour, or a colour for each row.
        bars_from: Where bars start; without it dots are drawn.
        places: Height of each row, from the top down; by default 0, 1, 2, …
    """
    labels = next(iter(series.values())).index
    places = np.arange(len(labels)) if places is None else places
    step = 0.8 / len(series)
    for number, (name, table) in enumerate(series.items()):
        at = places + (number - (len(series) - 1) / 2) * step
        shown = {"color": palette[name], "label": words(name)}
        if bars_from is None:
            axis.scatter(table[value], at, s=45, marker=MARKERS[number % 8], zorder=3, **shown)
        else:
            axis.barh(at, table[value] - bars_from, 0.85 * step, left=bars_from, **shown)
        if "ci_low" in table:
            look = {"color": palette[name]} if bars_from is None else OUTLINED
            axis.hlines(at, table["ci_low"], table["ci_high"], linewidth=1.8, **look)
    if bars_from != 0:  # a share; else an AUC, with chance at 0.5
        axis.axvline(0.5, color=GREY, linewidth=1)
    axis.set_yticks(places, map(words, labels))
    axis.set_ylim(places[-1] + 0.6, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(False, axis="y")


def draw_band(axis, x, values, low, high, *, color: str, **look) -> None:
    """A line with the band of its interval."""
    axis.plot(x, values, color=color, **look)
    axis.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
