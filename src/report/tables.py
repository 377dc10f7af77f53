"""The tables of notebooks, summary page and README: which rows of `results.csv` they show.

`results` are always rows of `evaluation.results.read_results`. What a function returns keeps their
order: see `in_reading_order`.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from ..config import PROTOCOLS, STRENGTHS, Study
from ..evaluation.intervals import ABOVE_CHANCE, BELOW_CHANCE, difference
from ..evaluation.results import ALL_SEEDS, DETECTOR_KEYS, OWN
from ..pictures.steps import STEPS

NETWORKS = ("direct", "probe", "fourier", "autoencoder", "fusion")
# These learnt from photographs alone.
WITHOUT_FAKES = ("Autoencoder_error", "Autoencoder_unexplained")


def interval(value: float, low: float, high: float) -> str:
    """A value with its interval: `"0.97 [0.95, 0.99]"`."""
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def signed(value: float, low: float, high: float) -> str:
    """A difference with its interval: `"+0.02 [-0.01, +0.05]"`."""
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def against_chance(row) -> str:
    """Where the interval of an AUC (`ci_low`, `ci_high`) lies against 0.5, in words."""
    if row.ci_low > ABOVE_CHANCE:
        return "better than chance"
    return "worse than chance" if row.ci_high < BELOW_CHANCE else "not better than chance"


def wide(rows: pd.DataFrame, index, columns, values) -> pd.DataFrame:
    """A wide table; rows and columns keep the order of their first occurrence, gaps are NaN.

    `index` and `columns` are columns of `rows`, or lists of them; `values` is a column or one value
    for each of `rows`. Two rows for one cell are a `ValueError`.
    """
    values = rows[values] if isinstance(values, str) else list(values)
    table = rows.assign(_shown=values).pivot(index=index, columns=columns, values="_shown")
    index, columns = (rows.set_index(names).index.unique() for names in (index, columns))
    return table.reindex(index=index, columns=columns)


def interval_table(
    rows: pd.DataFrame, index, columns, *, value: str = "value", auc: pd.DataFrame | None = None
) -> pd.DataFrame:
    """A `wide` table of texts: each `value` with `ci_low` and `ci_high`; a gap is `"–"`.

    Networks that did not learn have a †, judged by `auc` or else by `rows`: see `with_daggers`.
    """
    rows = with_daggers(rows, auc)
    numbers = rows[[value, "ci_low", "ci_high"]].to_numpy(float)
    return wide(rows, index, columns, [interval(*row) for row in numbers]).fillna("–")


def difference_table(rows: pd.DataFrame, index, columns) -> pd.DataFrame:
    """As `interval_table`, of `comparisons.differences`; a star marks what is significant."""
    texts = [
        signed(row.difference, row.ci_low, row.ci_high) + " *" * row.significant
        for row in rows.itertuples()
    ]
    return wide(rows, index, columns, texts).fillna("–")


def metric_table(rows: pd.DataFrame, index) -> pd.DataFrame:
    """Accuracy, precision, recall, F1 and AUC as columns; † as in `interval_table`."""
    table = wide(with_daggers(rows), index, "metric", "value")
    return table.reindex(columns=["accuracy", "precision", "recall", "f1", "auc"])


def marked(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The rows with four more columns, by which `query` chooses among them.

    `own_training`: of a detector trained as the study says (not `Beyond_…`, nor `Matrix_…`, which
    trains on every generator in turn), or of a baseline fitted on the test set; `own_seed`: not of
    an extra seed, nor of the mean over all; `own_reals`: against the test set's own real
    photographs; `unconditional`: of the test set as it is, without a condition (`auc@jpeg:50`).
    """
    as_said = results["train_set"] == study.train_set
    return results.assign(
        own_training=(as_said & ~results["model"].str.startswith(("Matrix_", "Beyond_")))
        | results["model"].str.endswith(OWN),
        own_seed=results["seed"] == study.seed,
        own_reals=results["real_source"] == results["test_set"].map(study.test_sets),
        unconditional=~results["metric"].str.contains("@", regex=False),
    )


