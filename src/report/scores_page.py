"""The page of `python -m src.evaluation`: how good other people's detectors are."""

from pathlib import Path

import pandas as pd

from ..evaluation.intervals import ABOVE_CHANCE
from ..files import TEMPLATES, write_text
from . import charts, style, tables
from .web import escape, to_html, to_markdown

NUM_HARDEST = 25  # generators in the figure; the table in `recall.csv` has all
MIN_FAKES = 30  # of a generator in the figure


def write(folder: Path, scores: pd.DataFrame, results: pd.DataFrame, recalls: pd.DataFrame) -> None:
    """Writes `summary.md`, `summary.html` and their figures from what the command has read."""
    auc = results[results["metric"] == "auc"]
    auc = auc.sort_values("value", ascending=False, kind="stable")
    table = tables.interval_table(auc, "model", "test_set").rename(index=escape)
    text = TEMPLATES.get_template("report/scores.md.jinja").render(
        scores=scores,
        images=scores.drop_duplicates(["test_set", "path"]),
        num_above=(auc["ci_low"] > ABOVE_CHANCE).sum(),
        num_intervals=len(auc),
        auc=to_markdown(table),
        min_fakes=MIN_FAKES,
        figures=_figures(folder, scores, recalls),
    )
    write_text(folder / "summary.md", text)
    write_text(folder / "summary.html", to_html(text, "True or Fake: scores", folder))


def _figures(folder: Path, scores: pd.DataFrame, recalls: pd.DataFrame) -> dict[str, tuple]:
    """Draws the generators found least: rule → title, file name and how many they are."""
    constant = scores.groupby("detector")["score"].nunique() < 2  # they call all fake, or none
    recalls = recalls[recalls["num_fake"] >= MIN_FAKES]
    recalls = recalls[~recalls["model"].isin(constant.index[constant])]
    names, sets = recalls["generator"].astype(str), recalls["test_set"].astype(str)
    twice = sets.groupby(names).transform("nunique") > 1
    recalls = recalls.assign(generator=names.mask(twice, names + " (" + sets + ")"))
    figures = {}
    for number, (rule, rows) in enumerate(recalls.groupby("rule", sort=False)):
        means = rows.groupby(["test_set", "generator"])["value"].transform("mean")
        rows = rows.assign(mean=means).sort_values("mean", kind="stable")
        hardest = rows["generator"].drop_duplicates().head(NUM_HARDEST)
        shown = rows[rows["generator"].isin(hardest)]
        name, title = f"recall_{number}.png", f"Share of fakes found, {rule}"
        values = tables.wide(shown, "generator", "model", "value")
        figure = charts.heat_map(values, title=title)
        figure.savefig(folder / name, dpi=style.DPI, bbox_inches="tight", facecolor="white")
        figures[rule] = title, name, len(hardest)
    return figures
