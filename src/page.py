"""The summary page of a study: one text, written as Markdown and as one HTML file that needs nothing beside it.

Reads `figures/<study>/results.csv` and figures, and where they are there the model cards, training histories, scores
and records; writes `figures/<study>/summary.md` and `summary.html`. Sentences choose their words by the numbers.
"""

import base64
import html
import importlib.metadata
import io
import json
import platform
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from string import Template
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
from markdown_it import MarkdownIt
from PIL import Image

from . import catalog, evaluation, reporting
from .config import LABELS, PROTOCOLS, ROOT, SPLITS, Study
from .reporting import escape, headline, interval, to_markdown

# Figures with a word of these in their name show pictures of people; of real people they stay where they were made.
PEOPLE = "samples pictures mistakes reconstructions explanations spectra errors faces cam crops occlusion".split()
AT_A_GLANCE = "06_auc_controlled.png"
NETWORKS = ("direct", "fourier", "autoencoder")
PACKAGES = "keras tensorflow jax numpy scipy scikit-learn pandas pillow opencv-python-headless".split()
MAX_FIGURE_BYTES = 4_400_000  # of all figures together; base64 makes a third more of it

# Tables of what `make extended` runs: title, how to read it, function.
EXTENDED = (
    (
        "Several seeds",
        "AUC as mean ± standard deviation over training runs that differ in nothing but the seed (in brackets: how "
        "many); a difference between detectors that is not clearly larger than these deviations may be luck.",
        reporting.seeds_table,
    ),
    (
        "Trained on every generator in turn",
        "A row is a training set, a column a test set, all under `controlled`; **in bold** what the network was "
        "trained on, so what is not bold is what carries over.",
        reporting.matrix_table,
    ),
    (
        "The same fakes against other real photographs",
        "AUC of one set of fakes, first against its own reals; where it changes with the reals, the detector "
        "reacts to where photographs come from and not only to what was generated.",
        reporting.foreign_table,
    ),
    (
        "False alarms on real photographs that nobody trained on",
        "Share of real photographs called fake at the threshold chosen on the validation split, with its 95 % "
        "interval; 0 is ideal, and more than on its own reals means that unfamiliar photographs are accused.",
        reporting.false_alarm_table,
    ),
    (
        "Robustness",
        "AUC / accuracy at the validation threshold after the test pictures were degraded, beside those of the "
        "unchanged pictures; an accuracy that falls while the AUC holds means that only the threshold has moved.",
        reporting.robustness_tables,
    ),
    (
        "Parts of the test set",
        "AUC with intervals on parts of the test set, n pictures each; a detector serves two groups alike only if "
        "their intervals overlap widely.",
        reporting.subgroup_table,
    ),
    (
        "Where the networks look",
        "Share of the Grad-CAM heat inside the altered region, with its 95 % interval, / the share that chance would "
        "put there; no more than chance means that the network does not look at what was altered.",
        reporting.attention_table,
    ),
)


def write_summary(study: Study) -> list[Path]:
    """Writes `figures/<study>/summary.md` and `summary.html`.

    Args:
        study: Whose results, cards, scores and figures to read.

    Returns:
        The two files' paths.

    Raises:
        FileNotFoundError: If no results have been written.
    """
    results = reporting.in_reading_order(study, evaluation.read_results(study))
    text = summary(study, results)
    page = to_html(text, f"True or Fake: {study.name}", study.figures)
    if not study.simulated:  # whose figures lie beside the page on this machine only
        text = re.sub(r"^!\[(.*)\]\(.*\)$", r"- \1: in `summary.html`", text, flags=re.MULTILINE)
    return [
        evaluation.write_atomically(
            study.figures / f"summary.{kind}", lambda beside, body=body: beside.write_text(body, encoding="utf-8")
        )
        for kind, body in (("md", text), ("html", page))
    ]


