"""Figures of what notebook 6 compares, in `plotting`'s style: calibration, false alarms, subgroups, robustness."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from .style import GREY, STYLE, legend_below, new_axes, span

# Tol's "muted" palette for detectors: none of them is the colour of a label or of a generator.
_DETECTOR_COLORS = (
    "#CC6677",
    "#44AA99",
    "#332288",
    "#DDCC77",
    "#88CCEE",
    "#AA4499",
    "#999933",
    "#117733",
    "#882255",
)

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
def reliability_diagrams(panels: Mapping[str, pd.DataFrame], *, title: str = "") -> Figure:
    """Share of fakes among the images with a score around x, before and after the temperature.

    A row for each detector, a column for each test set. A dot is a bin and its area grows with the number of images;
    the expected calibration error (ECE) is the mean length of the lines from the diagonal, weighted by that number.

    Args:
        panels: Detector → bins (`comparisons.reliability`).
        title: Of the figure.
    """
    keys = ["test_set", "real_source"]
    lots = list(
        dict.fromkeys(
            key for bins in panels.values() for key in bins[keys].itertuples(index=False, name=None)
        )
    )
    sets = [test_set for test_set, _ in lots]
    figure, axes = new_axes(len(panels), len(lots), 2.9, 2.75, 0.9, sharex=True, sharey=True)
    looks = {False: ("before temperature", GREY, "none"), True: ("after", "#0072B2", "#0072B2")}
    for row, (detector, bins) in zip(axes, panels.items()):
        for axis, (test_set, source) in zip(row, lots):
            own = bins[(bins["test_set"] == test_set) & (bins["real_source"] == source)]
            axis.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1.5)
            errors = []
            for calibrated, part in own.groupby("calibrated"):
                _, color, face = looks[calibrated]
                share = part["num_images"] / part["num_images"].sum()
                x, y = part["mean_score"], part["share_fake"]
                axis.vlines(x, x, y, color=color, linewidth=1, alpha=0.5)
                axis.scatter(x, y, 12 + 400 * share, face, edgecolors=color, alpha=0.8)
                errors.append(f"{(share * (x - y).abs()).sum():.2f}")
            axis.text(
                0.03,
                0.97,
                "ECE " + " → ".join(errors),
                transform=axis.transAxes,
                va="top",
                fontsize=10,
            )
            axis.set(
                xlim=(-0.04, 1.04),
                ylim=(-0.06, 1.2),
                aspect="equal",
                xticks=[0, 0.5, 1],
                yticks=[0, 0.5, 1],
            )
            if axis in axes[0]:
                home = " (in-domain)" if own["in_domain"].any() else ""
                against = f"\nagainst {source}" if sets.count(test_set) > 1 else ""
                axis.set_title(f"{test_set}{home}{against}")
            if axis in axes[-1]:
                axis.set_xlabel("mean score")
        row[0].set_ylabel(f"{detector}\nshare of fakes")
    handles = [
        Line2D([], [], marker="o", markersize=8, color=color, markerfacecolor=face, label=name)
        for name, color, face in looks.values()
    ]
    legend_below(figure, handles)
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def false_alarm_bars(panels: Mapping[str, pd.DataFrame], *, title: str = "") -> Figure:
    """Share of real photographs called fake, by their source and detector, beside the rate on validation.

    Args:
        panels: Detector → table of `comparisons.false_alarms`.
        title: Of the figure.
    """
    tested = {
        name: table[table["split"] == "test"].set_index("real_source")
        for name, table in panels.items()
    }
    sources = list(dict.fromkeys(source for table in tested.values() for source in table.index))
    figure, axes = new_axes(1, 1, 7.6, len(sources) * (0.28 * len(panels) + 0.35), 1.3)
    axis, height, palette = axes[0, 0], 0.8 / len(panels), _detector_colors(list(panels))
    look = {"color": "black", "path_effects": [withStroke(linewidth=3.6, foreground="white")]}
    for place, (name, table) in enumerate(tested.items()):
        at = np.arange(len(sources)) + (place - (len(panels) - 1) / 2) * height
        table = table.reindex(sources)
        axis.barh(at, 100 * table["value"], height * 0.85, color=palette[name], label=name)
        axis.hlines(at, 100 * table["ci_low"], 100 * table["ci_high"], linewidth=1.6, **look)
        for valid in panels[name].query("split == 'valid'")["value"]:
            axis.vlines(
                [100 * valid] * len(at),
                at - height * 0.45,
                at + height * 0.45,
                linestyle=":",
                **look,
            )
    counts = pd.concat(tested.values()).groupby(level=0)["num_real"].agg(["min", "max"])
    labels = [f"{source}\n({span(counts.loc[source])} photographs)" for source in sources]
    axis.set_yticks(range(len(sources)), labels)
    axis.set(
        xlim=(0, 102),
        xlabel="percent of the real photographs called fake (95 % interval)",
        title=title or None,
    )
    axis.tick_params(axis="y", length=0)
    axis.grid(False, axis="y")
    axis.invert_yaxis()
    handles = [plt.Rectangle((0, 0), 1, 1, color=palette[name], label=name) for name in panels]
    handles.append(Line2D([], [], color="black", linestyle=":", label="on validation"))
    legend_below(figure, handles)
    return figure


@plt.rc_context(STYLE)
def subgroup_dots(rows: pd.DataFrame, *, metric: str = "auc", title: str = "") -> Figure:
    """One metric on all test images and on subgroups of them, with intervals: a panel for each test set.

    Right of each panel stand the numbers of real and fake images (the most that any detector has scored).

    Args:
        rows: Of `results.csv`: `auc` and `auc@…` (`comparisons.subgroups`), of one protocol and seed.
        metric: Name of the metric.
        title: Of the figure.
    """
    rows = rows[(rows["metric"] == metric) | rows["metric"].str.startswith(f"{metric}@")]
    groups = sorted(
        dict.fromkeys(rows["metric"].str.partition("@")[2]), key=lambda name: name.partition(":")[0]
    )
    lots = list(dict.fromkeys(rows[["test_set", "real_source"]].itertuples(index=False, name=None)))
    models, families = (
        list(dict.fromkeys(rows["model"])),
        [name.partition(":")[0] for name in groups],
    )
    places = np.arange(len(groups)) + 0.5 * np.cumsum(
        [0, *(a != b for a, b in zip(families, families[1:]))]
    )
    height = 0.14 * (1 + len(models)) * (places[-1] + 1)
    figure, axes = new_axes(1, len(lots), 3.6, height, 1.6, sharex=True, sharey=True)
    palette, step = _detector_colors(models), 0.7 / len(models)
    for axis, (test_set, source) in zip(axes[0], lots):
        lot = rows[(rows["test_set"] == test_set) & (rows["real_source"] == source)]
        lot = lot.assign(group=lot["metric"].str.partition("@")[2])
        if metric == "auc":
            axis.axvline(0.5, color=GREY, linewidth=1)
        for number, model in enumerate(models):
            own = lot[lot["model"] == model].set_index("group").reindex(groups)
            at = places + (number - (len(models) - 1) / 2) * step
            axis.hlines(at, own["ci_low"], own["ci_high"], color=palette[model])
            axis.plot(own["value"], at, "o", color=palette[model], markersize=6)
        counts = lot.groupby("group")[["num_real", "num_fake"]].max().reindex(groups)
        for at, (real, fake) in zip(places, counts.itertuples(index=False, name=None)):
            shown = "too few" if np.isnan(real) else f"{real:.0f} + {fake:.0f}"
            axis.text(
                1.02,
                at,
                shown,
                transform=axis.get_yaxis_transform(),
                va="center",
                fontsize=10,
                color=GREY,
            )
        axis.set_yticks(places, [_subgroup_name(name) for name in groups])
        axis.tick_params(axis="y", length=0)
        axis.set(
            title=f"{test_set}\nagainst {source}",
            xlabel={"auc": "AUC"}.get(metric, metric.replace("_", " ")),
        )
        axis.grid(False, axis="y")
    axes[0, 0].set_ylim(places[-1] + 0.6, -0.6)
    handles = [Line2D([], [], marker="o", color=palette[model], label=model) for model in models]
    legend_below(figure, handles)
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def robustness_curves(rows: pd.DataFrame, *, title: str = "") -> Figure:
    """AUC over the level of each family of degradations, from clean pictures on the left, with 95 % bands.

    Args:
        rows: Of `results.csv`, of one test set, protocol and seed: `auc` and `auc@jpeg:90`, … of every detector, each
            family from mild to severe.
        title: Of the figure.
    """
    rows = rows[rows["metric"].str.startswith("auc")]
    rows = rows.assign(condition=rows["metric"].str.partition("@")[2])
    rows["family"] = rows["condition"].str.partition(":")[0]
    families = [name for name in _DEGRADED if name in set(rows["family"])]
    models = list(dict.fromkeys(rows["model"]))
    palette, num_columns = _detector_colors(models), min(4, len(families))
    num_rows = -(-len(families) // num_columns)
    figure, axes = new_axes(num_rows, num_columns, 3.3, 2.7, 1.0, sharey=True)
    for axis in axes.ravel()[len(families) :]:
        axis.set_visible(False)
    for axis, family in zip(axes.ravel(), families):
        levels = ["", *dict.fromkeys(rows.loc[rows["family"] == family, "condition"])]
        axis.axhline(0.5, color=GREY, linewidth=1)
        for number, model in enumerate(models):
            own = rows[rows["model"] == model].set_index("condition").reindex(levels)
            at = np.arange(len(levels))
            axis.plot(
                at, own["value"], marker="osD^vP"[number % 6], markersize=5, color=palette[model]
            )
            axis.fill_between(
                at, own["ci_low"], own["ci_high"], color=palette[model], alpha=0.18, lw=0
            )
        axis.set_xticks(
            range(len(levels)),
            ["clean", *(level.partition(":")[2] for level in levels[1:])],
            fontsize=10,
        )
        axis.set(title=_DEGRADED[family], ylim=(min(0.4, rows["ci_low"].min() - 0.02), 1.02))
    for axis in axes[:, 0]:
        axis.set_ylabel("AUC")
    handles = [
        Line2D([], [], color=palette[model], marker="osD^vP"[number % 6], label=model)
        for number, model in enumerate(models)
    ]
    legend_below(figure, handles)
    figure.suptitle(title or None)
    return figure


def _detector_colors(names: Sequence[str]) -> dict[str, str]:
    """A colour for each detector, the same in every figure of the same detectors, in whatever order."""
    if len(set(names)) > len(_DETECTOR_COLORS):
        raise ValueError(
            f"There are colours for {len(_DETECTOR_COLORS)} detectors, received {len(set(names))}."
        )
    return dict(zip(sorted(set(names)), _DETECTOR_COLORS))


def _subgroup_name(name: str) -> str:
    """`"face_size:>=0.36"` → `"face size ≥ 0.36"`; `""` → `"all"`."""
    attribute, _, value = name.replace("_", " ").partition(":")
    if value[:1] not in ("<", ">"):
        return f"{attribute}: {value}" if name else "all"
    return f"{attribute} {value.replace('>=', '≥ ').replace('<', '< ')}"
