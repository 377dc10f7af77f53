"""Figures of results. Each function returns a closed `Figure` and reads no files.

`title` is that of the figure. A key is a word or a tuple of words: `("VGG16_V3", "report")`;
`panels` gives each panel's data by its key.
"""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn import metrics

from ..config import LABELS, PROTOCOLS
from ..evaluation.results import ALL_SEEDS
from . import style, tables
from .style import FAKE, GREY, draw_band, legend_below, new_axes, styled, words

_DEGRADED = {  # family → what its levels are
    "chroma": "colour kept (factor)",
    "brightness": "brightness (factor)",
    "blur": "Gaussian kernel (pixels)",
    "pixelate": "pixelated (block, pixels)",
    "jpeg": "JPEG quality",
    "noise": "noise (σ, grey levels)",
    "downscale": "shrunk and grown (factor)",
}


@styled
def training_curves(histories: dict, *, title="", reference=None, mean_face=None) -> Figure:
    """Loss, on a log axis, and AUC over the epochs; a row for each model, with axes of its own.

    `histories` have `epoch`, `loss`, `val_loss` and perhaps `auc`, `val_auc` by model, `reference`
    the report's of some; `mean_face` is the loss of a network that always answers the mean face.
    """
    names = [name for name in ("loss", "auc") if any(name in table for table in histories.values())]
    titles = ["Loss (log axis)", "AUC"][: len(names)]
    figure, axes = new_axes(titles, 4.2, 2.0, 1.2, title, rows=histories)
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
        if mean_face is not None:
            row[0].axhline(mean_face, color=FAKE, linewidth=1.2, label="the mean face")
        row[0].set_yscale("log")
        row[0].minorticks_off()
        # Decades may all lie outside of a short log axis: these places do not.
        low, high = row[0].get_ylim()
        ticks = {f"{tick:.{2 + (high < 1.1 * low)}g}" for tick in np.geomspace(low, high, 9)[1::3]}
        row[0].set_yticks([*map(float, ticks)], ticks)
        for axis in row[1:]:
            axis.axhline(0.5, color=GREY, linewidth=1, zorder=0)
            axis.set_ylim(min(0.38, axis.get_ylim()[0]), 1.02)
    plt.setp(axes[-1], xlabel="epoch")
    return legend_below(figure, 2 * len(names))


@styled
def roc_curves(panels: dict, *, title="") -> Figure:
    """A curve for each test set, `name → (labels, scores)`, with AUC and numbers of images."""
    titles, num_columns = [f"{words(name)}\n" for name in panels], 2 if len(panels) == 4 else 3
    names = [name for curves in panels.values() for name in curves]
    width, palette = max(3.9, 0.39 * max(map(len, names))), style.colors(names)
    figure, axes = new_axes(titles, width, 5.3, 0, title, num_columns=num_columns)
    for axis, curves in zip(axes.flat, panels.values()):
        axis.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1.5)
        for name, (labels, scores) in curves.items():
            x, y, _ = metrics.roc_curve(labels, scores)
            axis.plot(x, y, color=palette[name], label=f"{name}: {metrics.auc(x, y):.3f}")
        counts = [np.bincount(labels, minlength=2) for labels, _ in curves.values()]
        note = "{} reals, {} fakes a set".format(*map(style.span, zip(*counts)))
        axis.text(0, 1.03, note, transform=axis.transAxes, fontsize=10, color=GREY)
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2}
        axis.legend(title="AUC", handlelength=1.2, **place)
        axis.set(aspect="equal", xlim=(-0.01, 1), ylim=(0, 1.01))
    plt.setp(axes, xlabel="false positive rate (reals called fake)")
    plt.setp(axes[:, 0], ylabel="true positive rate (fakes found)")
    return figure


@styled
def confusion_matrices(panels: dict, thresholds: dict, *, num_columns, title="") -> Figure:
    """Of `(labels, scores)`: how many reals and fakes are called real and fake.

    An image is called fake from the panel's own threshold on.
    """
    titles = [f"{words(name, chr(10))}\nthreshold {thresholds[name]:.2f}" for name in panels]
    figure, axes = new_axes(titles, 2.4, 2.9, 0.4, title, num_columns=num_columns)
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
    plt.setp(axes[:-1], xlabel="")
    return figure


