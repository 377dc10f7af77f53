"""The tables of numbers on the summary page, in Markdown."""

import pandas as pd

from ..config import Study
from . import tables
from .web import escape, to_markdown

MARKS = {"better than chance": "{}", "not better than chance": "*{}*", "worse than chance": "▼ {}"}
_DETECTOR = ["protocol", "model"]


def number_tables(
    study: Study, results: pd.DataFrame, changes: pd.DataFrame | None = None
) -> dict[str, str]:
    """The tables of numbers by heading, empty without rows; `page.md.jinja` explains them."""
    rows = tables.headline(study, results)
    of_auc = rows[rows["metric"] == "auc"]
    shown = (tables.conditions, tables.seeds, tables.false_alarms, tables.foreign, tables.strengths)
    parts = (rows, *(rows_of(study, results) for rows_of in shown))
    rows, conditions, seeds, alarms, *others = (tables.with_daggers(part, of_auc) for part in parts)
    auc, foreign, strengths = map(_marked, (tables.with_daggers(of_auc), *others))
    foreign["pair"] = foreign["test_set"] + " against " + foreign["real_source"]
    matrix = _marked(tables.matrix(study, results))
    failed = ~matrix["learned"].astype(bool)
    matrix["train_set"] = matrix["train_set"].mask(failed, matrix["train_set"].astype(str) + " †")
    matrix = _bold(matrix, matrix["seen"])
    alarms = with_texts(alarms)
    of_threshold, lost = ["accuracy_at_threshold", "f1_at_threshold"], ""
    if changes is not None:
        changes = changes.assign(train_set=study.train_set, protocol="either")
        changes = tables.with_daggers(changes, of_auc.assign(protocol="either"))
        lost = to_markdown(tables.difference_table(changes, "model", "test_set").map(escape))
    return {
        "AUC under `controlled`": _table(auc.query("protocol == 'controlled'"), ["model"]),
        "AUC under `report`": _table(auc.query("protocol == 'report'"), ["model"]),
        "By strength of the trace": _table(strengths, ["model"], "strength"),
        "Accuracy / F1 at 0.5": _pairs(rows, ["accuracy", "f1"], _DETECTOR),
        "Accuracy / F1 at the validation threshold": _pairs(rows, of_threshold, _DETECTOR),
        "Several seeds": _table(seeds, _DETECTOR),
        "Trained on every generator in turn": _table(matrix, ["approach", "train_set"]),
        "The same fakes against other real photographs": _table(foreign, _DETECTOR, "pair"),
        "False alarms on photographs from elsewhere": _table(alarms, _DETECTOR, "real_source"),
        "Robustness": _robustness(rows, conditions[conditions["is_step"]]),
        "Parts of the test set": _subgroups(conditions[~conditions["is_step"]]),
        "Where the networks look": _attention(rows),
        "What the control takes away": lost,
    }


def _table(rows: pd.DataFrame, index: list[str], column: str = "test_set") -> str:
    """A wide table of the column `text`."""
    names = rows[[*index, column]].astype(str).map(escape)
    return to_markdown(tables.wide(names, index, column, rows["text"]).fillna("–"))


def _pairs(rows: pd.DataFrame, names: list[str], index: list[str], column: str = "test_set") -> str:
    """As `_table`, with the values of several metrics in a cell."""
    rows, keys = rows[rows["metric"].isin(names)], [*index, column]
    texts = tables.wide(rows, keys, "metric", rows["value"].map("{:.2f}".format))
    texts = texts.reindex(columns=names).fillna("–").reset_index()
    return _table(texts.assign(text=[*map(" / ".join, texts[names].to_numpy())]), index, column)


def with_texts(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with `text`, the interval, and `verdict`, where it lies against chance."""
    texts = [tables.interval(row.value, row.ci_low, row.ci_high) for row in rows.itertuples()]
    return rows.assign(text=texts, verdict=[*map(tables.against_chance, rows.itertuples())])


def _marked(rows: pd.DataFrame) -> pd.DataFrame:
    """As `with_texts`: in italics if 0.5 lies inside, with ▼ if the interval lies below it."""
    rows = with_texts(rows)
    return rows.assign(text=[MARKS[row.verdict].format(row.text) for row in rows.itertuples()])


def _bold(rows: pd.DataFrame, bold: pd.Series) -> pd.DataFrame:
    texts = [f"**{text}**" if yes else text for text, yes in zip(rows["text"], bold)]
    return rows.assign(text=texts)


def _keys(rows: pd.DataFrame) -> list[str]:
    """What names a row of a table; the test set only where there are several."""
    return _DETECTOR + ["test_set"] * (rows["test_set"].nunique() > 1)


def _robustness(unchanged: pd.DataFrame, rows: pd.DataFrame) -> str:
    """A table for each kind of degradation."""
    parts, names = [], ["auc", "accuracy_at_threshold"]
    for kind, part in rows.groupby("kind", sort=False):
        first = unchanged.merge(part[[*_DETECTOR, "test_set"]].drop_duplicates())
        part = part.assign(metric=part["name"], level=part["level"].replace("", kind))
        both = pd.concat([first.assign(level="unchanged"), part])
        parts.append(f"`{kind}`, by its level:\n\n{_pairs(both, names, _keys(part), 'level')}")
    return "\n\n".join(parts)


def _subgroups(rows: pd.DataFrame) -> str:
    rows = rows[rows["name"] == "auc"]
    sizes = (rows["num_real"] + rows["num_fake"]).groupby([rows["kind"], rows["level"]])
    size = sizes.transform("max").astype(int).astype(str)
    rows = rows.assign(part=rows["kind"] + ": " + rows["level"] + " (n = " + size + ")")
    return _table(_marked(rows), _keys(rows), "part")


def _attention(rows: pd.DataFrame) -> str:
    """Heat in the region, the region's area, heat in other regions; bold if the excess is clear."""
    names = [f"cam_in_region{suffix}" for suffix in ("", "_chance", "_elsewhere", "_excess")]
    rows = rows.set_index([*_DETECTOR, "test_set"])
    heat, area, elsewhere, excess = (rows[rows["metric"] == name] for name in names)
    heat = with_texts(heat[heat.index.isin(excess.index)])
    for part in (area, elsewhere):
        heat["text"] += part["value"].reindex(heat.index).map(" / {:.2f}".format)
    found = excess["ci_low"].reindex(heat.index) > 0
    return _table(_bold(heat, found).reset_index(), _DETECTOR)
