"""Every figure of the notebooks. Each function returns a closed `Figure` and reads no files.

`title` is that of the figure. A key is a word or a tuple of words: `("VGG16_V3", "report")`.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from sklearn import metrics

from ..config import LABELS
from . import style
from .style import FAKE, GREY, REAL, STYLE, draw_band, legend_below, new_axes, words

Tables = Mapping[str | tuple, pd.DataFrame]

_DEGRADED = {  # family → what its levels are
    "chroma": "colour kept (factor)",
    "brightness": "brightness (factor)",
    "blur": "Gaussian kernel (pixels)",
    "pixelate": "pixelated (block, pixels)",
    "jpeg": "JPEG quality",
    "noise": "noise (σ, grey levels)",
    "downscale": "shrunk and grown (factor)",
}


@plt.rc_context(STYLE)
def image_grid(
    images: Sequence[np.ndarray], titles=(), *, num_columns=6, row_titles=(), title=""
) -> Figure:
    """Pictures in rows, as they are: square pixels, no smoothing.

    Args:
        images: Each `(H, W, 3)` or `(H, W)`, `uint8` or float in `[0, 1]`; sizes may differ.
        titles: Above each picture.
        row_titles: Left of each row.
    """
    if not len(images) or len(titles) not in (0, len(images)):
        received = f"received {len(images)} images and {len(titles)} titles"
        raise ValueError(f"Expected images, with a title for each or none; {received}.")
    size = (1.9, 2.05 if len(titles) else 1.85, 0.4 * bool(title))
    titles = titles if len(titles) else [""] * len(images)
    figure, axes = new_axes(titles, *size, title, num_columns=num_columns)
    for axis, image in zip(axes.flat, map(np.asarray, images)):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
        axis.title.set_fontsize(11)
        axis.set(xticks=[], yticks=[])
        style.remove_frame(axis)
    for axis, text in zip(axes[:, 0], row_titles):
        axis.set_ylabel(text)
    return figure


@plt.rc_context(STYLE)
def training_curves(histories: Tables, *, reference: Tables | None = None, title="") -> Figure:
    """Loss and metrics over the epochs, a row for each model.

    Args:
        histories: Model → columns `epoch`, `loss`, `val_loss` and those of further metrics.
        reference: Model → the report's history; it may lack models.
    """
    names = ("loss", "accuracy", "auc", "precision", "recall")
    names = [name for name in names if any(name in history for history in histories.values())]
    if not names:
        raise ValueError(f"Expected histories with a column 'loss', received {list(histories)}.")
    titles = ["AUC" if name == "auc" else name.capitalize() for name in names]
    size = (max(2.5, 6 / len(names)), 2.0, 1.2)
    figure, axes = new_axes(titles, *size, title, num_rows=len(histories), sharey="col")
    for row, (model, history) in zip(axes, histories.items()):
        kept = history.loc[[history["val_loss"].idxmin()]]
        reported = (reference or {}).get(model, {})
        for axis, name in zip(row, names):
            axis.set_visible(name in history)
            for label, table, column, look, color in (
                ("training", history, name, "--", GREY),
                ("validation", history, f"val_{name}", "-", "black"),
                ("kept epoch", kept, f"val_{name}", "o", "black"),
                ("validation, in the report", reported, f"val_{name}", ":", style.SKY),
            ):
                if column in table:
                    axis.plot(table["epoch"], table[column], look, color=color, label=label)
            axis.xaxis.get_major_locator().set_params(integer=True)
        row[0].set_ylabel(words(model, "\n"))
    plt.setp(axes[-1], xlabel="epoch")
    return legend_below(figure)


@plt.rc_context(STYLE)
def roc_curves(panels: Mapping[str | tuple, Mapping[str, tuple]], *, title="") -> Figure:
    """A panel for each detector, a curve for each test set, with AUC and numbers of images.

    Args:
        panels: Detector → test set → `(labels, scores)`, each `(N,)`.
    """
    titles, num_columns = [f"{words(name)}\n" for name in panels], 2 if len(panels) == 4 else 3
    figure, axes = new_axes(titles, 4.4, 4.5, 0, title, num_columns=num_columns)
    palette = style.colors([name for curves in panels.values() for name in curves])
    for axis, curves in zip(axes.flat, panels.values()):
        axis.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1.5)
        for name, (labels, scores) in curves.items():
            x, y, _ = metrics.roc_curve(labels, scores)
            axis.plot(x, y, color=palette[name], label=f"{name}: {metrics.auc(x, y):.3f}")
        counts = [np.bincount(labels, minlength=2) for labels, _ in curves.values()]
        note = "{} reals, {} fakes a set".format(*map(style.span, zip(*counts)))
        axis.text(0, 1.03, note, transform=axis.transAxes, fontsize=10, color=GREY)
        axis.legend(loc="lower right", title="AUC", alignment="left", handlelength=1.2)
        axis.set(aspect="equal", xlim=(-0.01, 1), ylim=(0, 1.01))
    plt.setp(axes, xlabel="false positive rate (reals called fake)")
    plt.setp(axes, ylabel="true positive rate (fakes found)")
    return figure


@plt.rc_context(STYLE)
def confusion_matrices(
    panels: Mapping[str | tuple, tuple], thresholds: Mapping[str | tuple, float], *, num_columns=5
) -> Figure:
    """Counts and shares of the reals and fakes that are called real and fake.

    Args:
        panels: Name → `(labels, scores)`, each `(N,)`.
        thresholds: Name → the score from which on an image is called fake.
    """
    titles = [f"{words(name)}\nthreshold {thresholds[name]:.2f}" for name in panels]
    figure, axes = new_axes(titles, 2.9, 3.1, num_columns=num_columns)
    for axis, (name, (labels, scores)) in zip(axes.flat, panels.items()):
        called = (np.asarray(scores) >= thresholds[name]).astype(int)
        counts = metrics.confusion_matrix(labels, called, labels=(0, 1))
        truth = [f"{label}\n({count:,})" for label, count in zip(LABELS, counts.sum(axis=1))]
        counts = pd.DataFrame(counts, truth, pd.Index(LABELS, name="called"))
        percent = 100 * counts.div(counts.sum(axis=1), axis=0)
        look = {"text": "{:.0f} %", "cmap": "Greys", "highest": 100, "fontsize": 16}
        style.draw_matrix(axis, percent, counts.map("{:,}".format), **look)
        axis.set_aspect("equal")
    plt.setp(axes[:, 0], ylabel="in truth")
    return figure


@plt.rc_context(STYLE)
def heat_map(matrix: pd.DataFrame, text: pd.DataFrame, *, outline=(), title="") -> Figure:
    """AUC in a matrix: teal is better than chance, brown worse.

    Args:
        matrix: Rows × columns, for example detectors × test sets; NaN is left blank.
        text: A second line in each cell, for example the interval; same rows and columns.
        outline: `(row, column)` names of cells to frame, for example those of the training set.
    """
    width = 1.9 + 1.55 * matrix.shape[1] + 0.09 * max(len(words(name)) for name in matrix.index)
    figure, [[axis]] = new_axes([""], width, 1.5 + 0.68 * len(matrix), 0, title)
    image = style.draw_matrix(axis, matrix, text.reindex_like(matrix))
    for row, column in outline:
        corner = (matrix.columns.get_loc(column) - 0.5, matrix.index.get_loc(row) - 0.5)
        frame = plt.Rectangle(corner, 1, 1, fill=False, linewidth=4, zorder=5, clip_on=False)
        axis.add_patch(frame)
    axis.tick_params(labeltop=True, labelbottom=False)
    axis.xaxis.set_label_position("top")
    bar = figure.colorbar(image, ax=axis, label="AUC", ticks=(0, 0.5, 1), aspect=14)
    bar.ax.set_yticklabels(["0", "0.5\n(chance)", "1"])
    bar.outline.set_visible(False)
    return figure


@plt.rc_context(STYLE)
def scatter_2d(panels: Mapping[str, np.ndarray], names, *, shares=()) -> Figure:
    """Two components of each picture, coloured by class or generator.

    Args:
        panels: Title → points `(N, 2)`.
        names: `(N,)`, `"real"`, `"fake"` or generators.
        shares: Of the variance, for each component of the first panel: shown at its axes.
    """
    figure, [axes] = new_axes(panels, 5.8, 5.2)
    for axis, points, known in zip(axes, panels.values(), (shares, *[()] * len(panels))):
        _scatter(axis, points, names, known)
    return legend_below(figure, 4)


@plt.rc_context(STYLE)
def scatter_3d(points: np.ndarray, names, *, shares) -> Figure:
    """Three components of each picture from two sides; as `scatter_2d`, points `(N, 3)`."""
    figure, [axes] = new_axes(["", ""], 5.2, 4.6, subplot_kw={"projection": "3d"})
    for axis, angle in zip(axes, (-60, 30)):
        _scatter(axis, points[:, :3], names, shares)
        axis.view_init(elev=18, azim=angle)
        axis.set_box_aspect((1, 1, 0.8), zoom=1.0)
        for side in (axis.xaxis, axis.yaxis, axis.zaxis):
            side.labelpad = -8  # there are no tick labels to keep away from
    return legend_below(figure, 4)


def _scatter(axis, points, names, shares) -> None:
    """Draws the points in random order, so that none hides another, and labels the axes."""
    names = np.asarray(names)
    if len(names) != len(points):
        raise ValueError(f"Expected {len(points)} names, one a point, received {len(names)}.")
    unique = sorted(set(names.tolist()), key=lambda name: (name != "real", name))
    palette, order = style.colors(unique), np.random.default_rng(0).permutation(len(points))
    size, alpha = (22, 0.75) if len(points) < 2000 else (7, 0.5)
    # Pieces of every class in turn: one call each would draw the last class over all others.
    for piece in np.array_split(order, min(40, len(order))):
        for name, marker in zip(unique, style.MARKERS):
            look = {"color": palette[name], "label": f"{name} ({(names == name).sum():,})"}
            own = points[piece[names[piece] == name]]
            axis.scatter(*own.T, s=size, alpha=alpha, marker=marker, linewidths=0, **look)
    of_what = " of the variance" if points.shape[1] == 2 else ""  # too long for a cube's edge
    for place, letter in enumerate("xyz"[: points.shape[1]]):
        share = f" ({100 * shares[place]:.0f} %{of_what})" if len(shares) else ""
        axis.set(**{f"{letter}label": f"component {place + 1}{share}", f"{letter}ticks": []})


@plt.rc_context(STYLE)
def trait_bars(panels: Tables, *, title) -> Figure:
    """How well each trait tells fake from real: bars from 0.5, with intervals.

    Args:
        panels: Name → columns `trait`, `auc`, `ci_low`, `ci_high` (`audit.trait_table`). All panels
            list the traits in the order of the first.
    """
    traits = next(iter(panels.values()))["trait"]
    figure, [axes] = new_axes(panels, 5.2, 0.36 * len(traits) + 0.6, 0.8, title, sharey=True)
    for axis, table in zip(axes, panels.values()):
        series = {"": table.set_index("trait").loc[traits].rename(style.spaced)}
        style.draw_intervals(axis, series, {"": FAKE}, value="auc", bars_from=0.5)
        axis.set(xlim=(-0.02, 1.02), xlabel="AUC of the trait alone (0.5: tells nothing)")
    return figure


@plt.rc_context(STYLE)
def trait_maps(panels: Tables, *, title) -> Figure:
    """How well each trait tells each generator's pictures from their reals; 0.5 is white.

    Args:
        panels: Name → AUC, traits × generators; all with the traits of the first, in any order.
    """
    first = next(iter(panels.values()))
    size = (1.15 * first.shape[1] + 0.4, 0.42 * len(first) + 0.4, 2.0)
    figure, [axes] = new_axes(panels, *size, title, sharey=True)
    for axis, table in zip(axes, panels.values()):
        table = table.loc[first.index].rename(style.spaced).rename_axis(index=None, columns=None)
        image = style.draw_matrix(axis, table, fontsize=11)
        axis.tick_params(axis="x", rotation=20)
    figure.colorbar(image, ax=axes, label="AUC (0.5: tells nothing)", aspect=25)
    return figure


@plt.rc_context(STYLE)
def shortcut(rows: Mapping[str | tuple, tuple], *, title) -> Figure:
    """Sizes, compression, and what a classifier makes of the files' headers; a row a protocol.

    Args:
        rows: Name → (traits of the training task's files with `width`, `height`, `luminance_table`;
            their labels, fake = 1; AUC of the classifier: columns `generator`, `auc`, `ci_low`,
            `ci_high`).
    """
    titles = ("Size of the picture", "Compression", "Real or fake, without a pixel?")
    figure, axes = new_axes(titles, 4.3, 3.1, 0.8, title, num_rows=len(rows))
    files = pd.concat(traits for traits, *_ in rows.values())
    bins = np.linspace(0, files["luminance_table"].max() * 1.05, 31)
    limits = (0, files[["width", "height"]].max(axis=None) * 1.05)
    looks = {"fake": {"s": 130, "marker": "s"}, "real": {"s": 14, "alpha": 0.6}}
    for (sizes, compression, joint), (name, (traits, labels, auc)) in zip(axes, rows.items()):
        for label, look in looks.items():
            own = traits[np.asarray(labels) == LABELS.index(label)]
            look = look | {"color": style.LABEL_COLORS[label], "linewidths": 0, "zorder": 3}
            sizes.scatter(own["width"], own["height"], label=f"{label} ({len(own)})", **look)
            _percent_histogram(compression, own["luminance_table"], bins, label)
        sizes.set(xlim=limits, ylim=limits, xlabel="width in pixels")
        sizes.set_ylabel(f"{words(name)}\n\nheight in pixels")
        compression.set(xlabel="mean of the JPEG luminance table", ylabel="percent of the files")
        auc = auc.set_index("generator")
        palette = [style.colors(auc.index)[generator] for generator in auc.index]
        style.draw_intervals(joint, {"": auc}, {"": palette}, value="auc")
        for place, value in enumerate(auc["auc"]):
            joint.text(value, place - 0.15, f"{value:.2f}", ha="center", va="bottom", fontsize=11)
        joint.set(xlim=(0.3, 1.06), xlabel="AUC of a classifier on file headers alone")
    axes[0, 0].legend(loc="upper left", handletextpad=0.1)
    return figure


def _percent_histogram(axis, values, bins, label) -> None:
    """Percent of all values in each bin; NaN is counted but not drawn."""
    known = values.dropna()
    weights = np.full(len(known), 100 / max(len(values), 1))
    look = {"color": style.LABEL_COLORS[label], "alpha": 0.6}
    axis.hist(known, bins, weights=weights, label=f"{label} ({len(values)})", **look)


@plt.rc_context(STYLE)
def scree(shares: np.ndarray) -> Figure:
    """How much of the variance each component explains, `(num_components,)`, and what is left."""
    figure, [[axis]] = new_axes([""], 7.2, 3.2, 0.6, "Scree plot of the joint PCA")
    places, percent = np.arange(1, len(shares) + 1), 100 * shares
    axis.plot(places, percent, "o-", color=REAL, markersize=4, label="explained by it alone")
    axis.plot(places, 100 - np.cumsum(percent), color=FAKE, label="left after all up to it")
    axis.set(yscale="log", xlabel="component", ylabel="percent of the variance")
    axis.legend()
    return figure


@plt.rc_context(STYLE)
def probe_curves(panels: Tables, *, title) -> Figure:
    """AUC of a linear probe over the number of principal components, and the band of chance.

    Args:
        panels: Name → table of `pca.linear_probe`.
    """
    figure, [axes] = new_axes(panels, 4.8, 3.4, 0.8, title, sharey=True)
    for axis, table in zip(axes, panels.values()):
        k, mean, high = table["k"], table["null_mean"], table["null_high"]
        look = {"color": GREY, "alpha": 0.3, "linewidth": 0, "label": "shuffled labels (90 %)"}
        axis.fill_between(k, 2 * mean - high, high, **look)
        axis.axhline(0.5, color=GREY, linewidth=1)
        look = {"color": FAKE, "marker": "o", "label": "true labels (95 % interval)"}
        draw_band(axis, k, table["auc"], table["ci_low"], table["ci_high"], **look)
        axis.set(xscale="log", xlabel="number of components")
        axis.set_xticks(k, k)
        axis.minorticks_off()
    lowest = pd.concat(panels.values())["ci_low"].min()
    axes[0].set(ylabel="AUC", ylim=(min(0.4, lowest), 1.02))
    axes[0].legend(loc="upper left")
    return figure


@plt.rc_context(STYLE)
def leak_bars(leaks: pd.DataFrame) -> Figure:
    """Share of the test pictures whose counterpart was trained on, for each kind of leak and split.

    Args:
        leaks: `leaks.leak_test` of several splits, with the column `split`.
    """
    figure, [[axis]] = new_axes([""], 6.6, 3.2, 0.8, "Test pictures with a counterpart in training")
    leaks = leaks.set_index("kind").assign(value=100 * leaks["test_in_train"].to_numpy())
    series = dict(iter(leaks.groupby("split", sort=False)))
    style.draw_intervals(axis, series, dict(zip(series, (FAKE, REAL, GREY))), bars_from=0)
    for bars in axis.containers:
        axis.bar_label(bars, fmt=" {:.0f} %")
    axis.set(xlim=(0, 112), xlabel="percent of the test pictures")
    return legend_below(figure)


def heat(maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Maps `(H, W)` of values from 0 on as colours `(H, W, 3)` `uint8`, all on one scale."""
    limit, shades = max(values.max() for values in maps), plt.get_cmap("magma")
    return [(shades(values / limit)[..., :3] * 255).astype(np.uint8) for values in maps]


