"""Result tables for readers: ours beside the report's, and the summary page of a study.

Reads `figures/<study>/results.csv`, the model cards and `data/report/`; writes `figures/<study>/summary.md`. Every
number is computed from these; none is typed.
"""

import importlib.metadata
import json
import platform
import re
from pathlib import Path

import numpy as np
import pandas as pd

from .config import PROTOCOLS, ROOT, Study, get_study
from .evaluation import read_results, write_atomically

REPORT = ROOT / "data" / "report"
# The report's columns → our metrics. Its precision, recall and F1 are those of the class real.
REPORT_METRICS = {
    "accuracy": "accuracy",
    "precision": "precision_real",
    "recall": "recall_real",
    "f1": "f1_real",
    "auc": "auc",
}
PACKAGES = (
    "keras",
    "tensorflow",
    "jax",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "pillow",
    "opencv-python-headless",
)


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

    Precision, recall and F1 are those of the class real, as the report computed them, and thresholds are 0.5. A model
    is matched by name, or, where an approach has one model on either side, with that one. Several seeds are averaged.

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
    ours = results[(results["approach"] == approach) & (results["protocol"] == protocol)]
    if theirs["approach"].iloc[0] != table:  # one table of an approach: one test set, unless it has them all
        ours = ours[ours["test_set"].isin(theirs["test_set"])]
    if theirs["model"].nunique() == ours["model"].nunique() == 1:
        theirs = theirs.assign(model=ours["model"].iloc[0])
    keys = ["model", "train_set", "test_set"]
    ours = ours[ours["metric"].isin(REPORT_METRICS.values())]
    ours = ours.pivot_table(index=[*keys, "real_source"], columns="metric", values="value", sort=False).mul(100)
    ours = ours.reindex(columns=list(REPORT_METRICS.values())).set_axis(list(REPORT_METRICS), axis=1).reset_index()
    theirs = theirs.assign(contradiction=contradictions(theirs))
    both = theirs.merge(ours, how="outer", on=keys, suffixes=("_report", "_ours"), sort=False)
    order = [name for column in ("test_set", "model") for name in (*theirs[column], *ours[column])]
    both = both.sort_values(["test_set", "model"], key=lambda names: names.map(order.index), kind="stable")
    both["data"] = "simulated" if get_study(results["study"].iloc[0]).simulated else "real"
    columns = [f"{name}_{side}" for name in REPORT_METRICS for side in ("report", "ours")]
    both["contradiction"] = both["contradiction"].fillna("")
    return both[[*keys, "real_source", "data", *columns, "contradiction"]].reset_index(drop=True)


# The summary page ------------------------------------------------------------------------------------------------


def write_summary(study: Study, decimals: int = 3) -> Path:
    """Writes `figures/<study>/summary.md`: what was run, the results, what the backbones started from, what is missing.

    Args:
        study: Whose `results.csv`, model cards and figures to read.
        decimals: Of the metrics, which are fractions.

    Returns:
        The file's path.

    Raises:
        FileNotFoundError: If no results have been written.
    """
    results = _in_reading_order(study, read_results(study))
    sections = [
        f"# Study `{study.name}`: {study.description}",
        _what_was_run(study, results),
        *(_protocol_section(results, protocol, decimals) for protocol in results["protocol"].unique()),
        "## What each detector started from\n\n" + _cards(study),
        "## What was not run\n\n" + _missing(study, results),
        "## Figures\n\n" + _figures(study),
        "## Environment\n\n" + _environment(),
    ]
    page = "\n\n".join(sections) + "\n"
    return write_atomically(study.figures / "summary.md", lambda beside: beside.write_text(page, encoding="utf-8"))


