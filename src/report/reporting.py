"""Which rows of results stand for what, and ours beside the report's: what notebooks, README and `tables` begin with.

Reads `figures/<study>/results.csv` and the report's own numbers in `data/report/`; `python -m src.reporting` writes the
tables of the README. Every number is computed from these; none is typed.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..config import PROTOCOLS, ROOT, Study, get_study
from ..evaluation.results import read_results
from ..files import write_atomically
from ..pictures.steps import parse

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


def marked(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The rows with four more columns, by which `query` chooses among them.

    `own_training`: of a detector trained as the study says (not the matrix, `Matrix_…`, which trains on every generator
    in turn); `own_seed`; `own_reals`: against the test set's own real photographs; `whole`: of the whole test set as it
    is, without a condition (`metric@condition`).
    """
    return results.assign(
        own_training=(results["train_set"] == study.train_set)
        & ~results["model"].str.startswith("Matrix_"),
        own_seed=results["seed"] == study.seed,
        own_reals=results["real_source"] == results["test_set"].map(study.test_sets),
        whole=~results["metric"].str.contains("@", regex=False),
    )


def headline(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The rows that stand for the study: all that `marked` tells of them is true."""
    return marked(study, results).query("own_training and own_seed and own_reals and whole")[
        [*results]
    ]


def conditions(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The rows `metric@kind:level` of the headline detectors, on the training generator's test set where it is there.

    Returns:
        The rows with `metric`, `kind` and `level` taken apart, and `is_step`: whether the condition is something done
        to the pictures (a step of `steps`); otherwise it is a part of the test set.
    """
    rows = marked(study, results).query("own_training and own_seed and own_reals and not whole")
    at_home = rows["test_set"] == study.train_set
    rows = rows[at_home | (not at_home.any())]
    parts = rows["metric"].str.extract(
        r"^(?P<metric>[^@]*)@(?P<condition>(?P<kind>[^:]*):?(?P<level>.*))$"
    )
    is_step = [_is_step(condition) for condition in parts.pop("condition")]
    return rows[[*results]].assign(**parts, is_step=np.array(is_step, bool))


def _is_step(condition: str) -> bool:
    try:
        return bool(parse(condition))
    except ValueError:
        return False


def in_reading_order(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """Rows by protocol, then baselines before networks, then test sets as the study lists them."""
    approaches = ["metadata", "pca", "direct", "fourier", "autoencoder"]
    networks = ["Metadata", "Face_box", "PCA_probe"]
    networks += [
        network.name + scaling for network in study.direct for scaling in ("", "_imagenet", "_unit")
    ]
    places = {
        "protocol": list(PROTOCOLS), "approach": approaches, "model": networks, "test_set": list(study.test_sets)
    }  # fmt: skip
    ranks = {
        column: {name: place for place, name in enumerate(names)}
        for column, names in places.items()
    }
    return results.sort_values(
        list(places),
        key=lambda names: names.map(ranks[names.name]).fillna(len(ranks[names.name])),
        kind="stable",
    )


# The report's tables ---------------------------------------------------------------------------------------------


def read_report_tables() -> pd.DataFrame:
    """The report's tables 5.1 to 5.6, in percent: `table, approach, model, train_set, test_set` and five metrics."""
    return pd.read_csv(REPORT / "report_tables.csv", dtype={"table": str})


def read_report_histories() -> dict[str, pd.DataFrame]:
    """The report's two training histories, by model; fractions."""
    histories = pd.read_csv(REPORT / "report_histories.csv")
    return {
        model: rows.drop(columns="model").reset_index(drop=True)
        for model, rows in histories.groupby("model")
    }


def contradictions(
    reference: pd.DataFrame, f1_tolerance: float = 0.2, accuracy_tolerance: float = 0.5
) -> pd.Series:
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
            parts.append(
                f"precision and recall: need {called_real[row]:.0f} % of the fakes called real"
            )
        elif abs(given["accuracy"] - accuracy[row]) > accuracy_tolerance:
            parts.append(
                f"accuracy {given['accuracy']:.2f}: precision and recall give {accuracy[row]:.2f}"
            )
        sentences.append("; ".join(parts))
    return pd.Series(sentences, index=reference.index, dtype=object)


def report_table(
    results: pd.DataFrame, reference: pd.DataFrame, table: str, protocol: str
) -> pd.DataFrame:
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
        raise ValueError(
            f"There are no results under the protocol {protocol!r}, only {have}. Run notebooks 03 to 05."
        )
    approach = theirs["approach"].iloc[0]
    study = get_study(results["study"].iloc[0])
    ours = headline(study, results)
    ours = ours[(ours["approach"] == approach) & (ours["protocol"] == protocol)]
    if approach != table:  # one table of an approach: one test set, unless it has them all
        ours = ours[ours["test_set"].isin(theirs["test_set"])]
    theirs = theirs.assign(
        model=[REPORT_MODELS.get((approach, name), name) for name in theirs["model"]]
    )
    keys = ["model", "train_set", "test_set"]
    ours = ours[ours["metric"].isin(REPORT_METRICS.values())]
    ours = ours.pivot_table(
        index=[*keys, "real_source"], columns="metric", values="value", sort=False
    ).mul(100)
    ours = (
        ours.reindex(columns=list(REPORT_METRICS.values()))
        .set_axis(list(REPORT_METRICS), axis=1)
        .reset_index()
    )
    theirs = theirs.assign(contradiction=contradictions(theirs))
    both = theirs.merge(ours, how="outer", on=keys, suffixes=("_report", "_ours"), sort=False)
    order = [name for column in ("test_set", "model") for name in (*theirs[column], *ours[column])]
    both = both.sort_values(
        ["test_set", "model"], key=lambda names: names.map(order.index), kind="stable"
    )
    both["data"] = "simulated" if study.simulated else "real"
    columns = [f"{name}_{side}" for name in REPORT_METRICS for side in ("report", "ours")]
    both["contradiction"] = both["contradiction"].fillna("")
    return both[[*keys, "real_source", "data", *columns, "contradiction"]].reset_index(drop=True)


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
            new = re.sub(
                rf"<!-- results: {name} -->.*?<!-- end -->",
                lambda _, b=block: b,
                new,
                flags=re.DOTALL,
            )
    if new != text:
        write_atomically(readme, lambda beside: beside.write_text(new, encoding="utf-8"))
    return new != text


if __name__ == "__main__":
    print("README.md rewritten" if update_readme() else "README.md is up to date")