@plt.rc_context(STYLE)
def error_histograms(table: pd.DataFrame, *, title) -> Figure:
    """Distribution of the error of reconstruction, each generator's fakes against their reals.

    Args:
        table: Columns `task`, `label`, `error`; a panel a task.
    """
    tasks = table["task"].unique()
    bins = np.linspace(0, table["error"].quantile(0.99), 25)
    figure, [axes] = new_axes(tasks, 3.6, 2.9, 0.7, title, sharey=True)
    for axis, task in zip(axes, tasks):
        for label in LABELS:
            own = table[(table["task"] == task) & (table["label"] == label)]
            _percent_histogram(axis, own["error"].clip(upper=bins[-1]), bins, label)
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.legend(fontsize=10)
    plt.setp(axes, xlabel="mean squared error")
    axes[0].set_ylabel("percent of the pictures")
    return figure


@plt.rc_context(STYLE)
def mean_spectra(means: Mapping[tuple[str, str], np.ndarray], *, title) -> Figure:
    """Mean spectrum of reals, of fakes, and their difference; a row for each protocol.

    Args:
        means: `(protocol, label)` → `(S, S)`, grey levels from 0 to 255.
    """
    protocols = list(dict.fromkeys(protocol for protocol, _ in means))
    names = ("real", "fake", "fake − real")
    titles = [f"{protocol}: {name}" for protocol in protocols for name in names]
    figure, axes = new_axes(titles, 3.5, 2.75, 0.6, title, num_columns=3)
    for row, protocol in zip(axes, protocols):
        real, fake = means[protocol, "real"], means[protocol, "fake"]
        limit = np.abs(fake - real).max()
        levels, signed = ("magma", 0, 255), ("PuOr_r", -limit, limit)
        for axis, values, look in zip(row, (real, fake, fake - real), (levels, levels, signed)):
            look = dict(zip(("cmap", "vmin", "vmax"), look))
            image = axis.imshow(values, extent=(-0.5, 0.5, 0.5, -0.5), **look)
            axis.set(xticks=[-0.5, 0, 0.5], yticks=[-0.5, 0, 0.5])
            figure.colorbar(image, ax=axis, shrink=0.8, label="grey levels")
    plt.setp(axes[:, 0], ylabel="cycles per pixel")
    plt.setp(axes[-1], xlabel="cycles per pixel")
    return figure


