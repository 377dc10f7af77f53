"""Figures of one notebook each, in `plotting`'s style: audit, spectra, errors, explanations."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..config import LABELS
from .style import GREY, LABEL_COLORS, STYLE, colors, new_axes


@plt.rc_context(STYLE)
def trait_bars(panels: Mapping[str, pd.DataFrame], *, title: str = "") -> Figure:
    """How well each trait tells fake from real: bars from 0.5, with intervals.

    Args:
        panels: Name → table with columns `trait`, `auc`, `ci_low`, `ci_high` (`audit.trait_table`). All panels list
            the traits in the order of the first.
        title: Of the figure.
    """
    names = next(iter(panels.values()))["trait"].tolist()
    figure, axes = new_axes(1, len(panels), 5.2, 0.36 * len(names) + 0.6, 0.8, sharey=True)
    for axis, (panel, table) in zip(axes[0], panels.items()):
        table = table.set_index("trait").loc[names]
        places = np.arange(len(names))
        axis.axvline(0.5, color=GREY, linewidth=1)
        axis.barh(places, table["auc"] - 0.5, left=0.5, color=LABEL_COLORS["fake"], height=0.62)
        axis.hlines(places, table["ci_low"], table["ci_high"], color="black", linewidth=1.6)
        axis.set(
            xlim=(-0.02, 1.02), xlabel="AUC of the trait alone (0.5: tells nothing)", title=panel
        )
        axis.set_yticks(places, [name.replace("_", " ") for name in names])
        axis.tick_params(axis="y", length=0)
    axes[0, 0].invert_yaxis()
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def trait_maps(panels: Mapping[str, pd.DataFrame], *, title: str = "") -> Figure:
    """How well each trait tells each generator's pictures from their reals: one map a panel, 0.5 is white.

    Args:
        panels: Name → AUC, traits × generators. All panels list the traits in the order of the first.
        title: Of the figure.
    """
    first = next(iter(panels.values()))
    figure, axes = new_axes(
        1, len(panels), 1.15 * first.shape[1] + 0.4, 0.42 * len(first) + 0.4, 2.0, sharey=True
    )
    for axis, (panel, table) in zip(axes[0], panels.items()):
        values = table.loc[first.index].to_numpy(float)
        drawn = axis.imshow(values, cmap="BrBG", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            color = "white" if abs(value - 0.5) > 0.33 else "black"
            axis.text(
                column, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=11
            )
        axis.set_xticks(range(table.shape[1]), table.columns, rotation=20)
        axis.set_yticks(range(len(first)), [name.replace("_", " ") for name in first.index])
        axis.tick_params(length=0)
        axis.grid(False)
        axis.set_title(panel)
    figure.colorbar(drawn, ax=axes, label="AUC (0.5: tells nothing)", aspect=25)
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def shortcut(
    rows: Mapping[str, tuple[pd.DataFrame, np.ndarray, pd.DataFrame]], *, title: str = ""
) -> Figure:
    """The shortcut at a glance: sizes, compression, and what a classifier makes of the files; a row a protocol.

    Args:
        rows: Name → (traits of the training task's files with `width`, `height`, `luminance_table`; their labels,
            fake = 1; joint AUC by generator: columns `generator`, `auc`, `ci_low`, `ci_high`).
        title: Of the figure.
    """
    figure, axes = new_axes(len(rows), 3, 4.3, 3.1, 0.8)
    tables = np.concatenate([traits["luminance_table"] for traits, *_ in rows.values()])
    bins = np.linspace(0, np.nanmax(tables) * 1.05, 31)
    limit = max(traits[["width", "height"]].to_numpy().max() for traits, *_ in rows.values()) * 1.05
    for (sizes, compression, joint), (name, (traits, labels, auc)) in zip(axes, rows.items()):
        classes = [
            ("fake", traits[np.asarray(labels) == 1]),
            ("real", traits[np.asarray(labels) == 0]),
        ]
        for (label, of_class), style in zip(
            classes, (dict(s=130, marker="s"), dict(s=14, alpha=0.6))
        ):
            style |= dict(
                color=LABEL_COLORS[label], lw=0, zorder=3, label=f"{label} ({len(of_class)})"
            )
            sizes.scatter(of_class["width"], of_class["height"], **style)
        compression.hist(
            [of_class["luminance_table"].dropna() for _, of_class in classes], bins,
            weights=[np.full(of_class["luminance_table"].notna().sum(), 100 / len(of_class)) for _, of_class in classes],
            color=[LABEL_COLORS[label] for label, _ in classes],
        )  # fmt: skip
        sizes.set(
            xlim=(0, limit),
            ylim=(0, limit),
            xlabel="width in pixels",
            ylabel=f"{name}\n\nheight in pixels",
        )
        compression.set(xlabel="mean of the JPEG luminance table", ylabel="percent of the files")
        places = np.arange(len(auc))
        joint.axvline(0.5, color=GREY, linewidth=1)
        joint.hlines(places, auc["ci_low"], auc["ci_high"], color="black", linewidth=2)
        joint.scatter(
            auc["auc"],
            places,
            s=70,
            color=[colors(list(auc["generator"]))[g] for g in auc["generator"]],
            zorder=3,
        )
        for place, value in zip(places, auc["auc"]):
            joint.annotate(
                f"{value:.2f}",
                (value, place),
                (0, 9),
                textcoords="offset points",
                ha="center",
                fontsize=11,
            )
        joint.set(
            xlim=(0.3, 1.06),
            ylim=(len(auc) - 0.5, -0.7),
            xlabel="AUC of a classifier on file headers alone",
        )
        joint.set_yticks(places, auc["generator"])
    for axis, text in zip(
        axes[0], ("Size of the picture", "Compression", "Real or fake, without a pixel?")
    ):
        axis.set_title(text)
    axes[0, 0].legend(loc="upper left", handletextpad=0.1)
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def scree(shares: np.ndarray, *, title: str = "Scree plot of the joint PCA") -> Figure:
    """How much of the variance each principal component explains, and how much is left after it.

    Args:
        shares: Explained variance ratio, `(num_components,)`.
        title: Of the figure.
    """
    figure, axes = new_axes(1, 1, 7.2, 3.2, 0.6)
    axis, places = axes[0, 0], np.arange(1, len(shares) + 1)
    axis.plot(
        places,
        shares * 100,
        marker="o",
        markersize=4,
        color=LABEL_COLORS["real"],
        label="explained by it alone",
    )
    axis.plot(
        places,
        (1 - np.cumsum(shares)) * 100,
        color=LABEL_COLORS["fake"],
        label="left after all up to it",
    )
    axis.set(yscale="log", xlabel="component", ylabel="percent of the variance", title=title)
    axis.legend()
    return figure


@plt.rc_context(STYLE)
def probe_curves(panels: Mapping[str, pd.DataFrame], *, title: str = "") -> Figure:
    """AUC of a linear probe over the number of principal components, with intervals and the band of chance.

    Args:
        panels: Name → table with columns `k`, `auc`, `ci_low`, `ci_high`, `null_mean`, `null_high`
            (`pca.linear_probe`).
        title: Of the figure.
    """
    figure, axes = new_axes(1, len(panels), 4.8, 3.4, 0.8, sharey=True)
    for axis, (panel, table) in zip(axes[0], panels.items()):
        axis.fill_between(
            table["k"], 2 * table["null_mean"] - table["null_high"], table["null_high"], color=GREY, alpha=0.3, lw=0,
            label="shuffled labels (90 %)",
        )  # fmt: skip
        axis.errorbar(
            table["k"], table["auc"], [table["auc"] - table["ci_low"], table["ci_high"] - table["auc"]],
            marker="o", capsize=3, color=LABEL_COLORS["fake"], label="true labels (95 % interval)",
        )  # fmt: skip
        axis.axhline(0.5, color=GREY, linewidth=1)
        axis.set(
            xscale="log",
            xlabel="number of components",
            title=panel,
            ylim=(min(0.4, table["ci_low"].min()), 1.02),
        )
        axis.set_xticks(table["k"], table["k"])
        axis.minorticks_off()
    axes[0, 0].set_ylabel("AUC")
    axes[0, 0].legend(loc="upper left")
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def leak_bars(
    leaks: pd.DataFrame, *, title: str = "Test pictures with a counterpart in training"
) -> Figure:
    """Share of the test pictures whose counterpart was trained on, for each kind of leak and each split.

    Args:
        leaks: `leaks.leak_test` of several splits, with the column `split`.
        title: Of the figure.
    """
    kinds, splits = leaks["kind"].unique(), leaks["split"].unique()
    figure, axes = new_axes(1, 1, 6.6, 3.2, 0.6)
    height = 0.8 / len(splits)
    for place, (split, color) in enumerate(
        zip(splits, (LABEL_COLORS["fake"], LABEL_COLORS["real"], GREY))
    ):
        share = leaks[leaks["split"] == split].set_index("kind").loc[kinds, "test_in_train"] * 100
        bars = axes[0, 0].barh(
            np.arange(len(kinds)) + place * height, share, height * 0.9, color=color, label=split
        )
        axes[0, 0].bar_label(bars, [f" {value:.0f} %" for value in share])
    axes[0, 0].set(xlim=(0, 112), xlabel="percent of the test pictures", title=title)
    axes[0, 0].set_yticks(np.arange(len(kinds)) + height / 2 * (len(splits) - 1), kinds)
    axes[0, 0].invert_yaxis()
    axes[0, 0].legend(title="split", loc="lower right")
    return figure


def heat(maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Maps of values from 0 to any height as colours, all on one scale: `(H, W)` → `(H, W, 3)` `uint8`."""
    limit = max(values.max() for values in maps)
    return [
        (plt.get_cmap("magma")(values / limit)[..., :3] * 255).astype(np.uint8) for values in maps
    ]


