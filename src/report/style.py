"""One style for all figures, `save_figure`, and the figures that several notebooks draw.

Every function returns a closed `Figure` (a notebook shows it by naming it) and reads no files. `save_figure` writes
`figures/<study>/<name>.png` and says on it when the data are simulated.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.metrics import roc_curve

from ..config import LABELS, Study
from ..evaluation.metrics import compute
from ..files import write_atomically

STYLE = {
    "figure.dpi": 80,  # in a notebook; files have DPI
    "figure.constrained_layout.use": True,
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.labelsize": 12,
    "figure.titlesize": 15,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "lines.linewidth": 2,
    "image.interpolation": "nearest",
}
DPI = 150
# Okabe and Ito's palette, which people with any kind of colour vision can tell apart.
LABEL_COLORS = {"real": "#0072B2", "fake": "#D55E00"}
GENERATOR_COLORS = {
    "real": LABEL_COLORS["real"],
    "inpainting": LABEL_COLORS["fake"],
    "text2img": "#CC79A7",
    "insight": "#009E73",
    "gan140k": "#E69F00",
}
_SPARE_COLORS = ("#56B4E9", "#999999", "#882255", "#44AA99", "#AA4499", "#117733")
_MARKERS = "osD^vP*X"
GREY = "#777777"


def colors(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name: reals, fakes and known generators always have theirs, the others take spare ones.

    Example:
        >>> colors(["fake", "real"])
        {'fake': '#D55E00', 'real': '#0072B2'}
    """
    fixed = LABEL_COLORS | GENERATOR_COLORS
    others = list(dict.fromkeys(name for name in names if name not in fixed))
    if len(others) > len(_SPARE_COLORS):
        raise ValueError(
            f"There are colours for {len(_SPARE_COLORS)} more names, received {others}. Draw two figures."
        )
    return {
        name: fixed[name] if name in fixed else _SPARE_COLORS[others.index(name)] for name in names
    }


def save_figure(figure: Figure, study: Study, name: str) -> Path:
    """Writes `figures/<study>/<name>.png`, whole or not at all; "simulated data" stands in its corner if they are.

    Args:
        figure: Any Matplotlib figure.
        study: Whose folder to write to.
        name: Without the ending, for example `"03_training_curves"`.

    Returns:
        The file's path.
    """
    if study.simulated and not any(text.get_gid() == "simulated" for text in figure.texts):
        note = {
            "ha": "right",
            "va": "top",
            "fontsize": 9,
            "color": GREY,
            "style": "italic",
            "gid": "simulated",
        }
        figure.text(1, -0.005, "simulated data", **note).set_in_layout(True)
    path = study.figures / f"{name}.png"
    arguments = {
        "format": "png",
        "dpi": DPI,
        "bbox_inches": "tight",
        "pad_inches": 0.12,
        "facecolor": "white",
    }
    return write_atomically(path, lambda beside: figure.savefig(beside, **arguments))


def new_axes(
    num_rows, num_columns, width, height, margin=0.0, **arguments
) -> tuple[Figure, np.ndarray]:
    """A closed figure and its `(num_rows, num_columns)` axes, each of a size in inches, with a margin for title etc."""
    size = (width * num_columns, height * num_rows + margin)
    figure, axes = plt.subplots(num_rows, num_columns, figsize=size, squeeze=False, **arguments)
    plt.close(figure)  # else notebooks would show it twice
    return figure, axes


def legend_below(figure: Figure, handles: list, num_columns: int | None = None) -> None:
    """A legend below the axes, in a strip kept free of them: cropping at saving moves one that Matplotlib places."""
    num_columns = num_columns or len(handles)
    strip = (0.12 + 0.24 * -(-len(handles) // num_columns)) / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, strip, 1, 1 - strip))
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 0),
        borderaxespad=0,
        ncols=num_columns,
    )