def summary(study: Study, results: pd.DataFrame) -> str:
    """The page in Markdown, with links to figures that lie beside it."""
    tables, missing = numbers(study, results)
    unseen = [name for name in study.test_sets if name != study.train_set]
    sections = [
        f"# True or Fake: the study `{study.name}`",
        f"*{study.description[0].upper() + study.description[1:]}.*",
        "> **Simulated data.** Every picture behind this page was drawn by a simulator; none is a photograph. The "
        "numbers show that the method works, not how well detectors do on real faces."
        if study.simulated
        else "",
        "## The question",
        "Can a network tell a real face photograph from a generated one, and does what it learns on one generator "
        f"({study.train_set}) carry over to others ({', '.join(unseen) or 'none here'})? And is it the face that it "
        "looks at, or a trait of the file?",
        "## The answer in five sentences",
        "\n".join(f"{place}. {sentence}" for place, sentence in enumerate(answers(study, results), start=1)),
        "AUC is the area under the ROC curve on held-out pictures: 1 is perfect, 0.5 is a coin. `report` prepares "
        "pictures as the original study did; `controlled` first gives both classes the same geometry and compression. "
        f"In brackets: 95 % intervals from {study.num_resamples:,} resamples of groups of pictures; means over "
        "generators have none.",
        f"![{_caption(AT_A_GLANCE)}]({AT_A_GLANCE})" if (study.figures / AT_A_GLANCE).is_file() else "",
        "## The numbers",
        *tables,
        "## A sceptical reader asks",
        *(f"### {question}\n\n{answer}" for question, answer in sceptic(study, results).items()),
        "## The audit: what needs no look at a face",
        "`Metadata` sees the file's header and no pixel, `PCA_probe` the pixels through principal components and one "
        "plane; AUC with intervals, and a network that does not beat these rows has shown nothing about faces.",
        reporting.audit_table(study, results) or "There are no such rows (notebook 2).",
        "## Beside the report's own tables",
        _beside_the_report(study, results),
        "## Figures",
        _figures(study),
        "## What was not run",
        "\n".join(_missing(study, results) + missing) or "Everything that the study names was run.",
        "## Environment",
        _environment(),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


# The answer ------------------------------------------------------------------------------------------------------


def answers(study: Study, results: pd.DataFrame) -> list[str]:
    """Five sentences: the file alone, the networks on pixels at home and elsewhere, Fourier, the autoencoder."""
    rows = headline(study, results).query("metric == 'auc'")
    best = chosen_by_validation(study, rows)
    return [
        _file_alone(study, rows),
        _at_home(study, rows, best),
        _elsewhere(study, rows, best),
        _fourier(study, rows, best),
        _autoencoder(study, rows),
    ]


def chosen_by_validation(study: Study, rows: pd.DataFrame) -> str | None:
    """The network on pixels with the highest validation AUC, under `controlled`, at the epoch that was kept.

    Test results play no part in it. `None` if no training history is there.
    """
    found = {}
    for model in rows.query("approach == 'direct' and protocol == 'controlled'")["model"].unique():
        path = study.models / f"{model}-controlled.history.csv"
        history = pd.read_csv(path) if path.is_file() else pd.DataFrame()
        if {"val_loss", "val_auc"} <= set(history):
            found[model] = history.sort_values("val_loss")["val_auc"].iloc[0]  # the epoch of the lowest loss is kept
    return max(found, key=found.get, default=None)


def verdict(row: pd.Series) -> str:
    """What an AUC's interval says of it."""
    if row["ci_low"] > 0.5:
        return "better than a coin"
    return "worse than a coin" if row["ci_high"] < 0.5 else "not told apart from a coin"


def _auc(row: pd.Series) -> str:
    return interval(row["value"], row["ci_low"], row["ci_high"])


def _find(rows: pd.DataFrame, model: str | None, test_set: str, protocol: str = "controlled") -> pd.Series | None:
    found = rows[(rows["model"] == model) & (rows["test_set"] == test_set) & (rows["protocol"] == protocol)]
    return None if found.empty else found.iloc[0]


def _away(study: Study, rows: pd.DataFrame, model: str | None) -> pd.DataFrame:
    """A detector's rows under `controlled` on the generators that it was not trained on."""
    return rows[(rows["model"] == model) & (rows["protocol"] == "controlled") & (rows["test_set"] != study.train_set)]


def _file_alone(study: Study, rows: pd.DataFrame) -> str:
    rows = rows[rows["approach"] == "metadata"]
    model = rows["model"].iloc[0] if len(rows) else None
    before, after = (_find(rows, model, study.train_set, protocol) for protocol in PROTOCOLS)
    if before is None or after is None:
        return f"What the file alone tells on {study.train_set} is not known under both protocols (notebook 2)."
    told = [not row["ci_low"] <= 0.5 <= row["ci_high"] for row in (before, after)]
    meaning = {
        (True, False): "the files as they lie give the fakes away without a look at the picture, and the control takes "
        "that away",
        (True, True): "the files as they lie give the fakes away without a look at the picture, and the control has "
        "not taken all of it away, so that results under `controlled` are to be read with care, too",
        (False, False): "no shortcut was found in the headers of the files, with the control or without it",
        (False, True): "the control itself has left a difference between the files, so that results under "
        "`controlled` are to be read with care",
    }[tuple(told)]
    return (
        f"The file alone (`{model}`, which sees no pixel) separates {study.train_set} from photographs with an AUC of "
        f"{_auc(before)} under `report` and {_auc(after)} under `controlled`: {meaning}."
    )


def _at_home(study: Study, rows: pd.DataFrame, best: str | None) -> str:
    where = f"on test pictures of {study.train_set}, which they were trained on, under `controlled`"
    home = rows[(rows["approach"] == "direct") & (rows["protocol"] == "controlled")]
    home = home[home["test_set"] == study.train_set].sort_values("value")
    if home.empty:
        return f"How well networks on pixels do {where} is not known (notebook 3)."
    row = _find(rows, best, study.train_set)
    if row is None:
        return (
            f"The networks on pixels reach AUCs from {_auc(home.iloc[0])} to {_auc(home.iloc[-1])} {where}; none is "
            f"singled out, since the validation histories that would choose one are not in `models/{study.name}`."
        )
    return (
        f"Of the {_count(len(home), 'network')} on pixels `{best}` has the highest AUC on validation pictures, and so "
        f"speaks for them: on test pictures of {study.train_set}, the generator it was trained on, it reaches an AUC "
        f"of {_auc(row)} under `controlled`, {verdict(row)}."
    )


def _elsewhere(study: Study, rows: pd.DataFrame, best: str | None) -> str:
    away, home = _away(study, rows, best), _find(rows, best, study.train_set)
    if best is None:
        models = rows.loc[rows["approach"] == "direct", "model"].unique()
        away = pd.concat([_away(study, rows, model) for model in models] or [rows.iloc[:0]])
    if away.empty:
        return "How much of it carries over to generators that they were not trained on is not known (notebook 3)."
    above, below = int((away["ci_low"] > 0.5).sum()), int((away["ci_high"] < 0.5).sum())
    counted = f"{above} of {_count(len(away), 'interval')} {'lies' if above == 1 else 'lie'} above 0.5, {below} below"
    if best is None:
        return f"On generators that the networks on pixels were not trained on, {counted} it."
    lowest, highest = away.loc[away["value"].idxmin()], away.loc[away["value"].idxmax()]
    span = f"{_auc(lowest)} on {lowest['test_set']}"
    if len(away) > 1:
        span = f"{away['value'].mean():.2f} on average, from {span} to {_auc(highest)} on {highest['test_set']}"
    if home is not None and verdict(home) != "better than a coin":
        meaning = "there was nothing sure to carry over"
    elif above == len(away):
        meaning = "what it learnt carries over to each of them, at least in part"
    else:
        meaning = f"what it learnt is shown to carry over to {above or 'none'} of them"
    return f"On the {_count(len(away), 'generator')} it was not trained on its AUC is {span}: {counted}, and {meaning}."


def _fourier(study: Study, rows: pd.DataFrame, best: str | None) -> str:
    name = study.fourier.name
    row, other = _find(rows, name, study.train_set), _find(rows, best, study.train_set)
    if row is None:
        return f"How the network on Fourier spectra (`{name}`) compares is not known under `controlled` (notebook 4)."
    text = f"The network on Fourier spectra reaches {_auc(row)} on {study.train_set}, {verdict(row)}"
    if other is not None:
        apart = row["ci_low"] > other["ci_high"] or row["ci_high"] < other["ci_low"]
        word = "above" if row["value"] > other["value"] else "below"
        meaning = f"which lies {word} that of" if apart else "with an interval that overlaps that of"
        text += f", {meaning} `{best}`"
    away, others = (_away(study, rows, model).set_index("test_set")["value"] for model in (name, best))
    shared = away.index.intersection(others.index) if len(others) else away.index
    if shared.empty:
        return text + "; elsewhere it was not tested."
    beside = f" against {others[shared].mean():.2f}" if len(others) else ""
    return f"{text}; on {_count(len(shared), 'other generator')} its mean AUC is {away[shared].mean():.2f}{beside}."


def _autoencoder(study: Study, rows: pd.DataFrame) -> str:
    parts = []
    for name, what in (
        ("Autoencoder_classifier", "the classifier on the autoencoder's embeddings"),
        ("Autoencoder_error", "its reconstruction error alone, which never saw a fake,"),
    ):
        row, away = _find(rows, name, study.train_set), _away(study, rows, name)
        if row is None:
            parts.append(f"{what.rstrip(',')} was not scored on {study.train_set} under `controlled` (notebook 5)")
        else:
            elsewhere = f" (mean elsewhere: {away['value'].mean():.2f})" if len(away) else ""
            parts.append(f"{what} reaches {_auc(row)}, {verdict(row)}{elsewhere}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


# The tables ------------------------------------------------------------------------------------------------------


def numbers(study: Study, results: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The tables, each after a sentence that says how to read it; and a line for each that has no rows."""
    sections, missing = [], []
    for protocol in PROTOCOLS:
        accuracy, at_threshold = (
            reporting.accuracy_table(study, results, protocol, suffix) for suffix in ("", "_at_threshold")
        )
        for title, how, table in (
            (
                f"AUC under `{protocol}`",
                "Detectors down, what their fakes were made by across; *in italics* the interval holds 0.5 (a coin), "
                f"with ▼ all of it lies below. All were trained on {study.train_set}.",
                reporting.auc_table(study, results, protocol),
            ),
            (
                f"Accuracy / F1 under `{protocol}` at 0.5",
                "A picture is called fake from a score of 0.5 on; F1 is that of the class fake, and 0.67 is what "
                "calling everything fake gives where both classes are equally large.",
                accuracy,
            ),
            (
                f"Accuracy / F1 under `{protocol}` at the validation threshold",
                "The same at the threshold that was best on validation pictures of the training generator.",
                at_threshold,
            ),
        ):
            if table:
                sections += [f"### {title}", how, table]
    difference = reporting.difference_table(study, results)
    if difference:
        how = "AUC under `controlled` minus AUC under `report`: what falls was owed to the files, not to the pictures; "
        how += "**in bold** where the two intervals do not overlap."
        sections += ["### What the control takes away", how, difference]
    command = f"make extended{'' if study.name == 'demo' else f' STUDY={study.name}'}"
    for title, how, function in EXTENDED:
        table = function(study, results)
        if table:
            sections += [f"### {title}", how, table]
        elif function is reporting.false_alarm_table and not study.unseen_reals:
            missing.append(f"- {title}: the study names no such photographs")
        elif function is reporting.foreign_table and not study.foreign_reals:
            missing.append(f"- {title}: the study names no other photographs")
        else:
            missing.append(f"- {title}: `{command}`")
    return sections, missing


def _beside_the_report(study: Study, results: pd.DataFrame) -> str:
    reference = reporting.read_report_tables()
    wrong = int((reporting.contradictions(reference) != "").sum())
    found = (
        f"{wrong} of the report's {len(reference)} rows contradict themselves: their F1 or accuracy does not follow from "
        "their own precision and recall."
    )
    table = reporting.beside_the_report(results)
    if not table:
        return f"No detector here has a row in the report's tables (it trained on inpainting). {found}"
    like = "simulated pictures, so only the form compares" if study.simulated else "the pictures of this study"
    return (
        "The report / ours, in percent, under `report` at 0.5; precision, recall and F1 are those of the class *real*, "
        f"as the report computed them, and ours are of {like}.\n\n{table}\n\n{found}"
    )


def _missing(study: Study, results: pd.DataFrame) -> list[str]:
    """The study's detectors, protocols and test sets that have no headline result, a line each."""
    rows = headline(study, results)
    expected = {network.name: 3 for network in study.direct} | {study.fourier.name: 4, "Autoencoder_classifier": 5}
    lines = []
    for model, notebook in ({"Metadata": 2, "PCA_probe": 2} | expected).items():
        absent = []
        for protocol in PROTOCOLS:
            have = set(rows.loc[(rows["model"] == model) & (rows["protocol"] == protocol), "test_set"])
            sets = [name for name in study.test_sets if name not in have]
            if sets:
                absent.append(f"`{protocol}`" + (f" on {', '.join(sets)}" if have else ""))
        if absent:
            lines.append(f"- {model} under {' and '.join(absent)}: notebook {notebook}, or `make reproduce`")
    return lines