@plt.rc_context(STYLE)
def radial_profiles(profiles: Mapping[str, tuple], *, title) -> Figure:
    """Mean radial profile of every source with its 95 % interval, and each fake minus its reals.

    Args:
        profiles: Generator → (dataset of its reals, profiles of the reals, profiles of the fakes);
            profiles are `(num_pictures, num_radii)` in the spectrum's units.
    """
    titles = ("profile (pictures)", "fake − its own reals")
    figure, [[left, right]] = new_axes(titles, 5.8, 3.9, 0.9, title)
    palette, datasets = style.colors(profiles), {}

    def draw(axis, mean, variance, color, **look):
        frequency, error = np.linspace(0, 0.5, len(mean)), 1.96 * np.sqrt(variance)
        draw_band(axis, frequency, mean, mean - error, mean + error, color=color, **look)

    for generator, (dataset, reals, fakes) in profiles.items():
        real, real_variance = reals.mean(axis=0), reals.var(axis=0) / len(reals)
        fake, fake_variance = fakes.mean(axis=0), fakes.var(axis=0) / len(fakes)
        color = palette[generator]
        draw(left, fake, fake_variance, color, label=f"{generator} ({len(fakes)})")
        draw(right, fake - real, real_variance + fake_variance, color)
        if dataset not in datasets:
            datasets[dataset] = ("--", ":", "-.")[len(datasets) % 3]
            look = {"linestyle": datasets[dataset], "label": f"real: {dataset} ({len(reals)})"}
            draw(left, real, real_variance, REAL, **look)
    right.axhline(0, color=GREY, linewidth=1)
    for at in (1 / 8, 1 / 4):
        left.axvline(at, color=GREY, linewidth=0.8, linestyle=":")
        right.axvline(at, color=GREY, linewidth=0.8, linestyle=":")
    left.set(xlabel="cycles per pixel", ylabel="20·ln|F|, averaged around the centre")
    right.set(xlabel="cycles per pixel", ylabel="difference in 20·ln|F|")
    left.legend(fontsize=9)
    return figure


