"""The tables of the summary page, in Markdown.

Each takes a study and all rows of its `results.csv`, in the order in which it shows them, and is `""` where none of the
rows belongs in it. Reads the report's own numbers (`reporting`), writes nothing. `TABLES` is what `page` goes through.
"""

from collections.abc import Iterable
from functools import partial

import numpy as np
import pandas as pd

from ..config import PROTOCOLS, Study
from . import reporting
from .reporting import conditions, escape, headline, marked, to_markdown

_HEADERS = {"model": "detector", "train_set": "trained on", "test_set": "tested on"}
_DETECTOR = ["protocol", "model"]


# Cells and how they lie in a table -------------------------------------------------------------------------------


def interval(value: float, low: float, high: float, chance: float | None = 0.5) -> str:
    """A fraction with its interval; a third decimal where two would hide on which side of chance the interval ends.

    Example:
        >>> interval(0.9391, 0.91, 0.97), interval(0.51, 0.501, 0.53)
        ('0.94 (0.91–0.97)', '0.510 (0.501–0.530)')
    """
    digits = 3 if any(round(bound, 2) == chance != bound for bound in (low, high)) else 2
    return f"{value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def with_texts(rows: pd.DataFrame, chance: float | None = 0.5) -> pd.DataFrame:
    """Rows with `text`, the `interval`, and `side`: whether it lies `"above"`, `"around"` or `"below"` 0.5."""
    side = np.select([rows["ci_low"] > 0.5, rows["ci_high"] < 0.5], ["above", "below"], "around")
    bounds = rows[["value", "ci_low", "ci_high"]].to_numpy()
    return rows.assign(text=[interval(*bound, chance) for bound in bounds], side=side)


def auc_texts(rows: pd.DataFrame) -> list[str]:
    """`interval` of each row: in italics around 0.5, with ▼ below it."""
    marks = {"above": "{}", "around": "*{}*", "below": "▼ {}"}
    rows = with_texts(rows)
    return [marks[side].format(text) for side, text in zip(rows["side"], rows["text"])]


def in_bold(texts: Iterable[str], bold: Iterable[bool]) -> list[str]:
    return [f"**{text}**" if yes else text for text, yes in zip(texts, bold)]


def pivot(
    rows: pd.DataFrame, texts: Iterable[str], index: list[str], column: str = "test_set"
) -> str:
    """A table with a row for each `index` and a column for each value of `column`, in the order in which they come."""
    if rows.empty:
        return ""
    rows = rows[[*index, column]].astype(str).map(escape).assign(text=list(texts))
    wide = rows.pivot(index=index, columns=column, values="text").reindex(
        columns=rows[column].unique()
    )
    table = rows[index].drop_duplicates().merge(wide.reset_index(), on=index).fillna("–")
    return to_markdown(table.rename(columns=_HEADERS))


def pivot_pairs(
    rows: pd.DataFrame, names: list[str], index: list[str], column: str = "test_set"
) -> str:
    """As `pivot`, with the values of several metrics in a cell."""
    rows = rows[rows["metric"].isin(names)]
    cells = rows[[*index, column]].drop_duplicates()
    wide = rows.pivot(index=[*index, column], columns="metric", values="value").reindex(
        columns=names
    )
    values = (
        wide.loc[pd.MultiIndex.from_frame(cells)]
        .map("{:.2f}".format, na_action="ignore")
        .fillna("–")
    )
    return pivot(cells, [" / ".join(row) for row in values.to_numpy()], index, column)


# All detectors on all test sets ----------------------------------------------------------------------------------


def auc(study: Study, results: pd.DataFrame, protocol: str) -> str:
    """AUC with intervals."""
    rows = headline(study, results).query("metric == 'auc' and protocol == @protocol")
    return pivot(rows, auc_texts(rows), ["model"])


def accuracy(study: Study, results: pd.DataFrame, suffix: str = "") -> str:
    """Accuracy / F1: at 0.5 without a suffix, else `"_at_threshold"`."""
    return pivot_pairs(headline(study, results), [f"accuracy{suffix}", f"f1{suffix}"], _DETECTOR)


def difference(study: Study, results: pd.DataFrame) -> str:
    """AUC under `controlled` minus AUC under `report`; in bold where the two intervals do not overlap."""
    rows = headline(study, results).query("metric == 'auc'")
    before, after = (rows[rows["protocol"] == protocol] for protocol in PROTOCOLS)
    both = before.merge(after, on=["model", "test_set"], suffixes=("", "_after"))
    apart = (both["ci_high_after"] < both["ci_low"]) | (both["ci_low_after"] > both["ci_high"])
    changes = (both["value_after"] - both["value"]).round(2) + 0.0  # no minus before 0
    texts = [f"{change:+.2f}".replace("-", "−").replace("+0.00", "0.00") for change in changes]
    return pivot(both, in_bold(texts, apart), ["model"])


