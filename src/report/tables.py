"""The tables of notebooks, summary page and README: which rows of `results.csv` they show.

`results` are always rows of `evaluation.results.read_results`, and what a function returns stands
in their order: see `in_reading_order`. Reads the report's own numbers in `data/report/`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ..config import PROTOCOLS, ROOT, STRENGTHS, Study
from ..evaluation.intervals import difference
from ..evaluation.results import ALL_SEEDS, DETECTOR_KEYS, OWN
from ..pictures.steps import parse

REPORT = ROOT / "data" / "report"
# The report's columns → our metrics. Its precision, recall and F1 are those of the class real.
REPORT_METRICS = dict(
    accuracy="accuracy", precision="precision_real", recall="recall_real", f1="f1_real", auc="auc"
)
# What the report calls otherwise: (approach, its name) → ours.
REPORT_MODELS = {
    ("fourier", "DenseNet_V2"): "Fourier_DenseNet",
    ("autoencoder", "Autoencoder"): "Autoencoder_classifier",
}
F1_TOLERANCE = 0.2  # points; roundings to 0.01 explain less
ACCURACY_TOLERANCE = 0.5  # points; a few lost images unbalance a set
NETWORKS = ("direct", "probe", "fourier", "autoencoder")
_HEADLINE = "own_training and own_seed and own_reals"


# Texts, and tables of them -----------------------------------------------------------------------


def interval(value: float, low: float, high: float, decimals: int = 3) -> str:
    """A value with its interval: `"0.973 [0.951, 0.990]"`."""
    return f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def against_chance(row: pd.Series) -> str:
    """Where the interval of an AUC (`ci_low`, `ci_high`) lies against 0.5, in words."""
    if row.ci_low > 0.5:
        return "better than chance"
    return "worse than chance" if row.ci_high < 0.5 else "not better than chance"


def wide(
    rows: pd.DataFrame, index: str | list[str], columns: str | list[str], values: str | Sequence
) -> pd.DataFrame:
    """A wide table, its rows and columns in the order in which they first occur; else NaN.

    Args:
        rows: A row for each cell.
        index: The column of `rows`, or several, that name a row of the table.
        columns: The same for the columns of the table.
        values: The column of `rows` to show, or one value for each of `rows`.

    Raises:
        ValueError: If two of `rows` belong in one cell.
    """
    values = rows[values] if isinstance(values, str) else list(values)
    table = rows.assign(_shown=values).pivot(index=index, columns=columns, values="_shown")
    index, columns = (rows.set_index(names).index.unique() for names in (index, columns))
    return table.reindex(index=index, columns=columns)


def interval_table(
    rows: pd.DataFrame,
    index: str | list[str],
    columns: str | list[str],
    *,
    value: str = "value",
    decimals: int = 3,
) -> pd.DataFrame:
    """The column `value` with `ci_low` and `ci_high` as texts in a `wide` table, else `"–"`.

    Networks that did not learn have a † if the AUC at home is among the rows: see `with_daggers`.
    """
    rows = _with_own_daggers(rows)
    numbers = rows[[value, "ci_low", "ci_high"]].to_numpy(float)
    return wide(rows, index, columns, [interval(*row, decimals) for row in numbers]).fillna("–")


def difference_table(
    rows: pd.DataFrame, index: str | list[str], columns: str | list[str]
) -> pd.DataFrame:
    """As `interval_table`, of `comparisons.differences`; a star marks what is significant."""
    texts = [
        f"{row.difference:+.2f} [{row.ci_low:+.2f}, {row.ci_high:+.2f}]{' *' * row.significant}"
        for row in rows.itertuples()
    ]
    return wide(rows, index, columns, texts).fillna("–")


def metric_table(rows: pd.DataFrame, index: str | list[str]) -> pd.DataFrame:
    """Accuracy, precision, recall, F1 and AUC as columns; † as in `interval_table`."""
    rows = _with_own_daggers(rows)
    table = wide(rows, index, "metric", "value")
    return table.reindex(columns=["accuracy", "precision", "recall", "f1", "auc"])


def values_and_bounds(rows: pd.DataFrame, index: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Values by `index` and test set, and the texts of their intervals, for `charts.heat_map`."""
    texts = [f"{row.ci_low:.2f}–{row.ci_high:.2f}" for row in rows.itertuples()]
    values = wide(rows, index, "test_set", "value")
    name = {"model": "detector", "train_set": "trained on"}.get(index, index)
    return values.rename_axis(index=name, columns="tested on"), wide(rows, index, "test_set", texts)


