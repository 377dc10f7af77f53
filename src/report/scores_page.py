"""The page of `python -m src.evaluation`: what other people's detectors are worth."""

from pathlib import Path

import pandas as pd

from . import charts, style, tables
from .web import escape, to_html, to_markdown, write_text

NUM_HARDEST = 25  # generators in the figure; the table in `recall.csv` has all
MIN_FAKES = 30  # of a generator in the figure


def write(folder: Path, scores: pd.DataFrame, results: pd.DataFrame, recalls: pd.DataFrame) -> None:
    """Writes `summary.md`, `summary.html` and their figures.

    Args:
        folder: Where to.
        scores: From `evaluation.__main__.read`.
        results: From `evaluation.__main__.evaluate`.
        recalls: The same.
    """
    auc = results[results["metric"] == "auc"]
    auc = auc.sort_values("value", ascending=False, kind="stable")
    table = tables.interval_table(auc, "model", "test_set", decimals=3)
    table = table.reset_index().rename(columns={"model": "detector"})
    text = ["# What these detectors are worth", _counts(scores), "## AUC", _read(auc)]
    text += [to_markdown(table.assign(detector=table["detector"].map(escape)))]
    constant = scores.groupby("detector")["score"].nunique() < 2  # they accuse all or none
    recalls = recalls[recalls["num_fake"] >= MIN_FAKES]
    recalls = recalls[~recalls["model"].isin(constant.index[constant])]
    names, sets = recalls["generator"].astype(str), recalls["test_set"].astype(str)
    twice = sets.groupby(names).transform("nunique") > 1
    recalls = recalls.assign(generator=names.mask(twice, names + " (" + sets + ")"))
    for number, (rule, rows) in enumerate(recalls.groupby("rule", sort=False)):
        best = rows.groupby(["test_set", "generator"])["value"].transform("mean")
        rows = rows.assign(mean=best).sort_values("mean", kind="stable")
        hardest = rows["generator"].drop_duplicates().head(NUM_HARDEST)
        shown = rows[rows["generator"].isin(hardest)]
        values = tables.wide(shown, "generator", "model", "value")
        name, title = f"recall_{number}.png", f"Share of fakes found, {rule}"
        figure = charts.heat_map(values, title=title, label="recall")
        figure.savefig(folder / name, dpi=style.DPI, bbox_inches="tight", facecolor="white")
        text += [f"## Recall, {rule}"]
        text += [
            f"The {len(hardest)} generators of at least {MIN_FAKES} fakes that are found least, on "
            "average over the detectors. Detectors with one score for all images are left out. "
            "`recall.csv` has all, with intervals.",
            f"![{title}]({name})",
        ]
    markdown = "\n\n".join(text) + "\n"
    pages = {"md": markdown, "html": to_html(markdown, "True or Fake: scores", folder)}
    for ending, content in pages.items():
        write_text(folder / f"summary.{ending}", content)


def _counts(scores: pd.DataFrame) -> str:
    images = scores.drop_duplicates(["test_set", "path"])
    return (
        f"{scores['detector'].nunique()} detectors, {len(images):,} images "
        f"({(images['label'] == 0).sum():,} real, {(images['label'] == 1).sum():,} fake) in "
        f"{images['group'].nunique():,} groups, {images['generator'].nunique()} generators. "
        f"{scores['score'].isna().sum():,} of {len(scores):,} scores are missing."
    )


def _read(auc: pd.DataFrame) -> str:
    verdicts = [tables.against_chance(row) for row in auc.itertuples()]
    above = sum(verdict == "better than chance" for verdict in verdicts)
    return (
        f"{above} of {len(auc)} intervals (95 %, over groups) lie above 0.5. Nothing is known here "
        "of what the detectors were trained on, so a high value may be one at home."
    )
