"""Figures of the data, as `charts` has them of results: pictures, files, spectra, components."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from ..config import LABELS
from . import style
from .style import FAKE, GREY, REAL, draw_band, legend_below, new_axes, show_picture, styled, words


@styled
def image_grid(images: list, titles=(), *, num_columns, row_titles=(), title="") -> Figure:
    """Pictures in rows, as they are: square pixels, no smoothing.

    Each is `(H, W, 3)` or `(H, W)`, `uint8` or float in `[0, 1]`; sizes may differ. `titles` stand
    above the pictures, `row_titles` left of the rows.
    """
    size = (1.9, 1.9, 0.4 * bool(title) + 0.3 * bool(len(titles)))
    titles = titles if len(titles) else [""] * len(images)
    figure, axes = new_axes(titles, *size, title, num_columns=num_columns)
    for axis, image in zip(axes.flat, map(np.asarray, images)):
        show_picture(axis, image, cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
        axis.title.set(fontsize=11, text=style.wrapped(axis.get_title(), 20))
    for axis, text in zip(axes[:, 0], row_titles):
        axis.set_ylabel(style.wrapped(text, 16))
    return figure


@styled
def reconstructions(originals, reconstructed, titles, *, title) -> Figure:
    """Faces, what the autoencoder makes of them, and where it errs, with the mean squared errors.

    `originals` are `(N, H, W, 3)`, `uint8`, `reconstructed` the same in `[0, 1]`.
    """
    difference = reconstructed - originals / 255
    maps, errors = np.abs(difference).mean(axis=-1), (difference**2).mean(axis=(1, 2, 3))
    rows = {"original": originals, "reconstruction": reconstructed, "error": maps}
    titles = [style.wrapped(text, 12) for text in titles]
    figure, axes = new_axes(titles, 1.6, 1.5, 0.4 + 0.5 * any(titles), title, rows=rows)
    for row, images in zip(axes, rows.values()):
        for axis, image in zip(row, images):
            shown = show_picture(axis, image, cmap="magma", vmin=0, vmax=maps.max())
    for axis, error in zip(axes[2], errors):
        axis.set_xlabel(f"{error:.4f}")
    figure.colorbar(shown, cax=axes[2, -1].inset_axes((1.05, 0, 0.08, 1)), label="mean |error|")
    return figure


@styled
def heat_overlays(pictures: np.ndarray, heats: dict, boxes: np.ndarray, *, title) -> Figure:
    """Pictures in a row; below, for each kind of heat, the same pictures in grey under their heat.

    Args:
        pictures: `(N, H, W, 3)`, `uint8`.
        heats: Name → `(N, H, W)`, drawn relative to the highest magnitude in the same picture;
            with negative values the colours have two sides. A name may be a tuple.
        boxes: `(N, 4)`, the altered region: left, top, right, bottom as fractions; NaN draws none.
    """
    size = (1.75 + 1.5 / len(pictures), 1.75, 0.7)
    figure, axes = new_axes([""] * len(pictures), *size, title, rows=["picture", *heats])
    for axis, picture in zip(axes[0], pictures):
        show_picture(axis, picture)
    for row, heat in zip(axes[1:], heats.values()):
        cmap, lowest, labels = "magma", 0, ["0", "highest"]
        if heat.min() < 0:
            cmap, lowest, labels = "PuOr_r", -1, ["for real", "0", "for fake"]
        for axis, picture, values in zip(row, pictures, heat, strict=True):
            show_picture(axis, picture @ (0.299, 0.587, 0.114), cmap="gray", vmin=0, vmax=255)
            highest = np.abs(values).max()
            if highest > 0:
                axis.imshow(values / highest, cmap=cmap, vmin=lowest, vmax=1, alpha=0.6)
            else:
                center = {"transform": axis.transAxes, "ha": "center", "va": "center"}
                axis.text(0.5, 0.5, "no heat", color="white", **center)
        scale = plt.cm.ScalarMappable(plt.Normalize(lowest, 1), cmap)
        bar = figure.colorbar(scale, cax=row[-1].inset_axes((1.05, 0.05, 0.08, 0.9)))
        bar.set_ticks(range(lowest, 2), labels=labels)
        bar.outline.set_visible(False)
    look = {"fill": False, "edgecolor": "white", "linewidth": 1.8}
    look["path_effects"] = [withStroke(linewidth=3, foreground="black")]
    for column, box in zip(axes.T, boxes, strict=True):
        left, top, right, bottom = box * np.tile(pictures.shape[2:0:-1], 2)
        for axis in column:
            corner = (left - 0.5, top - 0.5)  # pixel 0 is drawn from -0.5 to 0.5
            axis.add_patch(plt.Rectangle(corner, right - left, bottom - top, **look))
    return figure


@styled
def mean_spectra(means: dict[tuple[str, str], np.ndarray], *, title) -> Figure:
    """Mean spectrum of reals, of fakes, and their difference on one scale; a row a protocol.

    `means` gives `(S, S)`, grey levels from 0 to 255, by protocol and label.
    """
    protocols = list(dict.fromkeys(protocol for protocol, _ in means))
    names = ("real", "fake", "fake − real")
    titles = [f"{protocol}: {name}" for protocol in protocols for name in names]
    figure, axes = new_axes(titles, 3.5, 2.75, 0.6, title, num_columns=3)
    limit = max(np.abs(means[name, "fake"] - means[name, "real"]).max() for name in protocols)
    for row, protocol in zip(axes, protocols):
        real, fake = means[protocol, "real"], means[protocol, "fake"]
        looks = [("magma", plt.Normalize(0, 255))] * 2 + [("PuOr_r", plt.Normalize(-limit, limit))]
        for axis, values, look in zip(row, (real, fake, fake - real), looks):
            axis.imshow(values, *look, extent=(-0.5, 0.5, 0.5, -0.5))
            axis.grid(False)
    for column in axes.T[1:]:  # the first two have one scale
        figure.colorbar(column[0].images[0], ax=column, shrink=0.6, label="grey levels")
    plt.setp(axes, xticks=[-0.25, 0, 0.25], yticks=[-0.25, 0, 0.25])
    plt.setp(axes[:, 0], ylabel="cycles per pixel")
    plt.setp(axes[-1], xlabel="cycles per pixel")
    return figure


@styled
def radial_profiles(profiles: dict[str, tuple], *, title) -> Figure:
    """Mean radial profile of every source with its 95 % interval, and each fake minus its reals.

    `profiles` gives, by generator, the dataset of its reals, their profiles and those of the fakes,
    each `(num_pictures, num_radii)` in the spectrum's units.
    """
    titles = ("profile (pictures)", "fake − its own reals")
    figure, [[left, right]] = new_axes(titles, 5.8, 3.9, 1.2, title)
    palette, datasets = style.colors(profiles), {}

    def draw(axis, mean, variance, color, **look):
        frequency, error = np.linspace(0, 0.5, len(mean)), 1.96 * np.sqrt(variance)
        draw_band(axis, frequency, mean, mean - error, mean + error, color=color, **look)

    for (generator, (dataset, reals, fakes)), marker in zip(profiles.items(), cycle(style.MARKERS)):
        real, real_variance = reals.mean(axis=0), reals.var(axis=0) / len(reals)
        fake, fake_variance = fakes.mean(axis=0), fakes.var(axis=0) / len(fakes)
        look = {"marker": marker, "markevery": 0.1, "label": f"{generator} ({len(fakes)})"}
        draw(left, fake, fake_variance, palette[generator], **look)
        draw(right, fake - real, real_variance + fake_variance, palette[generator], **look)
        if dataset not in datasets:
            datasets[dataset] = ("--", ":", "-.")[len(datasets) % 3]
            look = {"linestyle": datasets[dataset], "label": f"real: {dataset} ({len(reals)})"}
            draw(left, real, real_variance, REAL, **look)
    right.axhline(0, color=GREY, linewidth=1)
    for axis, name in ((left, "20·ln|F|, averaged around the centre"), (right, "difference")):
        axis.set(xlabel="cycles per pixel", ylabel=name)
        axis.set_xticks((0, 1 / 8, 1 / 4, 1 / 2), ("0", "1/8", "1/4", "1/2"))
    return legend_below(figure, 6)


@styled
def error_histograms(table: pd.DataFrame, *, title) -> Figure:
    """Percent of the pictures with at most an `error` of reconstruction, by `task` and `label`."""
    tasks = table["task"].unique()
    figure, [axes] = new_axes(tasks, 3.6, 2.9, 0.7, title, sharey=True)
    for axis, task in zip(axes, tasks):
        for label in LABELS:
            own = table["error"][(table["task"] == task) & (table["label"] == label)]
            look = {"color": style.LABEL_COLORS[label], "label": f"{label} ({len(own)})"}
            percent = 100 * np.arange(1, len(own) + 1) / len(own)
            axis.plot(own.sort_values(), percent, drawstyle="steps-post", **look)
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.legend(loc="lower right", fontsize=10)
    plt.setp(axes, xlabel="mean squared error", xlim=(0, table["error"].quantile(0.99)))
    axes[0].set_ylabel("percent with at most this error")
    return figure


@styled
def shortcut(rows: dict[str | tuple, tuple], *, title) -> Figure:
    """Sizes, compression, and the AUC of a classifier on the files' headers; a row a protocol.

    `rows` gives, by name, `width`, `height`, `luminance_table` of the training task's files, their
    labels (fake = 1), and the AUCs of the classifier: `generator`, `auc`, `ci_low`, `ci_high`.
    """
    titles = ("Size of the picture", "Compression", "Real or fake, without a pixel?")
    names = [f"{words(name)}\n\nheight in pixels" for name in rows]
    figure, axes = new_axes(titles, 4.3, 3.1, 0.8, title, rows=names)
    files = pd.concat(traits for traits, *_ in rows.values())
    bins = np.linspace(0, files["luminance_table"].max() * 1.05, 31)
    limits = (0, files[["width", "height"]].max(axis=None) * 1.05)
    looks = {"real": {"s": 14, "alpha": 0.6, "linewidths": 0}}
    looks["fake"] = {"s": 130, "marker": "s", "facecolors": "none", "linewidths": 2}  # hollow
    for (sizes, compression, joint), (traits, labels, auc) in zip(axes, rows.values()):
        for label, look in looks.items():
            own = traits[np.asarray(labels) == LABELS.index(label)]
            color = style.LABEL_COLORS[label]
            look = look | {"label": f"{label} ({len(own)})", "edgecolors": color, "zorder": 3}
            sizes.scatter(own["width"], own["height"], **({"facecolors": color} | look))
            known = own["luminance_table"].dropna()
            look = {"weights": np.full(len(known), 100 / len(own)), "fill": label == "real"}
            compression.hist(known, bins, histtype="step", color=color, linewidth=2, **look)
        sizes.set(xlim=limits, ylim=limits, xlabel="width in pixels")
        compression.set(xlabel="mean of the JPEG luminance table", ylabel="percent of the files")
        auc = auc.set_index("generator")
        style.draw_intervals(joint, {"": auc}, {"": "black"}, value="auc")
        for place, value in enumerate(auc["auc"]):
            joint.text(value, place - 0.15, f"{value:.2f}", ha="center", va="bottom", fontsize=11)
        joint.set(xlim=(0.3, 1.06), xlabel="AUC of a classifier on file headers alone")
    axes[0, 0].legend(loc="upper left", handletextpad=0.1)
    return figure


@styled
def trait_bars(panels: dict, *, title) -> Figure:
    """How well each trait of `audit.trait_table` tells fake from real: bars from 0.5."""
    traits = next(iter(panels.values()))["trait"]  # the order of the first is that of all
    figure, [axes] = new_axes(panels, 5.2, 0.36 * len(traits) + 0.6, 0.8, title, sharey=True)
    for axis, table in zip(axes, panels.values()):
        series = {"": table.set_index("trait").loc[traits].set_axis(traits.str.replace("_", " "))}
        style.draw_intervals(axis, series, {"": FAKE}, value="auc", bars_from=0.5)
        axis.set(xlim=(-0.02, 1.02), xlabel="AUC of the trait alone (0.5: tells nothing)")
    return figure


@styled
def trait_maps(panels: dict, *, title) -> Figure:
    """How well each trait tells each generator's pictures from their reals; 0.5 is white.

    A panel is AUC, traits × generators, of the same traits in any order.
    """
    first = next(iter(panels.values()))
    size = (1.05 * first.shape[1] + 0.4, 0.42 * len(first) + 0.4, 1.4)
    figure, [axes] = new_axes(panels, *size, title, sharey=True)
    for axis, table in zip(axes, panels.values()):
        table = table.loc[first.index].set_axis(first.index.str.replace("_", " "))
        table = table.rename(columns=lambda name: style.wrapped(name, 12))
        style.draw_matrix(axis, table.rename_axis(index=None, columns=None), fontsize=11)
        axis.tick_params(axis="x", rotation=20)
        axis.set_xlabel("AUC (0.5: tells nothing; 0 or 1: all)")
    return figure


@styled
def probe_curves(panels: dict, *, title) -> Figure:
    """AUC of `pca.linear_probe` over the number of components, and the band of chance."""
    figure, [axes] = new_axes(panels, 4.8, 3.4, 0.8, title, sharey=True)
    for axis, table in zip(axes, panels.values()):
        k, mean, high = table["k"], table["null_mean"], table["null_high"]
        look = {"color": GREY, "alpha": 0.3, "linewidth": 0, "label": "shuffled labels (90 %)"}
        axis.fill_between(k, 2 * mean - high, high, **look)
        axis.axhline(0.5, color=GREY, linewidth=1)
        axis.plot(k, table["auc"], "o-", color=FAKE, label="true labels (95 % interval)")
        axis.vlines(k, table["ci_low"], table["ci_high"], FAKE)
        axis.set(xscale="log", xlabel="number of components")
        axis.set_xticks(k, k)
        axis.minorticks_off()
    low, high = axes[0].get_ylim()
    axes[0].set(ylabel="AUC", ylim=(min(0.44, low), max(0.56, high)))
    axes[0].legend(loc="upper left")
    return figure


@styled
def scatter_2d(panels: dict[str, np.ndarray], names, *, shares=(), twins=()) -> Figure:
    """Two components `(N, 2)` of each picture in a panel, coloured by class or generator.

    `names` are `(N,)`, `"real"`, `"fake"` or generators. The components of the first panel explain
    `shares` of the variance; a line joins points of the same of `twins` `(N,)`.
    """
    figure, [axes] = new_axes(panels, 5.8, 5.2)
    for axis, points, known in zip(axes, panels.values(), (shares, *[()] * len(panels))):
        _scatter(axis, points, names, known)
        for twin in np.unique(twins):
            axis.plot(*points[twins == twin].T, color="#bbbbbb", linewidth=0.9, zorder=0)
    return legend_below(figure, 4)


@styled
def scatter_pairs(points: np.ndarray, names, *, shares) -> Figure:
    """Each pair of the first three components of each picture; as `scatter_2d`, points `(N, 3)`."""
    title = f"Three components hold {100 * sum(shares[:3]):.0f} % of the variance"
    figure, [axes] = new_axes([""] * 3, 4.2, 3.8, 0.4, title)
    for axis, pair in zip(axes, ([0, 1], [0, 2], [1, 2])):
        _scatter(axis, points[:, pair], names, shares, pair)
    return legend_below(figure, 4)


def _scatter(axis, points, names, shares, places=(0, 1)) -> None:
    """Draws points in random order, reals as rings and large means, and labels the axes."""
    names = np.asarray(names)
    is_real = {name: name.split(", ")[-1] == "real" for name in set(names.tolist())}
    unique = sorted(is_real, key=lambda name: (not is_real[name], name))
    palette, order = style.colors(unique), np.random.default_rng(0).permutation(len(points))
    size, alpha = (20, 0.75) if len(points) < 1000 else (9, 0.5)
    looks = {}
    for name, marker in zip(unique, cycle(style.MARKERS)):
        face = "none" if is_real[name] else palette[name]
        looks[name] = {"marker": marker, "facecolors": face, "edgecolors": palette[name]}
    # Pieces of every class in turn: one call each would draw the last class over all others.
    for piece in np.array_split(order, min(40, len(order))):
        for name, look in looks.items():
            own = points[piece[names[piece] == name]]
            look = look | {"s": size * (1 + is_real[name]), "alpha": alpha}
            axis.scatter(*own.T, label=f"{name} ({(names == name).sum():,})", **look)
    for name, look in looks.items():
        look |= {"s": 300, "linewidths": 3} if is_real[name] else {"s": 80, "edgecolors": "black"}
        axis.scatter(*points[names == name].mean(axis=0), zorder=3, **look)
    axis.scatter([], [], color=GREY, label="large: mean")
    for side, place in zip((axis.xaxis, axis.yaxis), places):
        share = f" ({100 * shares[place]:.0f} % of the variance)" if len(shares) else ""
        side.set(label_text=f"component {place + 1}{share}", ticks=[])


@styled
def scree(shares: np.ndarray) -> Figure:
    """How much of the variance each component explains, `(num_components,)`, and what is left."""
    title = f"{len(shares)} components explain {100 * shares.sum():.0f} % of the variance"
    figure, [[axis]] = new_axes([""], 7.2, 3.2, 0.6, title)
    places, percent = np.arange(1, len(shares) + 1), 100 * shares
    axis.plot(places, percent, "o-", color="black", markersize=4, label="explained by it alone")
    axis.plot(places, 100 - np.cumsum(percent), color=FAKE, label="not yet explained")
    axis.set(yscale="log", xlabel="component", ylabel="percent of the variance")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.legend()
    return figure


@styled
def leak_bars(leaks: pd.DataFrame) -> Figure:
    """Share of the test pictures whose counterpart was trained on: `leaks.leak_test` by `split`."""
    figure, [[axis]] = new_axes([""], 6.6, 3.2, 0.8, "Test pictures with a counterpart in training")
    kinds = leaks["kind"].replace({"group": "same group", "person": "same person"})
    leaks = leaks.set_index(kinds).assign(value=100 * leaks["test_in_train"].to_numpy())
    series = dict(iter(leaks.groupby("split", sort=False)))
    style.draw_intervals(axis, series, dict(zip(series, (GREY, style.SKY, "black"))), bars_from=0)
    for bars in axis.containers:
        axis.bar_label(bars, fmt=" {:.0f} %")
    axis.set(xlim=(0, 112), xlabel="percent of the test pictures")
    return legend_below(figure)