def seeds(study: Study, results: pd.DataFrame) -> str:
    """AUC as mean ± standard deviation over seeds, of the detectors that have several."""
    rows = marked(study, results).query("own_training and own_reals and metric == 'auc'")
    groups = rows.groupby([*_DETECTOR, "test_set"], sort=False)["value"]
    table = groups.agg(["mean", "std", "size"]).query("size > 1").reset_index()
    texts = [
        f"{mean:.2f} ± {sd:.2f} ({num:.0f})"
        for mean, sd, num in table[["mean", "std", "size"]].to_numpy()
    ]
    return pivot(table, texts, _DETECTOR)


# Other trainings, other photographs ------------------------------------------------------------------------------


def matrix(study: Study, results: pd.DataFrame) -> str:
    """AUC under `controlled` of networks trained on each generator, and on all but one; in bold those trained on."""
    rows = marked(study, results[results["model"].str.startswith("Matrix_")])
    rows = rows.query("own_seed and own_reals and metric == 'auc' and protocol == 'controlled'")
    known = [
        test_set in name.split("+") for name, test_set in zip(rows["train_set"], rows["test_set"])
    ]
    names = [_named(study, name) for name in rows["train_set"]]
    order = [*study.test_sets, *(f"all but {name}" for name in study.test_sets)]
    place = pd.Series(names, rows.index, dtype=str).map(
        {name: place for place, name in enumerate(order)}
    )
    rows = rows.assign(text=in_bold(auc_texts(rows), known), train_set=names, place=place)
    rows = rows.sort_values(["approach", "place"], kind="stable")
    return pivot(rows, rows["text"], ["approach", "train_set"])


def _named(study: Study, train_set: str) -> str:
    """A training set in words."""
    names = train_set.split("+")
    absent = [name for name in study.test_sets if name not in names]
    return f"all but {absent[0]}" if len(names) > 1 and len(absent) == 1 else " + ".join(names)


def foreign(study: Study, results: pd.DataFrame) -> str:
    """AUC of the same fakes against their own and against other real photographs."""
    rows = marked(study, results).query("own_training and own_seed and metric == 'auc'")
    rows = rows[rows.groupby([*_DETECTOR, "test_set"])["real_source"].transform("nunique") > 1]
    rows = rows.assign(pair=rows["test_set"] + " against " + rows["real_source"])
    rows = rows.sort_values("own_reals", ascending=False, kind="stable")
    return pivot(rows, auc_texts(rows), _DETECTOR, "pair")


def false_alarms(study: Study, results: pd.DataFrame) -> str:
    """Share of real photographs called fake at the validation threshold: of its own test set's, of unseen datasets'."""
    rows = marked(study, results).query(
        "own_training and own_seed and metric == 'fpr_at_threshold' and num_fake == 0"
    )
    own = headline(study, results).query(
        "metric == 'recall_real_at_threshold' and test_set == @study.train_set"
    )
    own = own[own["model"].isin(rows["model"])]
    own = own.assign(value=1 - own["value"], ci_low=1 - own["ci_high"], ci_high=1 - own["ci_low"])
    rows = pd.concat([own.assign(real_source=own["real_source"] + " (its own)"), rows])
    return pivot(rows, with_texts(rows, chance=None)["text"], _DETECTOR, "real_source")


# Conditions ------------------------------------------------------------------------------------------------------


def robustness(study: Study, results: pd.DataFrame) -> str:
    """AUC / accuracy at the validation threshold on degraded pictures, a table for each kind of degradation."""
    rows, whole = (
        conditions(study, results).query("is_step"),
        headline(study, results).assign(level="unchanged"),
    )
    parts = []
    for kind, part in rows.groupby("kind", sort=False):
        part = part.assign(level=part["level"].replace("", kind))
        unchanged = whole.merge(part[[*_DETECTOR, "test_set"]].drop_duplicates())
        both = pd.concat([unchanged, part])
        table = pivot_pairs(both, ["auc", "accuracy_at_threshold"], _varying(both), "level")
        parts.append(f"`{kind}`, by its level:\n\n{table}")
    return "\n\n".join(parts)


def subgroups(study: Study, results: pd.DataFrame) -> str:
    """AUC on parts of the test set."""
    rows = conditions(study, results).query("not is_step and metric == 'auc'")
    sizes = (
        (rows["num_real"] + rows["num_fake"])
        .groupby([rows["kind"], rows["level"]])
        .transform("max")
    )
    part = rows["kind"] + ": " + rows["level"] + " (n = " + sizes.astype(int).astype(str) + ")"
    return pivot(rows.assign(part=part), auc_texts(rows), _varying(rows), "part")


def _varying(rows: pd.DataFrame) -> list[str]:
    """The columns that name a row of a table of conditions."""
    return _DETECTOR + ["test_set"] * (rows["test_set"].nunique() > 1)


