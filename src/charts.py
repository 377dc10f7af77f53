"""Figures of one notebook each: the audit's (notebook 2) and those of spectra (notebook 4), in `plotting`'s style."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .plotting import GREY, LABEL_COLORS, STYLE, colors, new_axes


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
        axis.set(xlim=(-0.02, 1.02), xlabel="AUC of the trait alone (0.5: tells nothing)", title=panel)
        axis.set_yticks(places, [name.replace("_", " ") for name in names])
        axis.tick_params(axis="y", length=0)
    axes[0, 0].invert_yaxis()
    figure.suptitle(title or None)
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
        axis.set(xscale="log", xlabel="number of components", title=panel, ylim=(min(0.4, table["ci_low"].min()), 1.02))
        axis.set_xticks(table["k"], table["k"])
        axis.minorticks_off()
    axes[0, 0].set_ylabel("AUC")
    axes[0, 0].legend(loc="upper left")
    figure.suptitle(title or None)
    return figure


@plt.rc_context(STYLE)
def leak_bars(leaks: pd.DataFrame, *, title: str = "Test pictures with a counterpart in training") -> Figure:
    """Share of the test pictures whose counterpart was trained on, for each kind of leak and each split.

    Args:
        leaks: `leaks.leak_test` of several splits, with the column `split`.
        title: Of the figure.
    """
    kinds, splits = leaks["kind"].unique(), leaks["split"].unique()
    figure, axes = new_axes(1, 1, 6.6, 3.2, 0.6)
    height = 0.8 / len(splits)
    for place, (split, color) in enumerate(zip(splits, (LABEL_COLORS["fake"], LABEL_COLORS["real"], GREY))):
        share = leaks[leaks["split"] == split].set_index("kind").loc[kinds, "test_in_train"] * 100
        bars = axes[0, 0].barh(np.arange(len(kinds)) + place * height, share, height * 0.9, color=color, label=split)
        axes[0, 0].bar_label(bars, [f" {value:.0f} %" for value in share])
    axes[0, 0].set(xlim=(0, 112), xlabel="percent of the test pictures", title=title)
    axes[0, 0].set_yticks(np.arange(len(kinds)) + height / 2 * (len(splits) - 1), kinds)
    axes[0, 0].invert_yaxis()
    axes[0, 0].legend(title="split", loc="lower right")
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
def radial_profiles(profiles: Mapping[str, tuple[str, np.ndarray, np.ndarray]], *, title: str = "") -> Figure:
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
        axis.fill_between(frequency, values - error, values + error, color=style["color"], alpha=0.2, lw=0)

    for generator, (source, real, fake) in profiles.items():
        color, spread = palette[generator], [values.var(axis=0) / len(values) for values in (real, fake)]
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