def headline(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The rows that represent the study: means over seeds, where there are several trainings."""
    chosen = "own_training and own_reals and unconditional and (own_seed or seed == @ALL_SEEDS)"
    rows = marked(study, results).query(chosen)[[*results]]
    keys = [*DETECTOR_KEYS[:-1], "test_set", "metric"]
    return rows[rows["num_seeds"] == rows.groupby(keys)["num_seeds"].transform("max")]


def _at_home(rows: pd.DataFrame) -> np.ndarray:
    """Which rows are of a generator that the detector was trained on."""
    pairs = zip(rows["test_set"], rows["train_set"])
    return np.array([test_set in train_set.split("+") for test_set, train_set in pairs], bool)


def _is_trained(rows: pd.DataFrame) -> pd.Series:
    """Which rows are of a network that was trained on fakes."""
    return rows["approach"].isin(NETWORKS) & ~rows["model"].isin(WITHOUT_FAKES)


def unlearned(auc: pd.DataFrame) -> pd.Series:
    """Which rows are of a network that did not learn, and so proves nothing elsewhere.

    On at least one generator that it was trained on, its AUC is not better than chance: `auc` must
    hold the rows of these generators.
    """
    learned = (auc["ci_low"] > ABOVE_CHANCE).where(_at_home(auc), True)
    keys = [auc[key] for key in DETECTOR_KEYS]
    return ~learned.groupby(keys).transform("all") & _is_trained(auc)


def with_daggers(rows: pd.DataFrame, auc: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows with † after the names of networks that did not learn, by `unlearned(auc)`.

    Without `auc`, the rows of AUC among `rows` decide, if they are of `results.csv`.
    """
    if auc is None:
        if not {*DETECTOR_KEYS, "test_set", "metric"} <= set(rows):
            return rows
        auc = rows[rows["metric"] == "auc"]
    keys = ["protocol", "model", "train_set"]
    found = pd.MultiIndex.from_frame(auc.loc[unlearned(auc), keys])
    failed = pd.MultiIndex.from_frame(rows[keys]).isin(found)
    return rows.assign(model=rows["model"].mask(failed, rows["model"] + " †"))


def conditions(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """The rows `metric@kind:level` of the headline detectors; the in-domain ones, if there are any.

    They have `name` (the metric), `kind`, `level` and `is_step`: whether the condition is a step of
    `pictures.steps`, done to the pictures; otherwise it is a part of the test set.
    """
    chosen = "own_training and own_seed and own_reals and not unconditional"
    rows = marked(study, results).query(chosen)[[*results]]
    in_domain = rows["test_set"] == study.train_set
    rows = rows[in_domain | (not in_domain.any())]
    parts = rows["metric"].str.extract("^(?P<name>[^@]*)@(?P<kind>[^:]*):?(?P<level>.*)$")
    return rows.assign(**parts, is_step=parts["kind"].isin(STEPS))


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
    baselines = ["Metadata", "Face_box", "Pixel_statistics", "Spectral_peak"]
    names += [name + end for name in baselines for end in ("", OWN)]
    ends = ("", "_imagenet", "_unit", "_resize", "_aliased", "_centre")
    names += [network.name + end for network in (*study.direct, study.probe) for end in ends]
    names += study.test_sets
    return in_order(results, ["protocol", "approach", "model", "test_set"], names)


def in_order(rows: pd.DataFrame, columns: list[str], names: list[str]) -> pd.DataFrame:
    """Rows by columns whose values stand in the order of `names`; others come last."""
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return rows.sort_values(
        columns, key=lambda values: values.map(places).fillna(len(places)), kind="stable"
    )


def in_domain_and_elsewhere(study: Study, auc: pd.DataFrame) -> pd.DataFrame:
    """AUC of each detector on the generator it was trained on, and its mean over the others."""
    places = np.where(auc["test_set"] == study.train_set, "in-domain", "elsewhere, on average")
    groups = auc.assign(place=places).groupby(["protocol", "model", "place"], sort=False)
    return groups["value"].mean().unstack(sort=False)


def significant(differences: pd.DataFrame) -> pd.DataFrame:
    """How many of `comparisons.differences` are significant on each test set, and which."""
    first, second = (differences[n].str.rsplit("-", n=1).str[0] for n in ("first", "second"))
    names = first + np.where(differences["difference"] > 0, " > ", " < ") + second
    names = names.where(differences["significant"])
    by_set = names.groupby(differences["test_set"].rename("tested on"), sort=False)
    return by_set.agg(
        significant=lambda names: f"{names.count()} of {names.size}",
        which=lambda names: ", ".join(names.dropna()),
    ).reset_index()


def strengths(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """AUC on the same pictures at rising `strength` of the generator's trace, `controlled`.

    No rows where the study has no such pictures.
    """
    rows = headline(replace(study, test_sets=study.aligned), results)
    rows = rows.assign(strength=rows["test_set"].map(STRENGTHS)).dropna(subset="strength")
    rows = rows.query("metric == 'auc' and protocol == 'controlled'")
    return rows[~rows["model"].str.endswith(OWN)].sort_values("strength", kind="stable")


def first_seen(rows: pd.DataFrame) -> pd.Series:
    """By model, the lowest strength from which on it is better than chance; or NaN."""
    seen = rows.assign(seen=rows["ci_low"] > ABOVE_CHANCE).sort_values("strength", ascending=False)
    stays = seen.groupby("model")["seen"].cummin()
    return seen["strength"].where(stays).groupby(seen["model"]).min().rename("seen from")


def seeds(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """Protocols, models and test sets with several trainings: `text`, as `"0.84 ± 0.12 (3)"`."""
    rows = marked(study, results).query("own_training and own_reals and metric == 'auc'")
    rows = rows[rows["seed"] != ALL_SEEDS]
    groups = rows.groupby(["protocol", "model", "train_set", "test_set"], sort=False)["value"]
    table = groups.agg(["mean", "std", "size"]).query("size > 1").reset_index()
    texts = [f"{row.mean:.2f} ± {row.std:.2f} ({row.size})" for row in table.itertuples()]
    return table.assign(text=texts)


def matrix(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """AUC under `controlled` of the networks trained on each generator, and on all but one.

    `train_set` is in words (`"all but insight"`), `seen` says whether the test set's generator was
    trained on, `learned` is the opposite of `unlearned`.
    """
    rows = marked(study, results[results["model"].str.startswith("Matrix_")])
    rows = rows.query("own_seed and own_reals and metric == 'auc' and protocol == 'controlled'")
    sets = [*study.test_sets]
    words = {"+".join(each for each in sets if each != name): f"all but {name}" for name in sets}
    trained_on = rows["train_set"].replace(words).str.replace("+", " + ", regex=False)
    rows = rows.assign(seen=_at_home(rows), learned=~unlearned(rows), train_set=trained_on)
    names = [*sorted(rows["approach"].unique()), *sets, *words.values()]
    return in_order(rows, ["approach", "train_set"], names)


def matrix_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean AUC on generators trained on, and on others, of networks of `matrix` that learned."""
    rows = rows[rows["learned"]]
    several = rows["train_set"].astype(str).str.contains(r"all but|\+")
    rows = rows.assign(
        trained_on=several.map({False: "one generator", True: "several"}),
        tested_on=rows["seen"].map({True: "generators it saw", False: "others"}),
    )
    groups = rows.groupby(["model", "trained_on", "tested_on"], sort=False)
    return groups["value"].mean().unstack(sort=False)


def values_and_bounds(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Values and the texts of their intervals of one network of `matrix`, for `charts.heat_map`."""
    bounds = [f"{row.ci_low:.2f}–{row.ci_high:.2f}" for row in rows.itertuples()]
    rows = rows.rename(columns={"train_set": "trained on", "test_set": "tested on"})
    return tuple(wide(rows, "trained on", "tested on", cells) for cells in ("value", bounds))


def rank_agreement_in_words(study: Study, results: pd.DataFrame, protocol: str) -> str:
    """One sentence on `comparisons.rank_agreement` of the networks that learned."""
    from ..evaluation.comparisons import rank_agreement  # imports Keras, which takes seconds

    auc = headline(study, results).query("metric == 'auc' and protocol == @protocol")
    values = wide(auc[_is_trained(auc) & ~unlearned(auc)], "model", "test_set", "value").dropna()
    w, p_value = rank_agreement(values)
    where = "{} networks that learned in-domain and {} test sets".format(*values.shape)
    if np.isnan(w):
        return f"With {where} under {protocol} there are too few ranks to compare."
    alike = "more alike than by chance" if p_value < 0.05 else "not shown to agree"
    return (
        f"Over {where} under {protocol}, ranks by AUC are {alike}: Kendall's W = {w:.2f} (1: all "
        f"sets rank alike), p = {p_value:.2g} by Friedman's test, which takes sets as independent."
    )


def leak_worth(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """AUC under `report`, split by group and by picture (`extended.leak_worth`), of every seed."""
    rows = marked(study, results[results["model"].str.startswith("Matrix_by_")])
    rows = rows.query("own_reals and metric == 'auc'")
    return in_order(rows, ["test_set", "model"], [*study.test_sets])


def leak_in_words(rows: pd.DataFrame) -> str:
    """What the split by picture adds in AUC, from the means in `leak_worth`; empty without rows."""
    means = rows[rows["seed"] == ALL_SEEDS].set_index("test_set")
    if means.empty:
        return ""
    groups, pictures = (means[means["model"] == f"Matrix_by_{by}"] for by in ("group", "picture"))
    found = difference(pictures, groups.reindex(pictures.index))
    texts = [f"{signed(*row)} on {test_set}" for test_set, *row in found.itertuples()]
    shown = (found["ci_low"] > 0) | (found["ci_high"] < 0)
    return (
        f"A split by picture instead of by group changes the AUC under report by "
        f"{', '.join(texts)} (mean of {pictures['num_seeds'].min()} trainings each): "
        f"{shown.sum()} of {len(shown)} intervals exclude 0."
    )


def foreign(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """AUC of the same fakes against their own photographs, which come first, and others."""
    rows = marked(study, results).query("own_training and own_seed and metric == 'auc'")
    sources = rows.groupby(["protocol", "model", "test_set"])["real_source"]
    rows = rows[sources.transform("nunique") > 1]
    return rows.sort_values("own_reals", ascending=False, kind="stable")


def false_alarms(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """Share of real photographs called fake at the validation threshold: own ones, and others."""
    chosen = "own_training and own_seed and metric == 'fpr_at_threshold' and num_fake == 0"
    rows = marked(study, results).query(chosen)
    own = headline(study, results).query("metric == 'recall_real_at_threshold'")
    own = own[own["model"].isin(rows["model"]) & (own["test_set"] == study.train_set)]
    own = own.assign(value=1 - own["value"], ci_low=1 - own["ci_high"], ci_high=1 - own["ci_low"])
    return pd.concat([own.assign(real_source=own["real_source"] + " (its own)"), rows])