def attention(study: Study, results: pd.DataFrame) -> str:
    """Share of a detector's heat inside the altered region / by area / inside the regions of other pictures."""
    rows, keys = with_texts(headline(study, results), chance=None), [*_DETECTOR, "test_set"]
    parts = [
        rows[rows["metric"] == f"cam_in_region{name}"]
        for name in ("", "_chance", "_elsewhere", "_excess")
    ]
    heat, area, elsewhere, excess = (part.set_index(keys) for part in parts)
    heat = heat.loc[heat.index.intersection(excess.index, sort=False)]
    area, elsewhere, excess = (part.reindex(heat.index) for part in (area, elsewhere, excess))
    texts = [
        f"{text} / {a:.2f} / {b:.2f}"
        for text, a, b in zip(heat["text"], area["value"], elsewhere["value"])
    ]
    return pivot(heat.reset_index(), in_bold(texts, excess["ci_low"] > 0), _DETECTOR)


# The report ------------------------------------------------------------------------------------------------------


def beside_the_report(study: Study, results: pd.DataFrame) -> str:
    """The report's rows of which there is one of ours under `report`, in percent, with a sentence before and after."""
    reference = reporting.read_report_tables()
    num_wrong = (reporting.contradictions(reference) != "").sum()
    found = f"{num_wrong} of the report's {len(reference)} rows contradict their own precision and recall."
    approaches = reference["approach"].unique() if "report" in set(results["protocol"]) else []
    both = [
        reporting.report_table(results, reference, approach, "report") for approach in approaches
    ]
    both = (
        pd.concat(both).dropna(subset=["accuracy_report", "accuracy_ours"])
        if both
        else pd.DataFrame()
    )
    if both.empty:
        return f"None of the report's rows has one of ours beside it. {found}"
    table = both[["model", "test_set"]].rename(columns=_HEADERS)
    texts = both.select_dtypes(float).map("{:.1f}".format, na_action="ignore").fillna("–")
    for name in reporting.REPORT_METRICS:
        table[name] = texts[f"{name}_report"] + " / " + texts[f"{name}_ours"]
    table["what cannot be in the report's row"] = both["contradiction"].str.replace(
        r"^(?=.)", "⚠ ", regex=True
    )
    data = (
        "simulated pictures, so that only the form compares"
        if study.simulated
        else "the pictures of this study"
    )
    return (
        "Report / ours in percent, under `report` at 0.5; precision, recall and F1 are those of the class *real*, as the "
        f"report computed them. Ours are of {data}.\n\n{to_markdown(table)}\n\n{found}"
    )


# What the page shows ---------------------------------------------------------------------------------------------

TABLES = {  # heading → the table, and how to read it
    "AUC under `controlled`": (partial(auc, protocol="controlled"),
        "The table to quote. *In italics* the interval holds 0.5 (a coin); with ▼ all of it lies below: to the detector "
        "these fakes look more real than the photographs do. `Metadata` sees the file's header and no pixel, `PCA_probe` a "
        "few principal components: a network that does not beat them has shown nothing about faces."),
    "AUC under `report`": (partial(auc, protocol="report"),
        "The same on pictures as the original study prepared them, for comparison with its tables."),
    "What the control takes away": (difference,
        "AUC under `controlled` minus AUC under `report`: what falls by more than the luck of a training was owed to the "
        "files, not to the pictures; **in bold** the two intervals do not overlap."),
    "Accuracy / F1 at 0.5": (accuracy,
        "A score of 0.5 or more is called fake, as in the original study; calling all of them fake gives 0.50 / 0.67 "
        "where both classes are equally large."),
    "Accuracy / F1 at the validation threshold": (partial(accuracy, suffix="_at_threshold"),
        "At the threshold that was best on validation pictures; where this differs from the table above, 0.5 did not fit."),
    "Several seeds": (seeds,
        "AUC as mean ± standard deviation over trainings that differ in nothing but the seed (in brackets, how many): a "
        "difference between detectors that is not clearly larger may be luck."),
    "Trained on every generator in turn": (matrix,
        "AUC under `controlled`, training sets down, test sets across: **in bold** what the network was trained on, so "
        "that all the rest is what carries over."),
    "The same fakes against other real photographs": (foreign,
        "AUC of the same fakes, first against their own reals: where it changes with the reals, the detector reacts to "
        "where photographs come from, not only to what was generated."),
    "False alarms on photographs that nobody trained on": (false_alarms,
        "Share of real photographs called fake at the validation threshold: 0 is ideal, and more than on its own reals "
        "means that the detector accuses what it does not know."),
    "Robustness": (robustness,
        "AUC / accuracy at the validation threshold on degraded test pictures: where accuracy falls and AUC holds, only "
        "the threshold no longer fits."),
    "Parts of the test set": (subgroups,
        "AUC on parts of the test set, n pictures each: parts whose intervals do not overlap are not served alike."),
    "Where the networks look": (attention,
        "Share of the Grad-CAM heat inside the altered region / the share of its area / the share of the same heat inside "
        "the regions altered in other pictures, which whoever looks at the middle of every picture has, too. **In bold** "
        "where the first is clearly more than the last: only then does the network find what was altered."),
}  # fmt: skip