# Which rows of results.csv -----------------------------------------------------------------------


def marked(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The rows with four more columns, by which `query` chooses among them.

    `own_training`: of a detector trained as the study says (not the matrix, `Matrix_…`, which
    trains on every generator in turn), or of a baseline fitted on the test set; `own_seed`: not of
    an extra seed, nor of the mean over all; `own_reals`: against the test set's own real
    photographs; `unconditional`: of the test set as it is, without a condition (`auc@jpeg:50`).
    """
    as_said = results["train_set"] == study.train_set
    return results.assign(
        own_training=(as_said & ~results["model"].str.startswith("Matrix_"))
        | results["model"].str.endswith(OWN),
        own_seed=results["seed"] == study.seed,
        own_reals=results["real_source"] == results["test_set"].map(study.test_sets),
        unconditional=~results["metric"].str.contains("@", regex=False),
    )


def headline(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The rows that stand for the study: means over seeds, where there are several trainings.

    Apart from the seed, all that `marked` says of them is true.
    """
    rows = marked(study, results).query("own_training and own_reals and unconditional")
    rows = rows[rows["own_seed"] | (rows["seed"] == ALL_SEEDS)][[*results]]
    keys = [*DETECTOR_KEYS[:-1], "test_set", "metric"]
    return rows[rows["num_seeds"] == rows.groupby(keys)["num_seeds"].transform("max")]


def unlearned(auc: pd.DataFrame) -> pd.Series:
    """Which rows are of a network that did not learn, and so proves nothing elsewhere.

    On at least one generator that it was trained on, its AUC is not better than chance. The
    reconstruction error (`Autoencoder_error`) is trained on no generator.

    Args:
        auc: Rows of AUC, those of the generators trained on among them.
    """
    at_home = [row.test_set in row.train_set.split("+") for row in auc.itertuples()]
    learned = (auc["ci_low"] > 0.5).where(np.array(at_home, bool), True)
    keys = [auc[key] for key in DETECTOR_KEYS]
    return ~learned.groupby(keys).transform("all") & (
        auc["approach"].isin(NETWORKS) & (auc["model"] != "Autoencoder_error")
    )


def with_daggers(rows: pd.DataFrame, auc: pd.DataFrame) -> pd.DataFrame:
    """The rows with † after the names of networks that did not learn, by `unlearned(auc)`."""
    keys = ["protocol", "model", "train_set"]
    found = pd.MultiIndex.from_frame(auc.loc[unlearned(auc), keys])
    failed = pd.MultiIndex.from_frame(rows[keys]).isin(found)
    return rows.assign(model=rows["model"].mask(failed, rows["model"] + " †"))


def _with_own_daggers(rows: pd.DataFrame) -> pd.DataFrame:
    """`with_daggers` by the AUC among the rows, if they are of `results.csv`."""
    if not {*DETECTOR_KEYS, "test_set", "metric"} <= set(rows):
        return rows
    return with_daggers(rows, rows[rows["metric"] == "auc"])


def conditions(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The rows `metric@kind:level` of the headline detectors, if there are, in-domain only.

    Returns:
        The rows with `name` (the metric), `kind` and `level`, and `is_step`: whether the condition
        is a step of `pictures.steps`, done to the pictures; otherwise it is a part of the test set.
    """
    rows = marked(study, results).query(f"{_HEADLINE} and not unconditional")[[*results]]
    in_domain = rows["test_set"] == study.train_set
    rows = rows[in_domain | (not in_domain.any())]
    parts = rows["metric"].str.extract(
        r"^(?P<name>[^@]*)@(?P<condition>(?P<kind>[^:]*):?(?P<level>.*))$"
    )
    is_step = [_is_step(condition) for condition in parts.pop("condition")]
    return rows.assign(**parts, is_step=np.array(is_step, bool))


def _is_step(condition: str) -> bool:
    try:
        return bool(parse(condition))
    except ValueError:
        return False


def auc_by_condition(study: Study, results: pd.DataFrame, *, steps: bool) -> pd.DataFrame:
    """In-domain AUC of the headline detectors: on all pictures, and under each condition.

    `steps` takes degraded pictures, otherwise parts of the test set.
    """
    rows = conditions(study, results)
    rows = pd.concat([headline(study, results), rows[rows["is_step"] == steps]])
    return rows[rows["metric"].str.match("auc(@|$)") & (rows["test_set"] == study.train_set)]


def in_reading_order(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """Rows by protocol, then baselines before networks, then test sets in the study's order."""
    names = [*PROTOCOLS, "metadata", "geometry", "pixels", "pca", *NETWORKS]
    baselines = ["Metadata", "Face_box", "Pixel_statistics"]
    names += [name + end for name in baselines for end in ("", OWN)]
    for network in study.direct:
        names += [network.name, f"{network.name}_imagenet", f"{network.name}_unit"]
    names += study.test_sets
    return _sorted(results, ["protocol", "approach", "model", "test_set"], names)


def _sorted(rows: pd.DataFrame, columns: list[str], names: list[str]) -> pd.DataFrame:
    """Rows by columns whose values stand in the order of `names`; others come last."""
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return rows.sort_values(
        columns, key=lambda values: values.map(places).fillna(len(places)), kind="stable"
    )


# One question each -------------------------------------------------------------------------------


def in_domain_and_elsewhere(study: Study, auc: pd.DataFrame) -> pd.DataFrame:
    """AUC of each detector on the generator it was trained on, and its mean over the others."""
    places = np.where(auc["test_set"] == study.train_set, "in-domain", "elsewhere, on average")
    return _means(auc.assign(place=places), ["protocol", "model"], "place")


def _means(rows: pd.DataFrame, index: list[str], columns: str) -> pd.DataFrame:
    means = rows.groupby([*index, columns], sort=False)["value"].mean().reset_index()
    return wide(means, index, columns, "value")


def significant(differences: pd.DataFrame) -> pd.DataFrame:
    """How many of `comparisons.differences` are significant on each test set, and which."""
    rows = []
    for test_set, of_set in differences.groupby("test_set", sort=False):
        found = [
            f"{_model(row.first)} {'>' if row.difference > 0 else '<'} {_model(row.second)}"
            for row in of_set[of_set["significant"]].itertuples()
        ]
        rows.append((test_set, f"{len(found)} of {len(of_set)}", ", ".join(found)))
    return pd.DataFrame(rows, columns=["tested on", "significant", "which"])


def _model(model_id: str) -> str:
    return model_id.rpartition("-")[0]


def strengths(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """AUC on the same pictures at rising strength of the generator's trace, `controlled`.

    Returns:
        Rows of `results.csv` with `strength`; none where the study has no such pictures.
    """
    rows = headline(replace(study, test_sets=study.aligned), results)
    rows = rows[rows["test_set"].isin(STRENGTHS) & (rows["metric"] == "auc")]
    rows = rows[(rows["protocol"] == "controlled") & ~rows["model"].str.endswith(OWN)]
    return rows.assign(strength=rows["test_set"].map(STRENGTHS)).sort_values("strength")


def first_seen(rows: pd.DataFrame) -> pd.Series:
    """The least strength from which on a detector's interval stays above 0.5, by model.

    NaN where that is at no strength. The rows are those of `strengths`.
    """
    seen = rows.assign(seen=rows["ci_low"] > 0.5).sort_values("strength", ascending=False)
    stays = seen.groupby("model")["seen"].cummin()
    return seen["strength"].where(stays).groupby(seen["model"]).min().rename("seen from")


def seeds(study: Study, results: pd.DataFrame, decimals: int = 2) -> pd.DataFrame:
    """AUC over the trainings of a detector with several seeds.

    Returns:
        One row for each `protocol`, `model` and `test_set`: `mean`, `std`, `size`, and `text`,
        for example `"0.84 ± 0.12 (3)"`.
    """
    rows = marked(study, results).query("own_training and own_reals and metric == 'auc'")
    rows = rows[rows["seed"] != ALL_SEEDS]
    groups = rows.groupby(["protocol", "model", "test_set"], sort=False)["value"]
    table = groups.agg(["mean", "std", "size"]).query("size > 1").reset_index()
    numbers = zip(table["mean"], table["std"], table["size"])
    texts = [f"{mean:.{decimals}f} ± {std:.{decimals}f} ({size})" for mean, std, size in numbers]
    return table.assign(text=texts)


def matrix(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """AUC under `controlled` of the networks trained on each generator, and on all but one.

    Returns:
        Rows with `train_set` in words (`"all but insight"`), `seen`: whether the test set's
        generator was trained on, and `learned`: see `unlearned`.
    """
    rows = marked(study, results[results["model"].str.startswith("Matrix_")])
    rows = rows.query("own_seed and own_reals and metric == 'auc' and protocol == 'controlled'")
    words = {frozenset([name]): name for name in study.test_sets}
    words |= {frozenset(study.test_sets) - {name}: f"all but {name}" for name in study.test_sets}
    trained = [frozenset(names.split("+")) for names in rows["train_set"]]
    rows = rows.assign(
        seen=[test_set in names for test_set, names in zip(rows["test_set"], trained)],
        learned=~unlearned(rows),
        train_set=[
            words.get(names, text.replace("+", " + "))
            for names, text in zip(trained, rows["train_set"])
        ],
    )
    names = [*sorted(rows["approach"].unique()), *words.values()]
    return _sorted(rows, ["approach", "train_set"], names)


def learned_networks(study: Study, results: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """AUC, networks × test sets, under one protocol, of those that learned: see `unlearned`."""
    auc = headline(study, results).query("metric == 'auc' and protocol == @protocol")
    auc = auc[auc["approach"].isin(NETWORKS) & (auc["model"] != "Autoencoder_error")]
    return wide(auc[~unlearned(auc)], "model", "test_set", "value")


def rank_agreement_in_words(study: Study, results: pd.DataFrame, protocol: str) -> str:
    """One sentence on `comparisons.rank_agreement` of `learned_networks`."""
    from ..evaluation.comparisons import rank_agreement  # imports Keras, which takes seconds

    found = rank_agreement(learned_networks(study, results, protocol))
    where = (
        f"{found['num_detectors']} networks that learned at home and {found['num_test_sets']} "
        f"test sets under {protocol}"
    )
    if np.isnan(found["w"]):
        return f"With {where} there are too few ranks to compare."
    alike = "more alike than by chance" if found["p_value"] < 0.05 else "not shown to agree"
    return (
        f"Over {where}, ranks by AUC are {alike}: Kendall's W = {found['w']:.2f} "
        f"(1: all sets rank alike), p = {found['p_value']:.2g} by permutation."
    )


def leak_worth(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """AUC under `report` with a split by group and with one by picture.

    Returns:
        The rows of `extended.leak_worth`, of every seed and of their mean, in the study's order.
    """
    rows = results[results["model"].str.match("Matrix_by_") & (results["metric"] == "auc")]
    rows = rows[rows["test_set"].map(study.test_sets) == rows["real_source"]]
    return _sorted(rows, ["test_set", "model"], [*study.test_sets])


def leak_differences(rows: pd.DataFrame) -> pd.DataFrame:
    """What the split by picture adds in AUC, by test set: from the means in `leak_worth`."""
    rows = rows[rows["seed"] == ALL_SEEDS].set_index("test_set")
    groups, pictures = (
        rows[rows["model"] == name] for name in ("Matrix_by_group", "Matrix_by_picture")
    )
    found = difference(pictures, groups.reindex(pictures.index))
    return found.reset_index().assign(num_seeds=pictures["num_seeds"].to_numpy())


def leak_in_words(differences: pd.DataFrame) -> str:
    """One sentence on `leak_differences`; empty without rows."""
    if differences.empty:
        return ""
    texts = [
        f"{row.value:+.2f} [{row.ci_low:+.2f}, {row.ci_high:+.2f}] on {row.test_set}"
        for row in differences.itertuples()
    ]
    shown = (differences["ci_low"] > 0) | (differences["ci_high"] < 0)
    return (
        f"A split by picture instead of by group changes the AUC under report by "
        f"{', '.join(texts)} (mean of {differences['num_seeds'].min()} trainings each): "
        f"{shown.sum()} of {len(shown)} intervals exclude 0."
    )


def matrix_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean AUC on generators trained on, and on others, of networks of `matrix` that learned."""
    rows = rows[rows["learned"]]
    several = rows["train_set"].astype(str).str.contains(r"all but|\+")
    rows = rows.assign(
        trained_on=several.map({False: "one generator", True: "several"}),
        tested_on=rows["seen"].map({True: "generators it saw", False: "others"}),
    )
    return _means(rows, ["model", "trained_on"], "tested_on")


def foreign(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """AUC of the same fakes against their own photographs, which come first, and others."""
    rows = marked(study, results).query("own_training and own_seed and metric == 'auc'")
    sources = rows.groupby(["protocol", "model", "test_set"])["real_source"]
    rows = rows[sources.transform("nunique") > 1]
    return rows.sort_values("own_reals", ascending=False, kind="stable")


def false_alarms(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """Share of real photographs called fake at the validation threshold: own ones, and others."""
    rows = marked(study, results).query(
        "own_training and own_seed and metric == 'fpr_at_threshold' and num_fake == 0"
    )
    own = headline(study, results).query("metric == 'recall_real_at_threshold'")
    own = own[own["model"].isin(rows["model"]) & (own["test_set"] == study.train_set)]
    own = own.assign(value=1 - own["value"], ci_low=1 - own["ci_high"], ci_high=1 - own["ci_low"])
    return pd.concat([own.assign(real_source=own["real_source"] + " (its own)"), rows])


# The report's tables -----------------------------------------------------------------------------


def read_report_tables() -> pd.DataFrame:
    """The report's tables 5.1 to 5.6: `table, approach, model, train_set, test_set`; percent."""
    return pd.read_csv(REPORT / "report_tables.csv", dtype={"table": str})


def read_report_histories() -> dict[str, pd.DataFrame]:
    """The report's two training histories, by model; fractions."""
    histories = pd.read_csv(REPORT / "report_histories.csv")
    return {
        model: rows.drop(columns="model").reset_index(drop=True)
        for model, rows in histories.groupby("model")
    }


def contradictions(reference: pd.DataFrame) -> pd.Series:
    """What in a row of the report's tables cannot be, given its own precision P and recall R.

    F1 is their harmonic mean, 2PR / (P + R). And with as many fakes as reals, a share R (1 − P) / P
    of the fakes is called real: it cannot exceed 1, and the accuracy is the mean of R and of the
    share of fakes called fake.

    Args:
        reference: As `read_report_tables` returns it, percent.

    Returns:
        A sentence for each row; empty where nothing is wrong, or the report gives too few numbers.
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


def report_table(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The headline results under `report` next to the report's own numbers, in percent.

    Precision, recall and F1 are those of the class real at 0.5, as the report computed them.

    Returns:
        One row for each `approach`, `model`, `train_set` and `test_set`: `…_report` and `…_ours`
        for each of `REPORT_METRICS`, NaN where only one side has the row, and `contradiction`.
    """
    given = read_report_tables()
    names = [REPORT_MODELS.get(key, key[1]) for key in zip(given["approach"], given["model"])]
    given = given.assign(model=names, contradiction=contradictions(given)).drop(columns="table")
    keys, metrics = ["approach", "model", "train_set", "test_set"], REPORT_METRICS.values()
    ours = headline(study, results).query("protocol == 'report' and approach in @given.approach")
    ours = ours[ours["metric"].isin(metrics)]
    ours = ours.pivot(index=keys, columns="metric", values="value").reindex(columns=[*metrics])
    ours = ours.mul(100).set_axis([*REPORT_METRICS], axis=1).reset_index()
    both = given.merge(ours, how="outer", on=keys, suffixes=("_report", "_ours"))
    order = pd.concat([given, ours])[keys].to_numpy().ravel("F")
    both = _sorted(both, ["approach", "test_set", "model"], order.tolist())
    both["contradiction"] = both["contradiction"].fillna("")
    columns = [f"{name}_{side}" for name in REPORT_METRICS for side in ("report", "ours")]
    return both[[*keys, *columns, "contradiction"]].reset_index(drop=True)


def report_texts(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `report_table` with `"report / ours"` in a cell."""
    texts = table[["model", "train_set", "test_set"]].copy()
    for name in REPORT_METRICS:
        given, ours = (
            table[f"{name}_{side}"].map("{:.1f}".format, na_action="ignore").fillna("–").astype(str)
            for side in ("report", "ours")
        )
        texts[name] = given + " / " + ours
    return texts.join(table["contradiction"])