@plt.rc_context(STYLE)
def image_grid(
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    *,
    num_columns: int = 6,
    labels: Sequence[str] | None = None,
    row_titles: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Pictures in rows, as they are: square pixels, no smoothing.

    Args:
        images: Each `(H, W, 3)` or `(H, W)`, `uint8` or float in `[0, 1]`; sizes may differ.
        titles: Above each picture.
        num_columns: Pictures in a row.
        labels: `"real"`, `"fake"` or a generator for each picture: its frame's colour, with a legend.
        row_titles: Left of each row.
        title: Of the figure.
    """
    if not len(images):
        raise ValueError("Expected at least one image, received none.")
    for given in (titles, labels):
        if given is not None and len(given) != len(images):
            raise ValueError(
                f"Expected a title or label for each of {len(images)} images, received {len(given)}."
            )
    num_columns = min(num_columns, len(images))
    num_rows = -(-len(images) // num_columns)
    figure, axes = new_axes(
        num_rows, num_columns, 1.9, 2.05 if titles is not None else 1.85, 0.4 * bool(title)
    )
    palette = colors(labels) if labels is not None else {}
    for place, axis in enumerate(axes.ravel()):
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(place < len(images) and bool(palette))
        if place >= len(images):
            continue
        image = np.asarray(images[place])
        axis.imshow(image, cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
        if titles is not None:
            axis.set_title(titles[place], fontsize=11)
        if palette:
            axis.spines[:].set(color=palette[labels[place]], linewidth=4)
        if row_titles is not None and place % num_columns == 0:
            axis.set_ylabel(row_titles[place // num_columns])
    if len(palette) > 1:
        handles = [
            Line2D([], [], color=color, linewidth=5, label=name) for name, color in palette.items()
        ]
        legend_below(figure, handles)
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def training_curves(
    histories: Mapping[str, pd.DataFrame],
    names: Sequence[str] = ("loss", "accuracy", "auc", "precision", "recall"),
    *,
    reference: Mapping[str, pd.DataFrame] | None = None,
    title: str = "Training",
) -> Figure:
    """Small multiples: a row for each model, a column for each metric; training dashed, validation solid.

    The dot is the kept epoch, that of the least validation loss.

    Args:
        histories: Model → columns `epoch` and, for each name, `<name>` and `val_<name>`; one row an epoch.
        names: Metrics to draw; those that no history has are left out.
        reference: Model → the report's history, whose validation is drawn dotted; models without one are left as they are.
        title: Of the figure.
    """
    names = [name for name in names if any(name in history for history in histories.values())]
    if not names:
        raise ValueError(
            f"Expected a history with a column such as 'loss', received {list(histories)} without."
        )
    figure, axes = new_axes(
        len(histories), len(names), max(2.5, 6 / len(names)), 2.0, 1.2, sharey="col"
    )
    upper = {"auc": "AUC"}
    for row, (model, history) in zip(axes, histories.items(), strict=True):
        best = history["val_loss"].idxmin()
        for axis, name in zip(row, names, strict=True):
            if name not in history:
                axis.set_visible(False)
                continue
            axis.plot(history["epoch"], history[name], "--", color=GREY)
            axis.plot(history["epoch"], history[f"val_{name}"], color="black")
            axis.plot(
                history["epoch"][best],
                history[f"val_{name}"][best],
                "o",
                color="black",
                markersize=7,
            )
            if reference and name in reference.get(model, ()):
                axis.plot(
                    reference[model]["epoch"], reference[model][f"val_{name}"], ":", color="#56B4E9"
                )
            axis.xaxis.get_major_locator().set_params(integer=True)
            if axis in axes[0]:
                axis.set_title(upper.get(name, name.capitalize()))
            if axis in axes[-1]:
                axis.set_xlabel("epoch")
        row[0].set_ylabel(model)
    styles = {
        "training": ("--", GREY, ""),
        "validation": ("-", "black", ""),
        "kept epoch": ("", "black", "o"),
    }
    if reference:
        styles["validation, in the report"] = (":", "#56B4E9", "")
    handles = [
        Line2D([], [], linestyle=line, color=color, marker=marker, label=label)
        for label, (line, color, marker) in styles.items()
    ]
    legend_below(figure, handles)
    figure.suptitle(title)
    return figure


@plt.rc_context(STYLE)
def roc_curves(panels: Mapping[str, Mapping[str, tuple]], *, title: str = "ROC curves") -> Figure:
    """A panel for each detector, in it a curve for each test set, with its AUC and its numbers of images.

    Args:
        panels: Detector → test set → `(labels, scores)`, each `(N,)`.
        title: Of the figure.
    """
    num_columns = 2 if len(panels) == 4 else min(3, len(panels))
    figure, axes = new_axes(-(-len(panels) // num_columns), num_columns, 4.4, 4.5)
    palette = colors(list(dict.fromkeys(name for curves in panels.values() for name in curves)))
    for axis in axes.ravel()[len(panels) :]:
        axis.set_visible(False)
    for axis, (detector, curves) in zip(axes.ravel(), panels.items(), strict=False):
        axis.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1.5)
        for name, (labels, scores) in curves.items():
            area = compute(labels, scores)["auc"]
            false_positives, true_positives, _ = roc_curve(labels, scores)
            axis.plot(
                false_positives, true_positives, color=palette[name], label=f"{name}: {area:.3f}"
            )
        sizes = {
            (int(np.sum(np.asarray(labels) == 0)), int(np.sum(labels)))
            for labels, _ in curves.values()
        }
        real, fake = (span([size[place] for size in sizes]) for place in (0, 1))
        axis.legend(loc="lower right", title="AUC", alignment="left", handlelength=1.2)
        axis.set(title=f"{detector}\n", aspect="equal", xlim=(-0.01, 1), ylim=(0, 1.01))
        axis.text(
            0,
            1.03,
            f"{real} reals, {fake} fakes a set",
            transform=axis.transAxes,
            fontsize=10,
            color=GREY,
        )
        axis.set(
            xlabel="false positive rate (reals called fake)",
            ylabel="true positive rate (fakes found)",
        )
    figure.suptitle(title)
    return figure


def span(counts: Sequence[int]) -> str:
    """`"30"`, or `"20 to 30"`."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


@plt.rc_context(STYLE)
def confusion_matrices(
    panels: Mapping[str, tuple],
    threshold: float | Mapping[str, float] = 0.5,
    *,
    num_columns: int = 4,
    title: str = "",
) -> Figure:
    """Counts and shares of the reals and fakes that are called real and fake.

    Args:
        panels: Name → `(labels, scores)`, each `(N,)`.
        threshold: From which score on an image is called fake; one for all or one for each name.
        num_columns: Panels in a row.
        title: Of the figure.
    """
    num_columns = min(num_columns, len(panels))
    figure, axes = new_axes(-(-len(panels) // num_columns), num_columns, 2.9, 3.1)
    for axis in axes.ravel()[len(panels) :]:
        axis.set_visible(False)
    for axis, (name, (labels, scores)) in zip(axes.ravel(), panels.items(), strict=False):
        limit = threshold[name] if isinstance(threshold, Mapping) else threshold
        called = np.asarray(scores) >= limit
        counts = np.array(
            [
                [np.sum((np.asarray(labels) == row) & (called == column)) for column in (0, 1)]
                for row in (0, 1)
            ]
        )
        shares = counts / counts.sum(axis=1, keepdims=True)
        axis.imshow(shares, cmap="Greys", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if share > 0.55 else "black"
            axis.text(
                column,
                row,
                f"{100 * share:.0f} %",
                ha="center",
                va="bottom",
                color=color,
                fontsize=16,
            )
            axis.text(
                column, row + 0.06, f"{counts[row, column]:,}", ha="center", va="top", color=color
            )
        axis.set(
            title=f"{name}\nthreshold {limit:.2f}", xticks=(0, 1), yticks=(0, 1), xlabel="called"
        )
        axis.set_xticklabels(LABELS)
        axis.set_yticklabels(
            [
                f"{label}\n({count:,})"
                for label, count in zip(LABELS, counts.sum(axis=1), strict=True)
            ]
        )
        axis.tick_params(length=0)
        axis.grid(False)
        axis.spines[:].set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("in truth")
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def heat_map(
    matrix: pd.DataFrame,
    text: pd.DataFrame | None = None,
    *,
    outline: Sequence[tuple] = (),
    label: str = "AUC",
    title: str = "",
) -> Figure:
    """A matrix of values between 0 and 1 around chance, 0.5: teal is better than chance, brown worse.

    Args:
        matrix: Rows × columns, for example detectors × test sets; NaN is left blank.
        text: A second line in each cell, for example the interval; same rows and columns.
        outline: `(row, column)` names of cells to frame, for example those of the training set.
        label: What the values are.
        title: Of the figure.
    """
    size = (
        1.9 + 1.55 * matrix.shape[1] + 0.09 * max(len(str(name)) for name in matrix.index),
        1.5 + 0.68 * len(matrix),
    )
    figure, axes = new_axes(1, 1, *size)
    axis, values = axes[0, 0], matrix.to_numpy(float)
    image = axis.imshow(values, cmap="BrBG", norm=Normalize(0, 1), aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        color = "white" if abs(value - 0.5) > 0.33 else "black"
        shown = "–" if np.isnan(value) else f"{value:.2f}"
        below = (
            ""
            if text is None or np.isnan(value)
            else str(text.loc[matrix.index[row], matrix.columns[column]])
        )
        axis.text(
            column,
            row,
            shown,
            ha="center",
            va="bottom" if below else "center",
            color=color,
            fontsize=14,
        )
        axis.text(column, row + 0.06, below, ha="center", va="top", color=color, fontsize=10)
    for row, column in outline:
        corner = (matrix.columns.get_loc(column) - 0.5, matrix.index.get_loc(row) - 0.5)
        frame = {"fill": False, "linewidth": 4, "edgecolor": "black", "zorder": 5, "clip_on": False}
        axis.add_patch(plt.Rectangle(corner, 1, 1, **frame))
    axis.set_xticks(range(matrix.shape[1]), matrix.columns)
    axis.set_yticks(range(len(matrix)), matrix.index)
    axis.set(xlabel=matrix.columns.name, ylabel=matrix.index.name)
    axis.set_xticks(np.arange(matrix.shape[1] - 1) + 0.5, minor=True)
    axis.set_yticks(np.arange(len(matrix) - 1) + 0.5, minor=True)
    axis.tick_params(which="both", length=0, labeltop=True, labelbottom=False)
    axis.xaxis.set_label_position("top")
    axis.grid(False)
    axis.grid(True, which="minor", color="white", linewidth=4)
    axis.set_axisbelow(False)
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axis, label=label, ticks=(0, 0.25, 0.5, 0.75, 1), aspect=14)
    bar.ax.set_yticklabels(["0", "", "0.5\n(chance)", "", "1"])
    bar.outline.set_visible(False)
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def scatter_2d(
    panels: Mapping[str, np.ndarray],
    names: Sequence[str],
    *,
    shares: Sequence[float] = (),
    title: str = "",
) -> Figure:
    """Two components of each picture, coloured by class or generator, in random order so that none hides another.

    Args:
        panels: Title → points `(N, 2)` or more columns, of which the first two are drawn.
        names: `(N,)`, `"real"`, `"fake"` or generators.
        shares: Of the variance, for each component of the first panel: shown at its axes.
        title: Of the figure.
    """
    figure, axes = new_axes(1, len(panels), 5.8, 5.2)
    for place, (axis, (panel, points)) in enumerate(zip(axes[0], panels.items())):
        _scatter(
            figure,
            axis,
            np.asarray(points)[:, :2],
            names,
            () if place else shares,
            legend=not place,
        )
        axis.set_title(panel)
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def scatter_3d(
    points: np.ndarray, names: Sequence[str], *, shares: Sequence[float] = (), title: str = ""
) -> Figure:
    """Three components of each picture from two sides; as `scatter_2d`, `points` being `(N, 3)` or more."""
    figure, axes = new_axes(1, 2, 5.2, 4.6, subplot_kw={"projection": "3d"})
    for axis, angle in zip(axes[0], (-60, 30), strict=True):
        _scatter(figure, axis, np.asarray(points)[:, :3], names, shares, legend=angle < 0)
        axis.view_init(elev=18, azim=angle)
        axis.set_box_aspect((1, 1, 0.8), zoom=1.0)
        for letter in "xyz":
            getattr(
                axis, f"{letter}axis"
            ).labelpad = -8  # there are no tick labels to keep away from
    figure.suptitle(title or None)
    return figure


def _scatter(figure, axis, points, names, shares, legend=True) -> None:
    """Draws the points and, under the figure, a legend with counts."""
    names = np.asarray(names)
    if len(names) != len(points):
        raise ValueError(
            f"Expected a name for each of {len(points)} points, received {len(names)}."
        )
    unique = sorted(set(names.tolist()), key=lambda name: (name != "real", name))
    palette, order = colors(unique), np.random.default_rng(0).permutation(len(points))
    size, alpha = (22, 0.75) if len(points) < 2000 else (7, 0.5)
    # Pieces of every class in turn: one call each would draw the last class over all others.
    for piece in np.array_split(order, min(40, len(order))):
        for place, name in enumerate(unique):
            chosen = piece[names[piece] == name]
            axis.scatter(
                *points[chosen].T,
                s=size,
                alpha=alpha,
                color=palette[name],
                marker=_MARKERS[place],
                linewidths=0,
            )
    for place, letter in enumerate("xyz"[: points.shape[1]]):
        of_what = " of the variance" if points.shape[1] == 2 else ""  # too long for a cube's edge
        share = f" ({100 * shares[place]:.0f} %{of_what})" if len(shares) > place else ""
        axis.set(**{f"{letter}label": f"component {place + 1}{share}", f"{letter}ticks": []})
    if legend:
        handles = []
        for place, name in enumerate(unique):
            look = {
                "linestyle": "",
                "marker": _MARKERS[place],
                "markersize": 8,
                "color": palette[name],
            }
            handles.append(Line2D([], [], **look, label=f"{name} ({(names == name).sum():,})"))
        legend_below(figure, handles, min(len(handles), 4))
