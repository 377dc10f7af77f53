"""Result tables for readers, in Markdown: ours beside the report's, the README's, and those of the page.

Reads the rows of `figures/<study>/results.csv` and `data/report/`. Every number is computed from these; none is typed.
`page` sets the tables between sentences.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from .config import PROTOCOLS, ROOT, Study, get_study
from .evaluation import read_results, write_atomically
from .steps import parse

REPORT = ROOT / "data" / "report"
# The report's columns → our metrics. Its precision, recall and F1 are those of the class real.
REPORT_METRICS = {
    "accuracy": "accuracy",
    "precision": "precision_real",
    "recall": "recall_real",
    "f1": "f1_real",
    "auc": "auc",
}
# What the report calls otherwise: (approach, its name) → ours.
REPORT_MODELS = {
    ("fourier", "DenseNet_V2"): "Fourier_DenseNet",
    ("autoencoder", "Autoencoder"): "Autoencoder_classifier",
}
_BOUNDS = ["value", "ci_low", "ci_high"]
_HEADERS = {"model": "detector", "train_set": "trained on", "test_set": "tested on"}


def to_markdown(frame: pd.DataFrame, decimals: int = 2) -> str:
    """The table in Markdown: floats with so many decimals, missing values empty, the index left out."""
    shown = [[_cell(value, decimals) for value in row] for row in frame.astype(object).to_numpy()]
    rows = [[_cell(column, decimals) for column in frame.columns], ["---"] * frame.shape[1], *shown]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(value, decimals: int) -> str:
    """A value as the text of a cell."""
    if pd.isna(value):
        return ""
    text = f"{value:.{decimals}f}" if isinstance(value, float | np.floating) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def escape(text: str) -> str:
    r"""A name from outside (a file, a generator) on one line, as Markdown that shows it as it is.

    Example:
        >>> print(escape("VGG16_V3 *new*\n<b>"))
        VGG16_V3 \*new\* \<b\>
    """
    return re.sub(r"([\\`*\[\]<>&~]|\b_|_\b)", r"\\\1", " ".join(str(text).split()))


# Which rows of results.csv ----------------------------------------------------------------------------------------


def headline(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The rows that stand for the study: its own seed, training set and real photographs, whole test sets.

    Left out are further seeds, networks trained on every generator in turn (`Matrix_…`), foreign and unseen real
    photographs, and conditions (`metric@condition`).
    """
    rows = _own(study, _trained(study, results))
    return rows[~rows["metric"].str.contains("@", regex=False)]