@styled
def auc_dumbbells(auc: pd.DataFrame, *, title, column="protocol", pair=PROTOCOLS) -> Figure:
    """AUC under `report` (○) and under `controlled` (●), in a panel for each test set.

    Baselines stand above the networks; grey networks did not learn in-domain. `auc` are rows
    of `results.csv` in reading order, one for each detector, protocol and test set. `column` and
    the `pair` of its values can replace the protocol.
    """
    auc = auc.assign(network=auc["approach"].isin(tables.NETWORKS))
    firsts = auc.sort_values(["network", "protocol"]).drop_duplicates("model").set_index("model")
    places = np.arange(len(firsts)) + 0.7 * firsts["network"]
    pale = "#b0b0b0"
    colors = np.where(tables.unlearned(auc), pale, "black")
    at = places[auc["model"]].to_numpy() + np.where(auc[column] == pair[0], -0.17, 0.17)
    sets = auc.assign(color=colors, at=at).groupby("test_set", sort=False)
    trained, titles = set(firsts.loc[firsts["network"], "train_set"]), []
    for name, *counts in sets[["num_real", "num_fake", "num_groups"]].max().itertuples():
        name = style.wrapped(name + " (trained on)" * (name in trained), 24)
        titles.append(name + "\n{:,} real + {:,} fake\nin {:,} groups".format(*counts))
    margin = 1.5 + 0.2 * max(text.count("\n") for text in titles)
    figure, [axes] = new_axes(titles, 2.6, 0.34 * len(places), margin, title, sharey=True)
    for axis, (_, rows) in zip(axes, sets):
        axis.axvline(0.5, color=GREY, linewidth=1, label="chance")
        for _, both in rows.groupby("model"):
            axis.plot(both["value"], both["at"], color="#cccccc", linewidth=3)
        axis.hlines(rows["at"], rows["ci_low"], rows["ci_high"], rows["color"], linewidth=1.5)
        faces = rows["color"].where(rows[column] == pair[1], "white")
        axis.scatter(rows["value"], rows["at"], 42, faces, edgecolors=rows["color"], zorder=3)
        axis.set(xlim=(-0.03, 1.03), xticks=(0, 0.5, 1), xlabel="AUC (95 % interval)")
        axis.grid(False, axis="y")
    axes[0].set_yticks(places, places.index)
    axes[0].set_ylim(places.iloc[-1] + 0.7, -0.7)
    looks = dict(zip(pair, ("wk", "kk")))
    looks |= {"did not learn in-domain": (pale, pale)} if pale in colors else {}
    for label, (face, edge) in looks.items():
        axes[0].scatter([], [], 42, face, edgecolors=edge, label=label)
    return legend_below(figure)


@styled
def heat_map(matrix: pd.DataFrame, text=None, *, outline=(), title="") -> Figure:
    """AUC, or other shares, in a matrix: teal above one half, brown below.

    `text`, of the same rows and columns, is a second line in each cell; `outline` names the
    `(row, column)` of cells to frame, for example those of the training set. NaN becomes a dash.
    """
    width = 1.2 + 1.55 * matrix.shape[1] + 0.09 * max(len(words(name)) for name in matrix.index)
    figure, [[axis]] = new_axes([""], width, 1.5 + 0.68 * len(matrix), 0, title)
    style.draw_matrix(axis, matrix, None if text is None else text.reindex_like(matrix))
    for row, column in outline:
        corner = (matrix.columns.get_loc(column) - 0.5, matrix.index.get_loc(row) - 0.5)
        frame = plt.Rectangle(corner, 1, 1, fill=False, linewidth=4, zorder=5, clip_on=False)
        axis.add_patch(frame)
    axis.tick_params(labeltop=True, labelbottom=False)
    axis.xaxis.set_label_position("top")
    return figure


@styled
def ring_curve(rings: pd.DataFrame, *, title) -> Figure:
    """How much AUC falls with one ring of frequencies replaced, by `explain.ring_occlusion`."""
    figure, [[axis]] = new_axes([""], 6.4, 3.6, 0.4, title)
    edges = np.append(rings["low"], rings["high"].iloc[-1])
    axis.axhline(0, color=GREY, linewidth=1)
    for at in (1 / 8, 1 / 4):  # where doublings of the size leave their traces
        axis.axvline(at, color=GREY, linewidth=1, linestyle=":")
        axis.annotate(f"1/{1 / at:.0f}", (at, 1.02), None, ("data", "axes fraction"), ha="center")
    axis.axvspan(0.5, edges[-1], color=GREY, alpha=0.1, linewidth=0, label="corners")
    band = {"fill": True, "alpha": 0.25, "label": "95 % interval"}
    axis.stairs(rings["ci_high"], edges, baseline=rings["ci_low"], color=FAKE, **band)
    axis.stairs(rings["drop"], edges, baseline=None, color=FAKE, lw=2, label="one ring replaced")
    axis.use_sticky_edges = False
    axis.set(xlim=(0, edges[-1]), xlabel="cycles per pixel")
    axis.set_ylim(top=1.25 * max(rings["ci_high"].max(), 0.01))  # the legend is above the bands
    axis.legend(ncols=3, loc="upper center")
    axis.set_ylabel(f"drop in AUC (from {(rings['auc'] + rings['drop']).iloc[0]:.2f})")
    return figure