@plt.rc_context(STYLE)
def heat_overlays(
    pictures: np.ndarray, heats: Mapping[str | tuple, np.ndarray], boxes: np.ndarray, *, title
) -> Figure:
    """Pictures in a row; below, for each kind of heat, the same pictures in grey under their heat.

    Args:
        pictures: `(N, H, W, 3)`, `uint8`.
        heats: Name → `(N, H, W)`, drawn relative to the highest magnitude in the same picture;
            with negative values the colours have two sides.
        boxes: `(N, 4)`, the altered region: left, top, right, bottom as fractions; NaN draws none.
    """
    count, lengths = len(pictures), {len(given) for given in (*heats.values(), boxes)}
    if lengths != {count}:
        raise ValueError(f"Expected heat and boxes of {count} pictures, received {lengths}.")
    size = (1.75 + 1.5 / count, 1.75, 0.7)
    figure, axes = new_axes([""] * count, *size, title, num_rows=1 + len(heats))
    for axis, picture in zip(axes[0], pictures):
        axis.imshow(picture)
    axes[0, 0].set_ylabel("picture")
    for row, (name, heat) in zip(axes[1:], heats.items()):
        cmap, lowest, labels = "magma", 0, ["0", "highest"]
        if heat.min() < 0:
            cmap, lowest, labels = "PuOr_r", -1, ["for real", "0", "for fake"]
        for axis, picture, values in zip(row, pictures, heat):
            axis.imshow(picture @ (0.299, 0.587, 0.114), cmap="gray", vmin=0, vmax=255)
            highest = np.abs(values).max()
            if highest > 0:
                axis.imshow(values / highest, cmap=cmap, vmin=lowest, vmax=1, alpha=0.6)
            else:
                center = {"transform": axis.transAxes, "ha": "center", "va": "center"}
                axis.text(0.5, 0.5, "no heat", color="white", **center)
        row[0].set_ylabel(words(name, "\n"))
        scale = plt.cm.ScalarMappable(plt.Normalize(lowest, 1), cmap)
        bar = figure.colorbar(scale, ax=row, shrink=0.9, aspect=12, pad=0.01)
        bar.set_ticks(range(lowest, 2), labels=labels)
        bar.outline.set_visible(False)
    look = {"fill": False, "edgecolor": "white", "linewidth": 1.8}
    look["path_effects"] = [withStroke(linewidth=3, foreground="black")]
    for column, box in zip(axes.T, boxes):
        left, top, right, bottom = box * np.tile(pictures.shape[2:0:-1], 2)
        for axis in column:
            corner = (left - 0.5, top - 0.5)  # pixel 0 is drawn from -0.5 to 0.5
            axis.add_patch(plt.Rectangle(corner, right - left, bottom - top, **look))
            axis.set(xticks=[], yticks=[])
            style.remove_frame(axis)
    return figure


