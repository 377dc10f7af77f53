"""The report's own tables and training histories (`data/report/`), and ours beside them."""

from itertools import product

import numpy as np
import pandas as pd

from ..config import ROOT, Study
from . import tables

REPORT = ROOT / "data" / "report"
# The report's columns → our metrics. Its precision, recall and F1 are those of the class real.
REPORT_METRICS = dict(
    accuracy="accuracy", precision="precision_real", recall="recall_real", f1="f1_real", auc="auc"
)
# Where the report has another name: (approach, its name) → ours.
REPORT_MODELS = {
    ("fourier", "DenseNet_V2"): "Fourier_DenseNet",
    ("autoencoder", "Autoencoder"): "Autoencoder_classifier",
}
F1_TOLERANCE = 0.2  # points; roundings to 0.01 explain less
ACCURACY_TOLERANCE = 0.5  # points; a few lost images unbalance a set


def read_tables() -> pd.DataFrame:
    """The report's tables 5.1 to 5.6: `table, approach, model, train_set, test_set`; percent."""
    return pd.read_csv(REPORT / "report_tables.csv", dtype={"table": str})


def read_histories() -> dict[str, pd.DataFrame]:
    """The report's two training histories, by model; fractions."""
    histories = pd.read_csv(REPORT / "report_histories.csv").groupby("model")
    return {model: rows.drop(columns="model").reset_index(drop=True) for model, rows in histories}


def contradictions(reference: pd.DataFrame) -> pd.Series:
    """What is impossible in a row of the report's tables, given its own precision P and recall R.

    F1 is their harmonic mean, 2PR / (P + R). And with as many fakes as reals, a share R (1 − P) / P
    of the fakes is called real: it cannot exceed 1, and the accuracy is the mean of R and of the
    share of fakes called fake. Empty where nothing is wrong, or the report gives too few numbers.
    """
    sentences = []
    for row in reference.itertuples():
        precision, recall = row.precision / 100, row.recall / 100
        f1 = 200 * precision * recall / (precision + recall)
        called_real = 100 * recall * (1 - precision) / precision
        accuracy = (100 * recall + 100 - called_real) / 2
        parts = []
        if abs(row.f1 - f1) > F1_TOLERANCE:
            parts.append(f"F1 {row.f1:.2f}: precision and recall give {f1:.2f}")
        if called_real > 100:
            parts.append(f"precision and recall: need {called_real:.0f} % of the fakes called real")
        elif abs(row.accuracy - accuracy) > ACCURACY_TOLERANCE:
            parts.append(f"accuracy {row.accuracy:.2f}: precision and recall give {accuracy:.2f}")
        sentences.append("; ".join(parts))
    return pd.Series(sentences, index=reference.index, dtype=object)


def beside_ours(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The headline results under `report` next to the report's own numbers, in percent.

    One row for each `approach`, `model`, `train_set` and `test_set`: `…_report` and `…_ours` for
    each of `REPORT_METRICS`, NaN where only one side has the row, and `contradiction`.
    """
    given = read_tables()
    names = [REPORT_MODELS.get(key, key[1]) for key in zip(given["approach"], given["model"])]
    given = given.assign(model=names, contradiction=contradictions(given)).drop(columns="table")
    keys, metrics = ["approach", "model", "train_set", "test_set"], [*REPORT_METRICS.values()]
    chosen = "protocol == 'report' and approach in @given.approach and metric in @metrics"
    ours = tables.headline(study, results).query(chosen)
    ours = ours.pivot(index=keys, columns="metric", values="value").reindex(columns=metrics)
    ours = ours.mul(100).set_axis([*REPORT_METRICS], axis=1).reset_index()
    both = given.merge(ours, how="outer", on=keys, suffixes=("_report", "_ours"))
    order = pd.concat([given, ours])[keys].to_numpy().ravel("F")
    both = tables.in_order(both, ["approach", "test_set", "model"], order.tolist())
    columns = [f"{name}_{side}" for name in REPORT_METRICS for side in ("report", "ours")]
    both = both[[*keys, *columns, "contradiction"]].reset_index(drop=True)
    return both.fillna({"contradiction": ""})


def texts(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `beside_ours` with `"report / ours"` in a cell."""
    texts = table[["model", "train_set", "test_set"]].copy()
    for name in REPORT_METRICS:
        pair = (table[f"{name}_{side}"] for side in ("report", "ours"))
        report, ours = (side.map("{:.1f}".format).where(side.notna(), "–") for side in pair)
        texts[name] = report.astype(str) + " / " + ours.astype(str)
    return texts.join(table["contradiction"])


def conclusions(study: Study, auc: pd.DataFrame, best: str | None, against) -> list[tuple]:
    """The report's conclusions: what it says, whether that holds here, by which numbers.

    `auc` are rows under one protocol, `best` is the network that represents those on pixels and
    `against` the paired differences of the network on spectra from it. No rows where a detector or
    test set is missing.
    """
    near, far = (study.train_set, "text2img"), ("insight", "gan140k")
    models = best, study.fourier.name, study.autoencoder.classifier.name
    found = {(row.model, row.test_set): row for row in auc.itertuples()}
    if against.empty or not {*product(models, near + far)} <= set(found):
        return []
    parts = [{name: found[model, name] for name in near + far} for model in models]
    texts = [", ".join(f"{row.text} on {name}" for name, row in part.items()) for part in parts]
    direct, home = parts[0], [part[study.train_set] for part in parts]
    strong = all(direct[name].verdict == "better than chance" for name in near)
    falls = min(direct[name].ci_low for name in near) > max(direct[name].ci_high for name in far)
    rises = max(direct[name].ci_low for name in far) > min(direct[name].ci_high for name in near)
    at_chance = all(direct[name].verdict != "better than chance" for name in far)
    pairs = against.loc[[*far]]
    signs = np.sign(pairs["difference"]) * pairs["significant"]
    at_home = home[1].verdict == "better than chance"
    weak = home[2].ci_high < min(row.ci_low for row in home[:2])
    rivals = home[2].ci_low > min(row.ci_high for row in home[:2])
    shown = pairs[["difference", "ci_low", "ci_high"]].itertuples()
    differences = ", ".join(f"{tables.signed(*row)} on {name}" for name, *row in shown)
    return [
        (
            "The direct approach is strong on Stable Diffusion, near chance on face-swaps and GANs",
            _holds(strong and falls and at_chance, strong and falls, rises),
            f"`{best}`: {texts[0]}",
        ),
        (
            "The Fourier approach is strong in-domain and carries over a little better to them",
            _holds(at_home and (signs > 0).all(), at_home and (signs > 0).any(), (signs < 0).any()),
            f"`{models[1]}`: {texts[1]}; from `{best}` (first training) {differences}",
        ),
        ("The autoencoder is weak", _holds(weak, False, rivals), f"`{models[2]}`: {texts[2]}"),
    ]


def _holds(wholly: bool, partly: bool, contradicted: bool) -> str:
    if wholly:
        return "holds"
    if partly:
        return "holds in part"
    return "does not hold" if contradicted else "not decided"