@styled
def reliability_diagrams(bins: dict, test_sets: dict, *, title) -> Figure:
    """Share of fakes among the pictures with a calibrated score around x; a panel a test set.

    `bins` are tables of `comparisons.reliability` by detector; a dot grows with its pictures.
    `test_sets` gives the source of the photographs of each.
    """
    figure, [axes] = new_axes(test_sets, 3.1, 2.7, 1.7, title, sharey=True)
    palette = style.detector_colors(bins)
    for axis, own in zip(axes, test_sets.items()):
        axis.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1.5, label="share = score")
        counts = []
        for (detector, table), marker in zip(bins.items(), cycle(style.MARKERS)):
            part = table.set_index(["test_set", "real_source"]).loc[[own]].query("calibrated")
            look, counts = {"color": palette[detector]}, [*counts, part["num_images"].sum()]
            dots = {"s": 8 + 300 * part["num_images"] / counts[-1], "marker": marker}
            axis.plot(part["mean_score"], part["share_fake"], linewidth=1, alpha=0.5, **look)
            axis.scatter(part["mean_score"], part["share_fake"], label=detector, **dots, **look)
        where = " (trained on)" if part["in_domain"].all() else ""
        axis.set_title(f"{own[0]}{where}\n{style.span(counts)} pictures")
        axis.set(xlim=(-0.03, 1.03), ylim=(-0.06, 1.06), xlabel="calibrated score")
    axes[0].set_ylabel("share of fakes")
    return legend_below(figure)


@styled
def false_alarm_bars(detectors: dict, *, title) -> Figure:
    """Share of real photographs called fake, by source, with the rate on validation.

    `detectors` gives the table of `comparisons.false_alarms` by name.
    """
    alarms = pd.concat(detectors, names=["model"]).set_index("real_source", append=True)
    tested = alarms[alarms["split"] == "test"]
    counts = tested.groupby("real_source", sort=False)["num_real"].agg(["min", "max"])
    percent, series = 100 * tested[["value", "ci_low", "ci_high"]], {}
    for name in detectors:
        series[name] = percent.loc[name].droplevel(0).reindex(counts.index)
    height = len(counts) * (0.28 * len(detectors) + 0.35)
    figure, [[axis]] = new_axes([""], 7.6, height, 1.3, title)
    style.draw_intervals(axis, series, style.detector_colors(detectors), bars_from=0)
    half = 0.36 / len(detectors)
    for table, bars in zip(detectors.values(), axis.containers):
        at = np.array([bar.get_center()[1] for bar in bars])
        for valid in table.query("split == 'valid'")["value"]:
            x, look = np.full(len(at), 100 * valid), {"label": "on validation", **style.OUTLINED}
            axis.vlines(x, at - half, at + half, linestyle=":", **look)
    labels = [f"{name}\n({style.span(pair)} pictures)" for name, *pair in counts.itertuples()]
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlim=(0, 102), xlabel="percent called fake (95 % interval)")
    return legend_below(figure)