@plt.rc_context(STYLE)
def ring_curve(rings: pd.DataFrame, *, title) -> Figure:
    """How much AUC falls with one ring of frequencies replaced, over frequency.

    Dotted lines: 1/8 and 1/4 cycles per pixel, where doublings of the size leave their traces.

    Args:
        rings: `explain.ring_occlusion`: columns `low`, `high`, `auc`, `drop`, `ci_low`, `ci_high`.
    """
    figure, [[axis]] = new_axes([""], 6.4, 3.6, 0.4, title)
    edges = np.append(rings["low"], rings["high"].iloc[-1])
    axis.axhline(0, color=GREY, linewidth=1)
    above = {"transform": axis.get_xaxis_transform(), "ha": "center", "va": "bottom"}
    for at, name in ((1 / 8, "1/8"), (1 / 4, "1/4"), ((0.5 + edges[-1]) / 2, "corners")):
        axis.text(at, 1.01, name, color=GREY, **above)
    for at in (1 / 8, 1 / 4):
        axis.axvline(at, color=GREY, linewidth=1, linestyle=":")
    axis.axvspan(0.5, edges[-1], color=GREY, alpha=0.1, linewidth=0)
    band = {"fill": True, "alpha": 0.25, "label": "95 % interval"}
    axis.stairs(rings["ci_high"], edges, baseline=rings["ci_low"], color=FAKE, **band)
    line = {"linewidth": 2, "label": "one ring replaced"}
    axis.stairs(rings["drop"], edges, baseline=None, color=FAKE, **line)
    axis.legend()
    low, high = min(rings["ci_low"].min(), 0), max(rings["ci_high"].max(), 0.01)
    room = 0.06 * (high - low)
    axis.set(xlim=(0, edges[-1]), ylim=(low - room, high + room), xlabel="cycles per pixel")
    axis.set_ylabel(f"drop in AUC (from {(rings['auc'] + rings['drop']).iloc[0]:.2f})")
    return figure