@plt.rc_context(STYLE)
def error_histograms(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Distribution of the error of reconstruction, each generator's fakes against their reals.

    Args:
        table: Columns `task`, `label`, `error`; a panel a task.
        title: Of the figure.
    """
    tasks = list(dict.fromkeys(table["task"]))
    bins = np.linspace(0, table["error"].quantile(0.99), 25)
    figure, axes = new_axes(1, len(tasks), 3.6, 2.9, 0.7, sharey=True)
    for axis, task in zip(axes[0], tasks):
        of_task = table[table["task"] == task]
        for label in LABELS:
            errors = of_task.loc[of_task["label"] == label, "error"].clip(upper=bins[-1])
            weights = np.full(len(errors), 100 / max(len(errors), 1))
            axis.hist(
                errors,
                bins,
                weights=weights,
                color=LABEL_COLORS[label],
                alpha=0.6,
                label=f"{label} ({len(errors)})",
            )
        axis.set(xlabel="mean squared error", title=task)
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.legend(fontsize=10)
    axes[0, 0].set_ylabel("percent of the pictures")
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def mean_spectra(means: Mapping[tuple[str, str], np.ndarray], *, title: str = "") -> Figure:
    """Mean spectrum of reals, of fakes, and their difference; a row for each protocol.

    Args:
        means: `(protocol, label)` → `(S, S)`, grey levels from 0 to 255.
        title: Of the figure.
    """
    protocols = list(dict.fromkeys(protocol for protocol, _ in means))
    figure, axes = new_axes(len(protocols), 3, 3.5, 2.75, 0.6)
    for row, protocol in zip(axes, protocols):
        real, fake = means[protocol, "real"], means[protocol, "fake"]
        limit = np.abs(fake - real).max()
        extent = (-0.5, 0.5, 0.5, -0.5)
        for axis, name, values, style in (
            (row[0], "real", real, dict(cmap="magma", vmin=0, vmax=255)),
            (row[1], "fake", fake, dict(cmap="magma", vmin=0, vmax=255)),
            (row[2], "fake − real", fake - real, dict(cmap="PuOr_r", vmin=-limit, vmax=limit)),
        ):
            drawn = axis.imshow(values, extent=extent, interpolation="nearest", **style)
            axis.set(xticks=[-0.5, 0, 0.5], yticks=[-0.5, 0, 0.5], title=f"{protocol}: {name}")
            figure.colorbar(drawn, ax=axis, shrink=0.8, label="grey levels")
        row[0].set_ylabel("cycles per pixel")
    for axis in axes[-1]:
        axis.set_xlabel("cycles per pixel")
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def radial_profiles(
    profiles: Mapping[str, tuple[str, np.ndarray, np.ndarray]], *, title: str = ""
) -> Figure:
    """Mean radial profile of every source with its 95 % interval; right, each generator's minus that of its reals.

    Args:
        profiles: Generator → (dataset of its reals, profiles of the reals, profiles of the fakes); profiles are
            `(num_pictures, num_radii)` in the spectrum's units.
        title: Of the figure.
    """
    figure, axes = new_axes(1, 2, 5.8, 3.9, 0.9)
    palette, styles = colors(list(profiles)), {}
    frequency = np.linspace(0, 0.5, next(iter(profiles.values()))[1].shape[1])

    def draw(axis, values, variance, **style):
        error = 1.96 * np.sqrt(variance)
        axis.plot(frequency, values, **style)
        axis.fill_between(
            frequency, values - error, values + error, color=style["color"], alpha=0.2, lw=0
        )

    for generator, (source, real, fake) in profiles.items():
        color, spread = (
            palette[generator],
            [values.var(axis=0) / len(values) for values in (real, fake)],
        )
        label = f"{generator} ({len(fake)})"
        draw(axes[0, 0], fake.mean(axis=0), spread[1], color=color, label=label)
        draw(axes[0, 1], fake.mean(axis=0) - real.mean(axis=0), sum(spread), color=color)
        if source not in styles:
            styles[source] = ("--", ":", "-.")[len(styles) % 3]
            style = {
                "color": LABEL_COLORS["real"],
                "linestyle": styles[source],
                "label": f"real: {source} ({len(real)})",
            }
            draw(axes[0, 0], real.mean(axis=0), spread[0], **style)
    axes[0, 1].axhline(0, color=GREY, linewidth=1)
    for axis in axes[0]:
        for at in (1 / 8, 1 / 4):
            axis.axvline(at, color=GREY, linewidth=0.8, linestyle=":")
        axis.set_xlabel("cycles per pixel")
    axes[0, 0].set(ylabel="20·ln|F|, averaged around the centre", title="profile (pictures)")
    axes[0, 1].set(ylabel="difference in 20·ln|F|", title="fake − its own reals")
    axes[0, 0].legend(fontsize=9)
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def heat_overlays(
    pictures: Sequence[np.ndarray],
    heats: Mapping[str, np.ndarray],
    boxes: np.ndarray | None = None,
    titles: Sequence[str] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Pictures in a row; below, for each kind of heat, the same pictures in grey under their heat, and its scale.

    Heat is drawn relative to its highest magnitude in the same picture, so colours say where, not how much.

    Args:
        pictures: `N` of `(H, W, 3)` or `(H, W)`, `uint8`.
        heats: Name → `(N, H, W)`, for example of `explain.grad_cam` and `explain.occlusion`; with negative values the
            colours have two sides.
        boxes: `(N, 4)`, the region that was altered: left, top, right, bottom as fractions; NaN draws none.
        titles: Above each picture.
        title: Of the figure.
    """
    lengths = {len(given) for given in (*heats.values(), boxes, titles) if given is not None}
    if not heats or lengths != {len(pictures)}:
        raise ValueError(
            f"Expected heat, box and title for each of {len(pictures)} pictures, received {lengths}."
        )
    width = 1.75 + 1.5 / len(pictures)  # with room for the scales
    figure, axes = new_axes(1 + len(heats), len(pictures), width, 1.75, 0.3 + 0.4 * bool(title))
    for number, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        axes[0, number].imshow(picture, cmap="gray", vmin=0, vmax=255)
        if titles is not None:
            axes[0, number].set_title(titles[number], fontsize=11)
        grey = picture if picture.ndim == 2 else picture @ (0.299, 0.587, 0.114)
        for axis, heat in zip(axes[1:, number], heats.values()):
            axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
            highest = np.abs(heat[number]).max()
            if highest > 0:
                axis.imshow(heat[number] / highest, alpha=0.6, **_heat_colors(heat))
            else:
                axis.text(width / 2, height / 2, "no heat", color="white", ha="center", va="center")
        if boxes is not None:
            left, top, right, bottom = boxes[number] * (width, height, width, height)
            for axis in axes[:, number]:
                for color, line in (("black", 3), ("white", 1.8)):
                    frame = {"fill": False, "edgecolor": color, "linewidth": line}
                    axis.add_patch(
                        plt.Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, **frame)
                    )
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
    axes[0, 0].set_ylabel("picture")
    for row, (name, heat) in zip(axes[1:], heats.items()):
        row[0].set_ylabel(name)
        shades, signed = _heat_colors(heat), (np.asarray(heat) < 0).any()
        scale = plt.cm.ScalarMappable(plt.Normalize(shades["vmin"], shades["vmax"]), shades["cmap"])
        bar = figure.colorbar(
            scale, ax=row, ticks=(-1, 0, 1) if signed else (0, 1), shrink=0.9, aspect=12, pad=0.01
        )
        bar.ax.set_yticklabels(("for real", "0", "for fake") if signed else ("0", "highest"))
        bar.outline.set_visible(False)
    figure.suptitle(title or None)
    return figure