def conditions(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The rows `metric@kind:level` of the headline detectors, on the training generator's test set where it is there.

    Returns:
        The rows with `metric`, `kind` and `level` taken apart, and `is_step`: whether the condition is something done
        to the pictures (a step of `steps`); otherwise it is a part of the test set.
    """
    rows = _own(study, _trained(study, results))
    rows = rows[rows["metric"].str.contains("@", regex=False)]
    at_home = rows["test_set"] == study.train_set
    rows = rows[at_home | (not at_home.any())]
    parts = rows["metric"].str.extract(r"^(?P<metric>[^@]*)@(?P<kind>[^:]*):?(?P<level>.*)$")
    is_step = np.array([_is_step(name.partition("@")[2]) for name in rows["metric"]], bool)
    return rows.assign(**parts, is_step=is_step)


def _is_step(condition: str) -> bool:
    try:
        return bool(parse(condition))
    except ValueError:
        return False


def _own(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the study's seed and, for each test set, of its own real photographs."""
    return rows[(rows["seed"] == study.seed) & (rows["real_source"] == rows["test_set"].map(study.test_sets))]


def _trained(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the detectors that were trained as the study says, without the matrix."""
    return rows[(rows["train_set"] == study.train_set) & ~rows["model"].str.startswith("Matrix_")]


def in_reading_order(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """Rows by protocol, then baselines before networks, then test sets as the study lists them."""
    approaches = ["metadata", "pca", "direct", "fourier", "autoencoder"]
    networks = ["Metadata", "PCA_probe", *(network.name for network in study.direct)]
    places = {
        "protocol": list(PROTOCOLS), "approach": approaches, "model": networks, "test_set": list(study.test_sets)
    }  # fmt: skip
    ranks = {column: {name: place for place, name in enumerate(names)} for column, names in places.items()}
    return results.sort_values(
        list(places), key=lambda names: names.map(ranks[names.name]).fillna(len(ranks[names.name])), kind="stable"
    )


# The report's tables ---------------------------------------------------------------------------------------------


def read_report_tables() -> pd.DataFrame:
    """The report's tables 5.1 to 5.6, in percent: `table, approach, model, train_set, test_set` and five metrics."""
    return pd.read_csv(REPORT / "report_tables.csv", dtype={"table": str})


def read_report_histories() -> dict[str, pd.DataFrame]:
    """The report's two training histories, by model; fractions."""
    histories = pd.read_csv(REPORT / "report_histories.csv")
    return {model: rows.drop(columns="model").reset_index(drop=True) for model, rows in histories.groupby("model")}


def contradictions(reference: pd.DataFrame, f1_tolerance: float = 0.2, accuracy_tolerance: float = 0.5) -> pd.Series:
    """What in each row of the report's tables cannot be, given the row's own precision P and recall R.

    F1 is their harmonic mean, 2PR / (P + R). And with as many fakes as reals, a share R (1 − P) / P of the fakes is
    called real: it cannot exceed 1, and the accuracy is the mean of R and what is left of the fakes.

    Args:
        reference: As `read_report_tables` returns it, percent.
        f1_tolerance: Points by which F1 may differ; roundings to 0.01 explain less.
        accuracy_tolerance: Points by which the accuracy may differ: a few lost images unbalance a set.

    Returns:
        A sentence for each row; empty where nothing is wrong, or where the report gives too few numbers to tell.
    """
    precision, recall = reference["precision"] / 100, reference["recall"] / 100
    f1 = 200 * precision * recall / (precision + recall)
    called_real = 100 * recall * (1 - precision) / precision
    accuracy = (100 * recall + 100 - called_real) / 2
    sentences = []
    for row, given in reference.iterrows():
        parts = []
        if abs(given["f1"] - f1[row]) > f1_tolerance:
            parts.append(f"F1 {given['f1']:.2f}: precision and recall give {f1[row]:.2f}")
        if called_real[row] > 100:
            parts.append(f"precision and recall: need {called_real[row]:.0f} % of the fakes called real")
        elif abs(given["accuracy"] - accuracy[row]) > accuracy_tolerance:
            parts.append(f"accuracy {given['accuracy']:.2f}: precision and recall give {accuracy[row]:.2f}")
        sentences.append("; ".join(parts))
    return pd.Series(sentences, index=reference.index, dtype=object)


def report_table(results: pd.DataFrame, reference: pd.DataFrame, table: str, protocol: str) -> pd.DataFrame:
    """Our results in the form of the report's tables, beside the report's numbers.

    Precision, recall and F1 are those of the class real, as the report computed them, and thresholds are 0.5. Of ours
    there are headline rows only (see `headline`), named as ours are.

    Args:
        results: As `read_results` returns it.
        reference: As `read_report_tables` returns it.
        table: A table of the report (`"5.1"`) or a whole approach (`"direct"`).
        protocol: Which of our results to show.

    Returns:
        One row for each model and test set: `data`, whether ours are of `"real"` or `"simulated"` pictures;
        `…_report` and `…_ours` in percent, missing where only one side has the row; and `contradiction`, what in the
        report's row cannot be.

    Raises:
        ValueError: If there is no such table or approach, or no result under the protocol.
    """
    theirs = reference[(reference["table"] == table) | (reference["approach"] == table)]
    if theirs.empty:
        have = [*reference["table"].unique(), *reference["approach"].unique()]
        raise ValueError(f"The report has no table or approach {table!r}; expected one of {have}.")
    if protocol not in set(results["protocol"]):
        have = sorted(results["protocol"].unique())
        raise ValueError(f"There are no results under the protocol {protocol!r}, only {have}. Run notebooks 03 to 05.")
    approach = theirs["approach"].iloc[0]
    study = get_study(results["study"].iloc[0])
    ours = headline(study, results)
    ours = ours[(ours["approach"] == approach) & (ours["protocol"] == protocol)]
    if approach != table:  # one table of an approach: one test set, unless it has them all
        ours = ours[ours["test_set"].isin(theirs["test_set"])]
    theirs = theirs.assign(model=[REPORT_MODELS.get((approach, name), name) for name in theirs["model"]])
    keys = ["model", "train_set", "test_set"]
    ours = ours[ours["metric"].isin(REPORT_METRICS.values())]
    ours = ours.pivot_table(index=[*keys, "real_source"], columns="metric", values="value", sort=False).mul(100)
    ours = ours.reindex(columns=list(REPORT_METRICS.values())).set_axis(list(REPORT_METRICS), axis=1).reset_index()
    theirs = theirs.assign(contradiction=contradictions(theirs))
    both = theirs.merge(ours, how="outer", on=keys, suffixes=("_report", "_ours"), sort=False)
    order = [name for column in ("test_set", "model") for name in (*theirs[column], *ours[column])]
    both = both.sort_values(["test_set", "model"], key=lambda names: names.map(order.index), kind="stable")
    both["data"] = "simulated" if study.simulated else "real"
    columns = [f"{name}_{side}" for name in REPORT_METRICS for side in ("report", "ours")]
    both["contradiction"] = both["contradiction"].fillna("")
    return both[[*keys, "real_source", "data", *columns, "contradiction"]].reset_index(drop=True)


# The page's tables: each takes all rows of results.csv, and is "" where it would be empty ---------------------------


def interval(value: float, low: float, high: float, chance: float | None = 0.5) -> str:
    """A fraction with its interval; a third decimal where two would hide on which side of chance the interval ends.

    Example:
        >>> interval(0.9391, 0.91, 0.97), interval(0.51, 0.501, 0.53)
        ('0.94 (0.91–0.97)', '0.510 (0.501–0.530)')
    """
    digits = 3 if any(round(bound, 2) == chance != bound for bound in (low, high)) else 2
    return f"{value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def with_texts(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of AUCs with `text`, the `interval`, and `side`: whether it lies `"above"`, `"around"` or `"below"` 0.5."""
    side = np.select([rows["ci_low"] > 0.5, rows["ci_high"] < 0.5], ["above", "below"], "around")
    return rows.assign(text=[interval(*row) for row in rows[_BOUNDS].to_numpy()], side=side)


def auc_texts(rows: pd.DataFrame) -> list[str]:
    """`interval` of each row: in italics around 0.5, with ▼ below it."""
    marks = {"above": "{}", "around": "*{}*", "below": "▼ {}"}
    rows = with_texts(rows)
    return [marks[side].format(text) for side, text in zip(rows["side"], rows["text"])]


def pivot(rows: pd.DataFrame, texts: list[str], index: list[str], column: str = "test_set") -> str:
    """A table with a row for each `index` and a column for each value of `column`, in the order in which they come."""
    if rows.empty:
        return ""
    rows = rows[[*index, column]].astype(str).map(escape).assign(text=list(texts))
    wide = rows.pivot(index=index, columns=column, values="text").reindex(columns=rows[column].unique())
    table = rows[index].drop_duplicates().merge(wide.reset_index(), on=index).fillna("–")
    return to_markdown(table.rename(columns={name: _HEADERS.get(name, name) for name in index}))


def _joined(rows: pd.DataFrame, names: list[str], index: list[str], column: str = "test_set") -> str:
    """As `pivot`, with the values of several metrics in a cell."""
    rows = rows[rows["metric"].isin(names)]
    cells = rows[[*index, column]].drop_duplicates()
    wide = rows.pivot(index=[*index, column], columns="metric", values="value").reindex(columns=names)
    values = wide.loc[pd.MultiIndex.from_frame(cells)].map("{:.2f}".format, na_action="ignore").fillna("–")
    return pivot(cells, [" / ".join(row) for row in values.to_numpy()], index, column)


def auc_table(study: Study, results: pd.DataFrame, protocol: str) -> str:
    """AUC with intervals: detectors × test sets."""
    rows = headline(study, results).query("metric == 'auc' and protocol == @protocol")
    return pivot(rows, auc_texts(rows), ["model"])


def accuracy_table(study: Study, results: pd.DataFrame, protocol: str, suffix: str) -> str:
    """Accuracy / F1: detectors × test sets; at 0.5 without a suffix, else `"_at_threshold"`."""
    rows = headline(study, results).query("protocol == @protocol")
    return _joined(rows, [f"accuracy{suffix}", f"f1{suffix}"], ["model"])


def difference_table(study: Study, results: pd.DataFrame) -> str:
    """AUC under `controlled` minus AUC under `report`; in bold where the two intervals do not overlap."""
    rows = headline(study, results).query("metric == 'auc'")
    before, after = (rows[rows["protocol"] == protocol] for protocol in PROTOCOLS)
    both = before.merge(after, on=["model", "test_set"], suffixes=("", "_after"))
    apart = (both["ci_high_after"] < both["ci_low"]) | (both["ci_low_after"] > both["ci_high"])
    changes = (both["value_after"] - both["value"]).round(2) + 0.0  # no minus before 0
    texts = [f"{change:+.2f}".replace("-", "−").replace("+0.00", "0.00") for change in changes]
    return pivot(both, [f"**{text}**" if bold else text for text, bold in zip(texts, apart)], ["model"])


def audit_table(study: Study, results: pd.DataFrame) -> str:
    """AUC of the baselines that look at no face: the file's header, principal components."""
    rows = headline(study, results).query("metric == 'auc' and approach in ('metadata', 'pca')")
    return pivot(rows, auc_texts(rows), ["model", "protocol"])


def seeds_table(study: Study, results: pd.DataFrame) -> str:
    """AUC as mean ± standard deviation over seeds, of the detectors that have several."""
    rows = _trained(study, results).query("metric == 'auc'")
    rows = rows[rows["real_source"] == rows["test_set"].map(study.test_sets)]
    groups = rows.groupby(["protocol", "model", "test_set"], sort=False)["value"]
    table = groups.agg(["mean", "std", "size"]).query("size > 1").reset_index()
    texts = [f"{mean:.2f} ± {sd:.2f} ({num:.0f})" for mean, sd, num in table[["mean", "std", "size"]].to_numpy()]
    return pivot(table, texts, ["protocol", "model"])


def matrix_table(study: Study, results: pd.DataFrame) -> str:
    """AUC under `controlled` of networks trained on each generator, and on all but one; in bold those trained on."""
    rows = _own(study, results[results["model"].str.startswith("Matrix_")])
    rows = rows.query("metric == 'auc' and protocol == 'controlled'")
    known = [test_set in name.split("+") for name, test_set in zip(rows["train_set"], rows["test_set"])]
    texts = [f"**{text}**" if bold else text for text, bold in zip(auc_texts(rows), known)]
    rows = rows.assign(text=texts, train_set=[_named(study, name) for name in rows["train_set"]])
    order = [*study.test_sets, *(f"all but {name}" for name in study.test_sets)]
    rows = rows.assign(place=rows["train_set"].map({name: place for place, name in enumerate(order)}))
    rows = rows.sort_values(["approach", "place"], kind="stable")
    return pivot(rows, rows["text"], ["approach", "train_set"])


def _named(study: Study, train_set: str) -> str:
    """A training set in words."""
    names = train_set.split("+")
    absent = [name for name in study.test_sets if name not in names]
    return f"all but {absent[0]}" if len(names) > 1 and len(absent) == 1 else " + ".join(names)


def foreign_table(study: Study, results: pd.DataFrame) -> str:
    """AUC of the same fakes against their own and against other real photographs."""
    rows = _trained(study, results).query("metric == 'auc' and seed == @study.seed")
    rows = rows[rows.groupby(["protocol", "model", "test_set"])["real_source"].transform("nunique") > 1]
    foreign = rows["real_source"] != rows["test_set"].map(study.test_sets)
    rows = rows.assign(foreign=foreign, pair=rows["test_set"] + " against " + rows["real_source"])
    rows = rows.sort_values("foreign", kind="stable")
    return pivot(rows, auc_texts(rows), ["protocol", "model"], "pair")


def false_alarm_table(study: Study, results: pd.DataFrame) -> str:
    """Share of real photographs called fake at the validation threshold: of its own test set's, of unseen datasets'."""
    rows = _trained(study, results).query("metric == 'fpr_at_threshold' and num_fake == 0 and seed == @study.seed")
    if rows.empty:
        return ""
    known = headline(study, results).query("metric == 'recall_real_at_threshold' and test_set == @study.train_set")
    known = known.assign(value=1 - known["value"], ci_low=1 - known["ci_high"], ci_high=1 - known["ci_low"])
    known = known.assign(real_source=known["real_source"] + " (its own)")[known["model"].isin(rows["model"])]
    rows = pd.concat([known, rows])
    texts = [interval(*row, chance=None) for row in rows[_BOUNDS].to_numpy()]
    return pivot(rows, texts, ["protocol", "model"], "real_source")


def robustness_tables(study: Study, results: pd.DataFrame) -> str:
    """AUC / accuracy at the validation threshold on degraded pictures, a table for each kind of degradation."""
    rows, whole = conditions(study, results).query("is_step"), headline(study, results).assign(level="unchanged")
    tables = []
    for kind, part in rows.groupby("kind", sort=False):
        keys = ["protocol", "model", "test_set"]
        part = part.assign(level=part["level"].where(part["level"] != "", kind))
        both = pd.concat([whole.merge(part[keys].drop_duplicates(), on=keys), part])
        table = _joined(both, ["auc", "accuracy_at_threshold"], _varying(both), "level")
        tables.append(f"`{kind}`, by its level:\n\n{table}")
    return "\n\n".join(tables)


def subgroup_table(study: Study, results: pd.DataFrame) -> str:
    """AUC on parts of the test set."""
    rows = conditions(study, results).query("not is_step and metric == 'auc'")
    sizes = (rows["num_real"] + rows["num_fake"]).groupby([rows["kind"], rows["level"]]).transform("max")
    part = rows["kind"] + ": " + rows["level"] + " (n = " + sizes.astype(int).astype(str) + ")"
    return pivot(rows.assign(part=part), auc_texts(rows), _varying(rows), "part")


def _varying(rows: pd.DataFrame) -> list[str]:
    """The columns that name a row of a table of conditions."""
    return ["protocol", "model"] + ["test_set"] * (rows["test_set"].nunique() > 1)


def attention_table(study: Study, results: pd.DataFrame) -> str:
    """Share of a detector's heat inside the altered region / the share that chance gives."""
    rows, keys = headline(study, results), ["protocol", "model", "test_set"]
    heat, chance = (rows[rows["metric"] == f"cam_in_region{suffix}"] for suffix in ("", "_chance"))
    both = heat.merge(chance[[*keys, "value"]].rename(columns={"value": "chance"}), on=keys)
    texts = [f"{interval(*row, chance=None)} / {share:.2f}" for *row, share in both[[*_BOUNDS, "chance"]].to_numpy()]
    return pivot(both, texts, ["protocol", "model"])


def beside_the_report(results: pd.DataFrame) -> str:
    """The report's rows of which there is one of ours under `report`: report / ours, in percent."""
    if "report" not in set(results["protocol"]):
        return ""
    reference = read_report_tables()
    tables = [report_table(results, reference, approach, "report") for approach in reference["approach"].unique()]
    both = pd.concat(tables).dropna(subset=["accuracy_report", "accuracy_ours"])
    if both.empty:
        return ""
    table = both[["model", "test_set"]].rename(columns=_HEADERS)
    texts = both.select_dtypes(float).map("{:.1f}".format, na_action="ignore").fillna("–")
    for name in REPORT_METRICS:
        table[name] = texts[f"{name}_report"] + " / " + texts[f"{name}_ours"]
    table["what cannot be in the report's row"] = both["contradiction"].str.replace(r"^(?=.)", "⚠ ", regex=True)
    return to_markdown(table)


# The README's tables ----------------------------------------------------------------------------------------------


def readme_table(study: Study) -> str:
    """AUC of every detector on every test set under both protocols, in Markdown, for the README.

    A cell is `report → controlled`. Where the report has a row of the same model and test set, its own AUC stands
    behind it in brackets.
    """
    rows = headline(study, read_results(study)).query("metric == 'auc'")
    models = in_reading_order(study, rows.assign(protocol=""))["model"].unique()
    auc = rows.set_index(["model", "test_set", "protocol"])["value"]
    theirs = read_report_tables()
    names = [REPORT_MODELS.get(key, key[1]) for key in zip(theirs["approach"], theirs["model"])]
    theirs = theirs.set_index([names, theirs["test_set"]])["auc"] / 100
    lines = []
    for model in models:
        cells = {"detector": model}
        for test_set in study.test_sets:
            ours = (auc.get((model, test_set, protocol)) for protocol in PROTOCOLS)
            given = theirs.get((model, test_set), np.nan)
            cells[test_set] = " → ".join("–" if value is None else f"{value:.2f}" for value in ours)
            cells[test_set] += "" if np.isnan(given) else f" [{given:.2f}]"
        lines.append(cells)
    return to_markdown(pd.DataFrame(lines))


def update_readme(readme: Path = ROOT / "README.md") -> bool:
    """Writes the tables of all studies that have committed results into the README. Returns whether it changed."""
    text = readme.read_text(encoding="utf-8")
    new = text
    for name in re.findall(r"<!-- results: (\w+) -->", text):
        study = get_study(name)
        if (study.figures / "results.csv").is_file():
            block = f"<!-- results: {name} -->\n\n{readme_table(study)}\n\n<!-- end -->"
            new = re.sub(rf"<!-- results: {name} -->.*?<!-- end -->", lambda _, b=block: b, new, flags=re.DOTALL)
    if new != text:
        write_atomically(readme, lambda beside: beside.write_text(new, encoding="utf-8"))
    return new != text


if __name__ == "__main__":
    print("README.md rewritten" if update_readme() else "README.md is up to date")