@plt.rc_context(STYLE)
def reliability_diagrams(panels: Tables, *, title) -> Figure:
    """Share of fakes among the images with a score around x, before and after the temperature.

    A row for each detector, a column for each test set. A dot is a bin; its area grows with the
    number of images. The expected calibration error (ECE) is the mean length of the lines from the
    diagonal, weighted by that number.

    Args:
        panels: Detector → bins (`comparisons.reliability`).
    """
    keys, titles = ["test_set", "real_source"], []
    tests = pd.concat(panels.values()).groupby(keys, sort=False)["in_domain"].any()
    sets = [test_set for test_set, _ in tests.index]
    for (test_set, source), in_domain in tests.items():
        against = f"\nagainst {source}" if sets.count(test_set) > 1 else ""
        titles.append(f"{test_set}{' (in-domain)' if in_domain else ''}{against}")
    shared = {"num_rows": len(panels), "sharex": True, "sharey": True}
    figure, axes = new_axes(titles, 2.9, 2.75, 0.9, title, **shared)
    looks = {False: ("before temperature", GREY, "none"), True: ("after", REAL, REAL)}
    for row, (detector, bins) in zip(axes, panels.items()):
        for axis, key in zip(row, tests.index):
            axis.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1.5)
            errors = []
            for calibrated, part in bins[(bins[keys] == key).all(axis=1)].groupby("calibrated"):
                label, color, face = looks[calibrated]
                share = part["num_images"] / part["num_images"].sum()
                x, y = part["mean_score"], part["share_fake"]
                axis.vlines(x, x, y, color=color, linewidth=1, alpha=0.5)
                look = {"facecolors": face, "edgecolors": color, "alpha": 0.8, "label": label}
                axis.scatter(x, y, 12 + 400 * share, **look)
                errors.append(f"{(share * (x - y).abs()).sum():.2f}")
            corner = {"transform": axis.transAxes, "va": "top", "fontsize": 10}
            axis.text(0.03, 0.97, "ECE " + " → ".join(errors), **corner)
        row[0].set_ylabel(words(detector, "\n") + "\nshare of fakes")
    limits = {"xlim": (-0.04, 1.04), "ylim": (-0.06, 1.2), "aspect": "equal"}
    plt.setp(axes, **limits, xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    plt.setp(axes[-1], xlabel="mean score")
    return legend_below(figure)


@plt.rc_context(STYLE)
def false_alarm_bars(panels: Tables, *, title) -> Figure:
    """Share of real photographs called fake, by source and detector, with the rate on validation.

    Args:
        panels: Detector → table of `comparisons.false_alarms`.
    """
    splits = {name: table.set_index(["split", "real_source"]) for name, table in panels.items()}
    tested = {name: table.loc["test"] for name, table in splits.items()}
    counts = pd.concat(tested.values()).groupby(level=0, sort=False)["num_real"].agg(["min", "max"])
    columns = ["value", "ci_low", "ci_high"]
    series = {name: 100 * rows.reindex(counts.index)[columns] for name, rows in tested.items()}
    height = len(counts) * (0.28 * len(panels) + 0.35)
    figure, [[axis]] = new_axes([""], 7.6, height, 1.3, title)
    drawn = style.draw_intervals(axis, series, style.detector_colors(panels), bars_from=0)
    half = 0.36 / len(panels)
    for name, at in drawn.items():
        for valid in splits[name].loc["valid", "value"]:
            x, look = np.full(len(at), 100 * valid), {"label": "on validation", **style.OUTLINED}
            axis.vlines(x, at - half, at + half, linestyle=":", **look)
    labels = [f"{name}\n({style.span(pair)} photographs)" for name, *pair in counts.itertuples()]
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlim=(0, 102), xlabel="percent of the real photographs called fake (95 % interval)")
    return legend_below(figure)