@styled
def subgroup_dots(rows: pd.DataFrame, *, title) -> Figure:
    """AUC on all test images and on subgroups, with the most reals and fakes any detector scored.

    `rows` of `results.csv` are `auc` and `auc@…` of one test set, protocol and seed.
    """
    rows = rows.assign(group=rows["metric"].str.partition("@")[2])
    groups = pd.Series(rows["group"].unique())
    families = groups.str.partition(":")[0].sort_values(kind="stable")
    groups = groups[families.index]
    places = np.arange(len(groups)) + 0.5 * pd.factorize(families)[0]
    by_model = rows.set_index("group").groupby("model", sort=False)
    series = {model: table.reindex(groups) for model, table in by_model}
    titles = ["\nagainst ".join(rows[["test_set", "real_source"]].iloc[0])]
    size = (6.5, 0.14 * (1 + len(series)) * (places[-1] + 1), 1.6)
    figure, [[axis]] = new_axes(titles, *size, title)
    style.draw_intervals(axis, series, style.detector_colors(series), places=places)
    counts = rows.groupby("group")[["num_real", "num_fake"]].max().loc[groups]
    look = {"transform": axis.get_yaxis_transform(), "va": "center", "fontsize": 10, "color": GREY}
    for at, (real, fake) in zip(places, counts.to_numpy()):
        axis.text(1.02, at, f"{real:.0f} real + {fake:.0f} fake", **look)
    written = {"_": " ", ":>=": " ≥ ", ":<": " < ", ":": ": ", "^$": "all"}
    axis.set_yticks(places, groups.replace(written, regex=True))
    axis.set_xlabel("AUC")
    return legend_below(figure)


@styled
def robustness_curves(rows: pd.DataFrame, *, title) -> Figure:
    """AUC over the level of each family of degradations, from clean pictures on the left.

    `rows` of `results.csv` are `auc` and `auc@jpeg:90`, … of one test set, protocol and seed, each
    family from mild to severe.
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
        for model, marker in zip(rows["model"].unique(), cycle(style.MARKERS)):
            own = shown[shown["model"] == model].set_index("level").reindex(levels)
            look = {"color": palette[model], "marker": marker, "markersize": 5, "label": model}
            draw_band(axis, range(len(levels)), own["value"], own["ci_low"], own["ci_high"], **look)
        axis.set_xticks(range(len(levels)), levels, fontsize=10)
    axes[0, 0].set_ylim(min(0.4, rows["ci_low"].min() - 0.02), 1.02)
    plt.setp(axes[:, 0], ylabel="AUC")
    return legend_below(figure)


@styled
def strength_curves(rows: pd.DataFrame, *, title) -> Figure:
    """AUC of `tables.strengths` by strength: a panel for each detector, the others grey."""
    curves = dict(list(rows.groupby("model", sort=False)))
    figure, axes = new_axes(list(curves), 2.8, 2.6, 0.4, title, num_columns=4, sharey=True)
    for axis, model in zip(axes.flat, curves):
        axis.axhline(0.5, color=GREY, linewidth=1)
        for other in curves.values():
            axis.plot(other["strength"], other["value"], color="#d0d0d0", linewidth=1)
        own = curves[model][["strength", "value", "ci_low", "ci_high"]].to_numpy().T
        draw_band(axis, *own, color="black", marker="o", markersize=5)
        axis.set_xlabel("strength of the trace")
    plt.setp(axes[:, 0], ylabel="AUC", ylim=(min(0.3, rows["ci_low"].min() - 0.02), 1.02))
    return figure


@styled
def variety_curve(rows: pd.DataFrame, *, title) -> Figure:
    """AUC of `experiments.variety` by the number of decoders learnt from, on a log axis."""
    figure, [[axis]] = new_axes([""], 6.4, 3.4, 0.4, title)
    bounds = rows[["number", "value", "ci_low", "ci_high"]].to_numpy().T
    axis.axhline(0.5, color=GREY, linewidth=1)
    draw_band(axis, *bounds, color="black", marker="o", markersize=6)
    axis.set_xscale("log", base=2)
    axis.set_xticks(rows["number"], rows["number"])
    axis.set(xlabel="decoders in training", ylabel="AUC on unseen ones", ylim=(0.4, 1.02))
    return figure


@styled
def leak_dumbbells(rows: pd.DataFrame, *, title) -> Figure:
    """Mean AUC over the trainings of `tables.leak_worth`, split by group and by picture."""
    rows, series = rows[rows["seed"] == ALL_SEEDS], {}
    for kind in ("group", "picture"):
        own = rows[rows["model"] == f"Matrix_by_{kind}"].set_index("test_set")
        series[f"split by {kind}"] = own.reindex(rows["test_set"].unique()).rename_axis(None)
    figure, [[axis]] = new_axes([""], 7.0, 0.6 * len(own) + 0.4, 1.2, title)
    style.draw_intervals(axis, series, dict(zip(series, (GREY, "black"))))
    axis.set_xlabel(f"AUC (mean of {rows['num_seeds'].min()} trainings, 95 % interval)")
    return legend_below(figure)