def _heat_colors(heat: np.ndarray) -> dict:
    """One side of colours for heat, two for heat with a sign."""
    signed = (np.asarray(heat) < 0).any()
    return (
        {"cmap": "PuOr_r", "vmin": -1, "vmax": 1}
        if signed
        else {"cmap": "magma", "vmin": 0, "vmax": 1}
    )


@plt.rc_context(STYLE)
def ring_curve(rings: pd.DataFrame, title: str = "") -> Figure:
    """How much AUC falls with one ring of frequencies replaced, over frequency, with the 95 % interval.

    The dotted verticals are where doublings of the size leave their traces: 1/8 and 1/4 cycles per pixel.

    Args:
        rings: `explain.ring_occlusion`: columns `low`, `high`, `auc`, `drop`, `ci_low`, `ci_high`.
        title: Of the figure.
    """
    figure, axes = new_axes(1, 1, 6.4, 3.6, 0.4 * bool(title))
    axis, color, edges = (
        axes[0, 0],
        LABEL_COLORS["fake"],
        np.append(rings["low"], rings["high"].iloc[-1]),
    )
    axis.axhline(0, color=GREY, linewidth=1)
    above = {"transform": axis.get_xaxis_transform(), "ha": "center", "va": "bottom", "color": GREY}
    for at, name in ((1 / 8, "1/8"), (1 / 4, "1/4")):
        axis.axvline(at, color=GREY, linewidth=1, linestyle=":")
        axis.text(at, 1.01, name, **above)
    axis.axvspan(0.5, edges[-1], color=GREY, alpha=0.1, lw=0)
    axis.text((0.5 + edges[-1]) / 2, 1.01, "corners", **above)
    band = {"fill": True, "color": color, "alpha": 0.25, "label": "95 % interval"}
    axis.stairs(rings["ci_high"], edges, baseline=rings["ci_low"], **band)
    axis.stairs(
        rings["drop"], edges, baseline=None, color=color, linewidth=2, label="one ring replaced"
    )
    axis.legend()
    low, high = min(rings["ci_low"].min(), 0), max(rings["ci_high"].max(), 0.01)
    axis.set(xlim=(0, edges[-1]), ylim=(low - 0.06 * (high - low), high + 0.06 * (high - low)))
    axis.set(
        xlabel="cycles per pixel",
        ylabel=f"drop in AUC (from {(rings['auc'] + rings['drop']).iloc[0]:.2f})",
    )
    figure.suptitle(title or None)
    return figure