@plt.rc_context(STYLE)
def subgroup_dots(rows: pd.DataFrame, *, title) -> Figure:
    """AUC on all test images and on subgroups of them.

    At the right stand the numbers of real and fake images (the most that any detector has scored).

    Args:
        rows: Of `results.csv`: `auc` and `auc@…` of one test set, protocol and seed.
    """
    rows = rows.assign(group=rows["metric"].str.partition("@")[2])
    groups = pd.Series(rows["group"].unique())
    families = groups.str.partition(":")[0].sort_values(kind="stable")
    groups = groups[families.index]
    places = np.arange(len(groups)) + 0.5 * pd.factorize(families)[0]
    by_model = rows.set_index("group").groupby("model", sort=False)
    series = {model: table.reindex(groups) for model, table in by_model}
    titles = ["\nagainst ".join(rows[["test_set", "real_source"]].iloc[0])]
    size = (3.6, 0.14 * (1 + len(series)) * (places[-1] + 1), 1.6)
    figure, [[axis]] = new_axes(titles, *size, title)
    style.draw_intervals(axis, series, style.detector_colors(series), places=places)
    counts = rows.groupby("group")[["num_real", "num_fake"]].max().loc[groups]
    look = {"transform": axis.get_yaxis_transform(), "va": "center", "fontsize": 10, "color": GREY}
    for at, (real, fake) in zip(places, counts.to_numpy()):
        axis.text(1.02, at, f"{real:.0f} + {fake:.0f}", **look)
    axis.set_yticks(places, map(_subgroup_name, groups))
    axis.set_xlabel("AUC")
    return legend_below(figure)