def _in_reading_order(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """Rows by protocol, then baselines before networks, then test sets as the study lists them."""
    approaches = ["metadata", "pca", "direct", "fourier", "autoencoder"]
    networks = ["Metadata", "PCA_probe", *(network.name for network in study.direct)]
    places = {
        "protocol": list(PROTOCOLS), "approach": approaches, "model": networks, "test_set": list(study.test_sets)
    }  # fmt: skip
    ranks = {column: {name: place for place, name in enumerate(names)} for column, names in places.items()}
    return results.sort_values(
        list(places), key=lambda values: values.map(ranks[values.name]).fillna(len(ranks)), kind="stable"
    )


def _what_was_run(study: Study, results: pd.DataFrame) -> str:
    """Data, sizes and seeds, in sentences."""
    sizes = results.sort_values("num_fake", ascending=False, kind="stable").drop_duplicates(["test_set", "real_source"])
    sizes = sizes.sort_index()
    tests = "; ".join(
        f"{row.test_set} ({row.num_fake} fakes, {row.num_real} reals of {row.real_source})"
        for row in sizes.itertuples()
    )
    seeds = ", ".join(str(seed) for seed in sorted(results["seed"].unique()))
    simulated = "**Simulated data:** every picture was drawn by the simulator, none is a photograph. These numbers say "
    return (
        (simulated + "that the pipeline works, not how well detectors do on real faces.\n\n" if study.simulated else "")
        + f"Trained on {', '.join(results['train_set'].unique())}; {study.image_size}×{study.image_size} pixels; "
        + f"seeds: {seeds}. Test sets, test split only: {tests}.\n\n"
        + f"Fake is the positive class. Intervals: 95 %, bootstrap over groups, {study.num_resamples:,} resamples."
    )


def _protocol_section(results: pd.DataFrame, protocol: str, decimals: int) -> str:
    """The tables of one protocol."""
    rows = results[results["protocol"] == protocol]
    parts = [f"## Protocol `{protocol}`", "Area under the ROC curve (95 % interval):", _pivot(rows, ["auc"], decimals)]
    chosen = ["accuracy", "f1"]
    parts += ["Accuracy / F1 at the threshold 0.5:", _pivot(rows, chosen, decimals)]
    if rows["metric"].eq("accuracy_at_threshold").any():
        names = [f"{name}_at_threshold" for name in chosen]
        parts += ["Accuracy / F1 at the threshold chosen on the validation split:", _pivot(rows, names, decimals)]
    return "\n\n".join(parts)


def _pivot(rows: pd.DataFrame, names: list[str], decimals: int) -> str:
    """Detectors × test sets; one metric with its interval (or mean ± sd over seeds), several with a slash."""

    def text(part: pd.DataFrame) -> str:
        if len(names) == 1 and len(part) == 1:
            row = part.iloc[0]
            return f"{row['value']:.{decimals}f} ({row['ci_low']:.{decimals}f}–{row['ci_high']:.{decimals}f})"
        shown = []
        for name in names:
            values = part.loc[part["metric"] == name, "value"]
            shown.append(f"{values.mean():.{decimals}f}" if len(values) else "–")
        if len(names) == 1:
            shown[0] += f" ± {part['value'].std():.{decimals}f} ({len(part)} seeds)"
        return " / ".join(shown)

    rows = rows[rows["metric"].isin(names)]
    several_sources = rows.groupby("test_set")["real_source"].nunique() > 1
    column = rows["test_set"].where(
        ~rows["test_set"].map(several_sources), rows["test_set"] + " / " + rows["real_source"]
    )
    who = ["approach", "model"] + ["train_set"] * (rows["train_set"].nunique() > 1)
    groups = rows.assign(test=column).groupby([*who, "test"], sort=False)
    cells = [(*group, text(part)) for group, part in groups]
    table = pd.DataFrame(cells, columns=[*who, "test", "text"])
    wide = table.pivot(index=who, columns="test", values="text")
    wide = wide.reindex(index=pd.MultiIndex.from_frame(table[who].drop_duplicates()), columns=table["test"].unique())
    return to_markdown(wide.rename_axis(columns=None).reset_index())


def _cards(study: Study) -> str:
    """What the cards of the trained models say."""
    rows = []
    for path in sorted(study.models.glob("*.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        weights = card.get("starts_from", card.get("weights", "not recorded"))
        chosen = {name: card.get(name) for name in ("seed", "threshold", "temperature", "device")}
        rows.append({"model": path.stem, "weights before training": weights} | chosen)
    if not rows:
        return "No model cards were found."
    return to_markdown(pd.DataFrame(rows).astype({"seed": "Int64"}), decimals=3)


def _missing(study: Study, results: pd.DataFrame) -> str:
    """The study's detectors, protocols and test sets that have no result."""
    expected = [("direct", network.name) for network in study.direct]
    expected += [(approach, None) for approach in ("fourier", "autoencoder", "metadata")]
    lines = []
    for approach, model in expected:
        where = []
        for protocol in PROTOCOLS:
            rows = results[(results["approach"] == approach) & (results["protocol"] == protocol)]
            rows = rows if model is None else rows[rows["model"] == model]
            absent = [name for name in study.test_sets if name not in set(rows["test_set"])]
            if absent:
                where.append(f"`{protocol}`" + (f" on {', '.join(absent)}" if len(rows) else ""))
        if where:
            lines.append(f"- {approach}{f' {model}' if model else ''}: protocol {', '.join(where)}")
    return "\n".join(lines) or "Every detector of the study was run under every protocol on every test set."


def _figures(study: Study) -> str:
    """Links to the figures that lie beside the page."""
    names = sorted(path.name for path in study.figures.glob("[!.]*.png"))
    if not study.simulated:  # they show people's faces, and stay where they were made
        return "Not in the repository, since they show people: " + ", ".join(names)
    return "\n".join(f"- [{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in names) or "None yet."


def _environment() -> str:
    """Versions of what the numbers depend on."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue  # a backend that is not installed, or another build of OpenCV
    return ", ".join(found) + "."


# The README's tables ----------------------------------------------------------------------------------------------


def readme_table(study: Study) -> str:
    """AUC of every detector on every test set under both protocols, in Markdown, for the README.

    A cell is `report → controlled`. Where the report has a row of the same model and test set, its own AUC stands
    behind it in brackets.
    """
    results = _in_reading_order(study, read_results(study))
    auc = results[results["metric"] == "auc"].set_index(["model", "test_set", "protocol"])["value"]
    theirs = read_report_tables().set_index(["model", "approach", "test_set"])["auc"] / 100
    names = {"Fourier_DenseNet": ("DenseNet_V2", "fourier"), "Autoencoder_classifier": ("Autoencoder", "autoencoder")}
    rows = []
    for model in results["model"].unique():
        cells = {"detector": model}
        for test_set in study.test_sets:
            before, after = (auc.get((model, test_set, protocol), np.nan) for protocol in PROTOCOLS)
            given = theirs.get((*names.get(model, (model, "direct")), test_set), np.nan)
            cells[test_set] = f"{before:.2f} → {after:.2f}" + ("" if np.isnan(given) else f" [{given:.2f}]")
        rows.append(cells)
    return to_markdown(pd.DataFrame(rows))


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
