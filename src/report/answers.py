"""The five sentences that open the summary page. They choose their words by the numbers.

Reads rows of `figures/<study>/results.csv` and, to choose a network by validation, the training histories in
`models/<study>/`; writes nothing.
"""

import pandas as pd

from ..config import PROTOCOLS, Study

VERDICTS = {
    "above": "better than a coin",
    "around": "not told apart from a coin",
    "below": "worse than a coin",
}


def five_sentences(study: Study, auc: pd.DataFrame) -> list[str]:
    """Five sentences: the file alone; networks on pixels at home, and elsewhere; Fourier; the autoencoder.

    Args:
        study: Gives training set and names, and the histories by which one network is chosen to speak for the others.
        auc: The headline rows of the metric `auc`, from `tables.with_texts`.
    """
    controlled = auc[auc["protocol"] == "controlled"]
    pixels = controlled[controlled["model"].isin([network.name for network in study.direct])]
    best = chosen_by_validation(study, pixels)
    return [
        _file_alone(study, auc),
        *_pixels(study, pixels, best),
        _fourier(study, controlled, best),
        _autoencoder(study, controlled),
    ]


def chosen_by_validation(study: Study, auc: pd.DataFrame) -> str | None:
    """The detector with the highest validation AUC under `controlled`, at the epoch that was kept.

    Test results play no part. `None` where a detector's training history is missing, or there is no detector.
    """
    models = auc.loc[auc["test_set"] == study.train_set, "model"]
    paths = {model: study.models / f"{model}-controlled.history.csv" for model in models}
    if not all(path.is_file() for path in paths.values()):
        return None
    histories = {model: pd.read_csv(path).sort_values("val_loss") for model, path in paths.items()}
    kept = {
        model: history["val_auc"].iloc[0] for model, history in histories.items()
    }  # at the lowest loss
    return max(kept, key=kept.get, default=None)


def _file_alone(study: Study, auc: pd.DataFrame) -> str:
    rows = auc.query("approach == 'metadata' and test_set == @study.train_set").drop_duplicates(
        "protocol"
    )
    rows = rows.set_index("protocol")
    if not set(PROTOCOLS) <= set(rows.index):
        return "What the file alone tells is not known (notebook 2)."
    care = ", so that results under `controlled` are to be read with care"
    meaning = {
        (
            True,
            False,
        ): "the files as they lie tell the classes apart, and the control takes that away",
        (
            True,
            True,
        ): f"the files as they lie tell the classes apart, and the control leaves some of it{care}",
        (False, False): "no shortcut is found in the headers, with the control or without it",
        (False, True): f"it is the control that leaves a difference between the files{care}",
    }[tuple(rows.loc[protocol, "side"] != "around" for protocol in PROTOCOLS)]
    return (
        f"The file alone, without a look at a pixel, separates {study.train_set} from photographs with an AUC of "
        f"{rows.loc['report', 'text']} under `report` and of {rows.loc['controlled', 'text']} under `controlled`: "
        f"{meaning}."
    )


def _pixels(study: Study, auc: pd.DataFrame, best: str | None) -> tuple[str, str]:
    """What the chosen network reaches at home, and elsewhere; without one, what all of them reach."""
    home, away = _home_and_away(study, auc, best)
    where = (
        f"on test pictures of {study.train_set}, the generator of the training, under `controlled`"
    )
    networks = count(auc["model"].nunique(), "network")
    if home.empty:
        first = f"How well networks on pixels do {where} is not known (notebook 3)."
    elif best is None:
        first = (
            f"Of {networks} on pixels none speaks for the others, since not all have a history in "
            f"`models/{study.name}/` to choose it by; {where} they reach AUCs from "
            f"{' to '.join(home.sort_values('value')['text'].iloc[[0, -1]])}."
        )
    else:
        first = (
            f"`{best}`, which of {networks} on pixels has the highest AUC on validation pictures, reaches "
            f"{home['text'].iloc[0]} {where}: {VERDICTS[home['side'].iloc[0]]}."
        )
    if away.empty:
        return (
            first,
            "How much of it carries over to generators that were not trained on is not known (notebook 3).",
        )
    if best is None:
        return (
            first,
            f"On generators that they were not trained on, networks on pixels have {counted(away)}.",
        )
    ends = [
        f"{row.text} on {row.test_set}"
        for row in away.sort_values("value").iloc[[0, -1]].itertuples()
    ]
    range_ = (
        f"{away['value'].mean():.2f} on average, from {' to '.join(ends)}"
        if len(away) > 1
        else ends[0]
    )
    carried = "" if home["side"].iloc[0] == "above" else "; there was nothing sure to carry over"
    generators = count(len(away), "generator")
    return (
        first,
        f"On {generators} not trained on, `{best}` reaches {range_}, with {counted(away)}{carried}.",
    )


def _fourier(study: Study, auc: pd.DataFrame, best: str | None) -> str:
    name = study.fourier.name
    (home, away), (other, others) = (
        _home_and_away(study, auc, model) for model in (name, best or "")
    )
    if home.empty:
        return f"How `{name}`, the network on Fourier spectra, does under `controlled` is not known (notebook 4)."
    home = home.iloc[0]
    text = f"`{name}`, on Fourier spectra, reaches {home['text']} on {study.train_set}: {VERDICTS[home['side']]}"
    if best is None:
        return f"{text}; no network on pixels is singled out to set it beside."
    other = other.iloc[0]
    beside = "with an interval that overlaps that"
    if home["ci_low"] > other["ci_high"] or home["ci_high"] < other["ci_low"]:
        beside = f"{'above' if home['value'] > other['value'] else 'below'} the interval"
    both = away.merge(others, on="test_set", suffixes=("", "_other"))
    elsewhere = "how the two compare on other generators is not known"
    if len(both):
        means = f"{both['value'].mean():.2f} against {both['value_other'].mean():.2f}"
        elsewhere = f"on {count(len(both), 'other generator')} the two reach {means} on average"
    return f"{text}, {beside} of `{best}`; {elsewhere}."


def _autoencoder(study: Study, auc: pd.DataFrame) -> str:
    detectors = {
        "Autoencoder_classifier": "the classifier on the autoencoder's embeddings",
        "Autoencoder_error": "the reconstruction error alone, which needs no fake to learn from,",
    }
    parts = []
    for name, what in detectors.items():
        home, away = _home_and_away(study, auc, name)
        known = [f"reaches {row.text}, {VERDICTS[row.side]}" for row in home.itertuples()]
        mean = f", and {away['value'].mean():.2f} on average elsewhere" if len(away) else ""
        parts.append(f"{what} {known[0] if known else 'has no result (notebook 5)'}{mean}")
    return f"On {study.train_set} under `controlled`, {'; '.join(parts)}."


def _home_and_away(
    study: Study, rows: pd.DataFrame, model: str | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of a detector, or of all, on the generator of the training, and those on others."""
    rows = rows if model is None else rows[rows["model"] == model]
    home = rows["test_set"] == study.train_set
    return rows[home], rows[~home]


def counted(rows: pd.DataFrame) -> str:
    """How many of the rows' intervals lie above 0.5, and how many below."""
    above, below = ((rows["side"] == side).sum() for side in ("above", "below"))
    return f"{above} of {count(len(rows), 'interval')} above 0.5 and {below} below it"


def count(number: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> count(1, "network"), count(1200, "network")
        ('1 network', '1,200 networks')
    """
    return f"{number:,} {noun}" + "s" * (number != 1)