def _subgroup_name(name: str) -> str:
    """`"face_size:>=0.36"` → `"face size ≥ 0.36"`; `""` → `"all"`."""
    for old, new in (("_", " "), (":>=", " ≥ "), (":<", " < "), (":", ": ")):
        name = name.replace(old, new)
    return name or "all"


@plt.rc_context(STYLE)
def robustness_curves(rows: pd.DataFrame, *, title) -> Figure:
    """AUC over the level of each family of degradations, from clean pictures on the left.

    Args:
        rows: Of `results.csv`, of one test set, protocol and seed: `auc` and `auc@jpeg:90`, … of
            every detector, each family from mild to severe.
    """
    family, _, level = rows["metric"].str.partition("@")[2].str.partition(":").to_numpy().T
    rows = rows.assign(family=family, level=np.where(family == "", "clean", level))
    families = [name for name in _DEGRADED if name in family]
    titles, palette = [_DEGRADED[name] for name in families], style.detector_colors(rows["model"])
    figure, axes = new_axes(titles, 3.3, 2.7, 1.0, title, num_columns=4, sharey=True)
    for axis, name in zip(axes.flat, families):
        shown = rows[rows["family"].isin(["", name])].sort_values("family", kind="stable")
        levels = shown["level"].unique()
        axis.axhline(0.5, color=GREY, linewidth=1)
        for model, marker in zip(rows["model"].unique(), style.MARKERS * 2):
            own = shown[shown["model"] == model].set_index("level").reindex(levels)
            look = {"color": palette[model], "marker": marker, "markersize": 5, "label": model}
            draw_band(axis, range(len(levels)), own["value"], own["ci_low"], own["ci_high"], **look)
        axis.set_xticks(range(len(levels)), levels, fontsize=10)
    axes[0, 0].set_ylim(min(0.4, rows["ci_low"].min() - 0.02), 1.02)
    plt.setp(axes[:, 0], ylabel="AUC")
    return legend_below(figure)
