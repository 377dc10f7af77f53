"""The summary page of a study: one text, written as Markdown and as one HTML file that needs nothing beside it.

Reads `figures/<study>/results.csv` and figures and, where they are there, model cards, training histories, scores and
records; writes `figures/<study>/summary.md` and `summary.html`. No number is typed, and the sentences choose their
words by the numbers.
"""

import base64
import html
import importlib.metadata
import io
import json
import platform
import re
from itertools import groupby
from pathlib import Path
from string import Template
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
from markdown_it import MarkdownIt
from PIL import Image, ImageOps

from . import catalog, evaluation, reporting
from .config import PROTOCOLS, ROOT, Study
from .reporting import escape, to_markdown

# A figure with one of these words in its name shows pictures; those of real people stay where they were made.
PEOPLE = "samples pictures mistakes reconstructions explanations spectra errors faces cam crops occlusion".split()
AT_A_GLANCE = "06_auc_controlled.png"
MAX_BYTES = 4_300_000  # of all embedded figures together; base64 makes them a third larger
NETWORKS = ("direct", "fourier", "autoencoder")
VERDICTS = {"above": "better than a coin", "around": "not told apart from a coin", "below": "worse than a coin"}
PACKAGES = "keras tensorflow jax numpy scipy scikit-learn pandas pillow opencv-python-headless".split()
TABLES = {
    "difference": reporting.difference_table,
    "seeds": reporting.seeds_table,
    "matrix": reporting.matrix_table,
    "foreign": reporting.foreign_table,
    "false_alarms": reporting.false_alarm_table,
    "robustness": reporting.robustness_tables,
    "subgroups": reporting.subgroup_table,
    "attention": reporting.attention_table,
    "audit": reporting.audit_table,
}
EXTENDED = ("seeds", "matrix", "robustness", "subgroups", "attention")  # what `make extended` adds

PAGE = """\
# True or Fake: the study `$name`

$banner

## The question
Can a network tell a real face photograph from a generated one, and does what it learns on one generator ($train_set)
carry over to others ($unseen)? And is it the picture that it looks at, or the file?

## The answer in five sentences
$answers

AUC is the area under the ROC curve on held-out pictures: 1 is perfect, 0.5 is a coin. `report` prepares pictures as the
original study did; `controlled` first gives both classes the same geometry and compression. In brackets: 95 % intervals
from $num_resamples resamples of whole groups of pictures; means over generators have none.

$at_a_glance

## The numbers
Detectors down, test sets across; unless a table says otherwise, all were trained on $train_set.

### AUC under `controlled`
This is the table to quote: *in italics* the interval holds 0.5 (a coin); with ▼ all of it lies below, which means that
these fakes look more real to the detector than the photographs do.

$auc_controlled

### AUC under `report`
The same on pictures as the original study prepared them, for comparison with its tables.

$auc_report

### What the control takes away
AUC under `controlled` minus AUC under `report`: what falls by more than the luck of a training was owed to the files,
not to the pictures; **in bold** the two intervals do not overlap.

$difference

### Accuracy / F1 under `controlled`
From a score of 0.5 on a picture is called fake; calling all of them fake gives 0.50 / 0.67 where both classes are
equally large:

$accuracy_controlled

The same at the threshold that was best on validation pictures; where the two tables differ, 0.5 did not fit:

$threshold_controlled

### Accuracy / F1 under `report`
From a score of 0.5 on, as the original study decided:

$accuracy_report

At the threshold that was best on validation pictures:

$threshold_report

### Several seeds
AUC as mean ± standard deviation over trainings that differ in nothing but the seed (in brackets, how many): a
difference between detectors that is not clearly larger may be luck.

$seeds

### Trained on every generator in turn
AUC under `controlled`, training sets down, test sets across: **in bold** what the network was trained on, so that all
the rest is what carries over.

$matrix

### The same fakes against other real photographs
AUC of the same fakes, first against their own reals: where it changes with the reals, the detector reacts to where
photographs come from, not only to what was generated.

$foreign

### False alarms on photographs that nobody trained on
Share of real photographs called fake at the validation threshold: 0 is ideal, and more than on its own reals means that
the detector accuses what it does not know.

$false_alarms

### Robustness
AUC / accuracy at the validation threshold on degraded test pictures: where accuracy falls and AUC holds, only the
threshold no longer fits.

$robustness

### Parts of the test set
AUC on parts of the test set, n pictures each: parts whose intervals do not overlap are not served alike.

$subgroups

### Where the networks look
Share of the Grad-CAM heat inside the altered region / the share that chance puts there: no more than chance means that
the network does not look at what was altered.

$attention

## A sceptical reader asks
**Is there a leak between training and test?** $leak

**Is there a shortcut?** $shortcut

**Is it better than chance?** $chance

**How many pictures?** $pictures

**Which threshold?** $threshold

**Which seeds?** $which_seeds

**What did the backbones start from?** $cards

**Was anything tuned on the test set?** Nothing is chosen by results on test pictures: the epoch is kept by validation
loss, threshold and temperature are fitted on validation pictures, and the network that speaks for the others above is,
where there is one, chosen by its validation AUC. What no page can show is how the settings in `src/config.py` were
arrived at.

## The audit: what needs no look at a face
AUC of `Metadata`, which sees the file's header and no pixel, and of `PCA_probe`, a plane through principal components:
a network that does not beat these rows has shown nothing about faces.

$audit

## Beside the report's own tables
$beside_the_report

## Figures
$figures

## What was not run
$missing

## Environment
$environment
"""
SIMULATED = """\
> **Simulated data.** Every picture behind this page was drawn by a simulator; none is a photograph. The numbers show
> that the method works, not how well detectors do on real faces."""


def write_summary(study: Study) -> list[Path]:
    """Writes `figures/<study>/summary.md` and `summary.html`.

    Args:
        study: Whose results, cards, scores and figures to read.

    Returns:
        The paths of the two files.

    Raises:
        FileNotFoundError: If no results have been written.
    """
    text = summary(study, evaluation.read_results(study))
    bodies = {"md": text, "html": to_html(text, f"True or Fake: {study.name}", study.figures)}
    if not study.simulated:  # git does not take its figures: links to them would be dead
        bodies["md"] = re.sub(r"^!\[(.*)\]\(.*\)$", r"*In `summary.html`: \1*", text, flags=re.MULTILINE)
    return [
        evaluation.write_atomically(
            study.figures / f"summary.{kind}", lambda beside, body=body: beside.write_text(body, encoding="utf-8")
        )
        for kind, body in bodies.items()
    ]


def summary(study: Study, results: pd.DataFrame) -> str:
    """The page in Markdown, with links to the figures that lie beside it.

    Args:
        study: Whose cards, scores, records and figures to read.
        results: As `evaluation.read_results` returns it.
    """
    results = reporting.in_reading_order(study, results)
    auc = reporting.with_texts(reporting.headline(study, results).query("metric == 'auc'"))
    scores, records = _scores(study, auc), _records(study)
    tables = {name: table(study, results) for name, table in TABLES.items()}
    for protocol in PROTOCOLS:
        tables[f"auc_{protocol}"] = reporting.auc_table(study, results, protocol)
        tables[f"accuracy_{protocol}"] = reporting.accuracy_table(study, results, protocol, "")
        tables[f"threshold_{protocol}"] = reporting.accuracy_table(study, results, protocol, "_at_threshold")
    sections, left_out = [], {}
    for section in re.split(r"^(?=##)", PAGE, flags=re.MULTILINE):
        names = [name for name in re.findall(r"^\$(\w+)$", section, re.MULTILINE) if name in tables]
        if names and not any(tables[name] for name in names):
            left_out[names[0]] = section.splitlines()[0].lstrip("# ")
        else:
            sections.append(section)
    page = Template("".join(sections)).substitute(
        {name: table or "There are no such rows." for name, table in tables.items()},
        name=study.name,
        banner=SIMULATED if study.simulated else f"Data: {study.description}.",
        train_set=study.train_set,
        unseen=", ".join(name for name in study.test_sets if name != study.train_set),
        num_resamples=f"{study.num_resamples:,}",
        answers="\n".join(f"{place}. {sentence}" for place, sentence in enumerate(answers(study, auc), start=1)),
        at_a_glance=_figure(AT_A_GLANCE) if (study.figures / AT_A_GLANCE).is_file() else "",
        leak=_leak(scores, records),
        shortcut=_shortcut(study, auc),
        chance=_chance(study, auc),
        pictures=_pictures(study, auc, records),
        threshold=_threshold(study, scores),
        which_seeds=_which_seeds(study, results),
        cards=_cards(study, auc),
        beside_the_report=_beside_the_report(study, results),
        figures=_figures(study),
        missing=_missing(study, auc, left_out),
        environment=_environment(),
    )
    return re.sub(r"\n{3,}", "\n\n", page)


# The answer ------------------------------------------------------------------------------------------------------


def answers(study: Study, auc: pd.DataFrame) -> list[str]:
    """Five sentences: the file alone; networks on pixels at home, and elsewhere; Fourier; the autoencoder.

    Args:
        study: Gives training set and names, and the histories by which one network is chosen to speak for the others.
        auc: The headline rows of the metric `auc`, from `reporting.with_texts`.
    """
    controlled = auc[auc["protocol"] == "controlled"]
    pixels = controlled[controlled["model"].isin([network.name for network in study.direct])]
    best = chosen_by_validation(study, pixels)
    return [
        _file_alone(study, auc[auc["approach"] == "metadata"]),
        _at_home(study, pixels, best),
        _elsewhere(study, pixels, best),
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
    kept = {model: history["val_auc"].iloc[0] for model, history in histories.items()}  # at the lowest loss
    return max(kept, key=kept.get, default=None)


def _home_and_away(study: Study, auc: pd.DataFrame, model: str | None) -> tuple[pd.Series | None, pd.DataFrame]:
    """A detector's row on the generator it was trained on, and its rows on the others."""
    rows = auc[auc["model"] == model]
    home = rows["test_set"] == study.train_set
    return rows[home].iloc[0] if home.any() else None, rows[~home]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


def _file_alone(study: Study, auc: pd.DataFrame) -> str:
    rows = auc[auc["test_set"] == study.train_set].drop_duplicates("protocol").set_index("protocol")
    if not set(PROTOCOLS) <= set(rows.index):
        return "What the file alone tells is not known: there is no such row under both protocols (notebook 2)."
    care = ", so that results under `controlled` are to be read with care"
    meaning = {
        (True, False): "the files as they lie tell the classes apart, and the control takes that away",
        (True, True): f"the files as they lie tell the classes apart, and the control leaves some of it{care}",
        (False, False): "no shortcut is found in the headers, with the control or without it",
        (False, True): f"it is the control that leaves a difference between the files{care}",
    }[tuple(rows.loc[protocol, "side"] != "around" for protocol in PROTOCOLS)]
    return (
        f"The file alone, without a look at a pixel, separates {study.train_set} from photographs with an AUC of "
        f"{rows.loc['report', 'text']} under `report` and of {rows.loc['controlled', 'text']} under `controlled`: "
        f"{meaning}."
    )


def _at_home(study: Study, auc: pd.DataFrame, best: str | None) -> str:
    rows = auc[auc["test_set"] == study.train_set].sort_values("value")
    where = f"on test pictures of {study.train_set}, the generator of the training, under `controlled`"
    if rows.empty:
        return f"How well networks on pixels do {where} is not known (notebook 3)."
    if best is None:
        return (
            f"Networks on pixels reach AUCs from {rows['text'].iloc[0]} to {rows['text'].iloc[-1]} {where}; none speaks "
            f"for the others, since not all have a history in `models/{study.name}/` to choose it by."
        )
    row, _ = _home_and_away(study, auc, best)
    return (
        f"`{best}`, which of {_count(len(rows), 'network')} on pixels has the highest AUC on validation pictures, "
        f"reaches {row['text']} {where}: {VERDICTS[row['side']]}."
    )


def _elsewhere(study: Study, auc: pd.DataFrame, best: str | None) -> str:
    home, away = _home_and_away(study, auc, best)
    if best is None:
        away = auc[auc["test_set"] != study.train_set]
    if away.empty:
        return "How much of it carries over to generators that were not trained on is not known (notebook 3)."
    above, below = ((away["side"] == side).sum() for side in ("above", "below"))
    counted = f"{above} of {_count(len(away), 'interval')} above 0.5 and {below} below it"
    if best is None:
        return f"On generators that they were not trained on, networks on pixels have {counted}."
    lowest, highest = away.loc[away["value"].idxmin()], away.loc[away["value"].idxmax()]
    reached = f"{lowest['text']} on {lowest['test_set']}"
    if len(away) > 1:
        reached = f"{away['value'].mean():.2f} on average, from {reached} to {highest['text']} on {highest['test_set']}"
    carried = f"what it learnt is shown to carry over to {above or 'none'} of them"
    if home["side"] != "above":
        carried = "there was nothing sure to carry over"
    return (
        f"On {_count(len(away), 'generator')} that it was not trained on, `{best}` reaches {reached}: with {counted}, "
        f"{carried}."
    )


def _fourier(study: Study, auc: pd.DataFrame, best: str | None) -> str:
    name = study.fourier.name
    (row, away), (other, others) = _home_and_away(study, auc, name), _home_and_away(study, auc, best)
    if row is None:
        return f"How `{name}`, the network on Fourier spectra, does under `controlled` is not known (notebook 4)."
    text = f"`{name}`, on Fourier spectra, reaches {row['text']} on {study.train_set}: {VERDICTS[row['side']]}"
    if other is None:
        return f"{text}; no network on pixels is singled out to set it beside."
    apart = row["ci_low"] > other["ci_high"] or row["ci_high"] < other["ci_low"]
    above = "above" if row["value"] > other["value"] else "below"
    text += f", {f'{above} the interval' if apart else 'with an interval that overlaps that'} of `{best}`"
    both = away.merge(others, on="test_set", suffixes=("", "_other"))
    if both.empty:
        return f"{text}; how the two compare on other generators is not known."
    means = f"{both['value'].mean():.2f} against {both['value_other'].mean():.2f}"
    return f"{text}; on {_count(len(both), 'other generator')} the two reach {means} on average."


def _autoencoder(study: Study, auc: pd.DataFrame) -> str:
    parts = []
    for name, what in (
        ("Autoencoder_classifier", "the classifier on the autoencoder's embeddings"),
        ("Autoencoder_error", "the reconstruction error alone, which needs no fake to learn from,"),
    ):
        row, away = _home_and_away(study, auc, name)
        known = "has no result (notebook 5)" if row is None else f"reaches {row['text']}, {VERDICTS[row['side']]}"
        parts.append(
            f"{what} {known}" + (f", and {away['value'].mean():.2f} on average elsewhere" if len(away) else "")
        )
    return f"On {study.train_set} under `controlled`, {'; '.join(parts)}."


# The sceptic -----------------------------------------------------------------------------------------------------


def _model_ids(auc: pd.DataFrame) -> list[str]:
    return (auc["model"] + "-" + auc["protocol"]).unique().tolist()


def _records(study: Study) -> pd.DataFrame | None:
    try:
        return catalog.load(study)
    except FileNotFoundError:
        return None


def _scores(study: Study, auc: pd.DataFrame) -> pd.DataFrame | str:
    """The scores of the headline detectors as far as they are there; or what is wrong with them."""
    there = {path.stem for path in (study.data / "scores").glob("[!.]*.parquet")}
    try:
        found = [evaluation.read_scores(study, name) for name in _model_ids(auc) if name in there]
    except ValueError as error:
        return str(error).replace(f"{study.data}/", "")
    return pd.concat(found) if found else pd.DataFrame(columns=["model_id", *evaluation.SCORE_COLUMNS])


def _leak(scores: pd.DataFrame | str, records: pd.DataFrame | None) -> str:
    if isinstance(scores, str):
        return f"Yes, or the scores are damaged: {escape(scores)}"
    if scores.empty:
        return "Not answered here: the scores per image are not on the machine that wrote this page."
    tested = set(scores.loc[scores["split"] == "test", "group"])
    shared = {"validation": len(tested & set(scores.loc[scores["split"] == "valid", "group"]))}
    more = "; whether any reach into training is not known here, for want of the records."
    if records is not None:
        shared["training"] = len(tested & set(records.loc[records["split"] == "train", "group"]))
        splits = records[records["person"] != ""].groupby("person")["split"].agg(set)
        both = sum({"train", "test"} <= found for found in splits)
        more = f". Of {len(splits):,} persons whom the source names, {both} are in training and in test."
        more = more if len(splits) else "."
    answer = "Yes" if any(shared.values()) else "No" if "training" in shared else "Not as far as is known"
    found = " and ".join(f"{number} reach into {split}" for split, number in shared.items())
    return (
        f"{answer}: of the {_count(len(tested), 'group')} of pictures tested (a group is all versions of one photograph "
        f"and whatever else must share a split) {found}{more}"
    )


def _shortcut(study: Study, auc: pd.DataFrame) -> str:
    file = auc[auc["approach"] == "metadata"]
    if file.empty:
        return "Not answered here: there is no row of the file alone (notebook 2)."
    parts = []
    for protocol, rows in file.groupby("protocol", sort=False):
        parts.append(f"under `{protocol}` on {(rows['side'] != 'around').sum()} of {_count(len(rows), 'test set')}")
    text = f"The interval of the detector that sees the file's header and no pixel excludes 0.5 {', '.join(parts)}."
    at_home = auc[(auc["protocol"] == "report") & (auc["test_set"] == study.train_set)]
    file, networks = (at_home[at_home["approach"].isin(names)] for names in (("metadata",), NETWORKS))
    if len(file) and len(networks):
        above = (networks["ci_low"] > file["value"].iloc[0]).sum()
        text += (
            f" Under `report`, on {study.train_set}, {above} of {_count(len(networks), 'detector')} that see pictures "
        )
        text += "have an interval above its AUC."
    return f"{text} This speaks of what a header holds, and of nothing else."


def _chance(study: Study, auc: pd.DataFrame) -> str:
    rows = auc[auc["approach"].isin(NETWORKS)]
    if rows.empty:
        return "Not answered here: no detector that sees pictures has a result (notebooks 3 to 5)."
    tested_on = np.where(rows["test_set"] == study.train_set, "what they were trained on", "other generators")
    keys = [rows["protocol"].rename("protocol"), pd.Series(tested_on, rows.index, name="tested on")]
    counts = pd.crosstab(keys, rows["side"]).reindex(columns=["above", "around", "below"], fill_value=0)
    return (
        f"{(rows['side'] != 'around').sum()} of the {len(rows)} intervals of detectors that see pictures exclude 0.5; of "
        f"as many coins about {0.05 * len(rows):.0f} would. By where they lie:\n\n"
        f"{to_markdown(counts.add_suffix(' 0.5').reset_index())}"
    )


def _pictures(study: Study, auc: pd.DataFrame, records: pd.DataFrame | None) -> str:
    rows = auc.sort_values("num_fake", ascending=False).drop_duplicates("test_set").set_index("test_set")
    table = rows.reindex([name for name in study.test_sets if name in rows.index]).reset_index()
    table = table[["test_set", "num_fake", "num_real", "real_source"]].map(escape)
    text = to_markdown(table.set_axis(["test set", "fakes", "reals", "reals of"], axis=1))
    start = "How many were trained on is not known here, for want of the records; tested on these"
    if records is not None:
        task = catalog.tasks(records, study)
        sizes = task[task["test_set"] == study.train_set].groupby(["split", "label"]).size()
        train, valid = (
            f"{sizes.get((split, 'fake'), 0):,} fakes and {sizes.get((split, 'real'), 0):,} reals"
            for split in ("train", "valid")
        )
        start = f"Trained on {train}, validated on {valid}; tested on these"
    return f"{start}:\n\n{text}"


def _threshold(study: Study, scores: pd.DataFrame | str) -> str:
    equal = []
    for name, rows in [] if isinstance(scores, str) else scores.groupby("model_id"):
        card = study.models / f"{name}.json"
        stored = json.loads(card.read_text(encoding="utf-8")).get("threshold") if card.is_file() else None
        rows = rows[(rows["split"] == "valid") & (rows["test_set"] == study.train_set)]
        if stored is not None and len(rows):
            equal.append(np.isclose(stored, evaluation.choose_threshold(rows["label"], rows["score"])))
    found = f"{sum(equal)} of {len(equal)} cards hold what is found again from the scores here" if equal else ""
    return (
        "0.5, as in the report, and the threshold of the best balanced accuracy on validation pictures, which stands in "
        f"the model's card: {found or 'scores or cards are not here to find it again'}."
    )


def _which_seeds(study: Study, results: pd.DataFrame) -> str:
    rows = results[(results["train_set"] == study.train_set) & (results["seed"] != study.seed)]
    seeds = rows.groupby("model")["seed"].unique()
    more = "; ".join(f"`{model}` {', '.join(map(str, sorted(found)))}" for model, found in seeds.items())
    text = f"{study.seed}, for splits, weights and the order of pictures."
    if not more:
        return f"{text} No other was run, so that nothing is known of how much is luck of the training."
    return f"{text} Beside it: {more}; only the table “Several seeds” shows these."


def _cards(study: Study, auc: pd.DataFrame) -> str:
    rows = []
    for name in ["Autoencoder", *_model_ids(auc)]:
        path = study.models / f"{name}.json"
        if path.is_file():
            card = json.loads(path.read_text(encoding="utf-8"))
            weights = card.get("starts_from", card.get("weights", "not recorded"))
            row = {"model": escape(name), "weights before training": weights}
            rows.append(row | {key: card.get(key) for key in ("seed", "threshold", "temperature", "device")})
    if not rows:
        return "Not answered here: the model cards are not on the machine that wrote this page."
    return "As their cards say:\n\n" + to_markdown(pd.DataFrame(rows).astype({"seed": "Int64"}), decimals=3)


# What else is on the page ----------------------------------------------------------------------------------------


def _beside_the_report(study: Study, results: pd.DataFrame) -> str:
    reference = reporting.read_report_tables()
    num_wrong = (reporting.contradictions(reference) != "").sum()
    found = f"{num_wrong} of the report's {len(reference)} rows contradict their own precision and recall."
    table = reporting.beside_the_report(results)
    if not table:
        return f"None of the report's rows has one of ours beside it. {found}"
    data = "simulated pictures, so that only the form compares" if study.simulated else "the pictures of this study"
    return (
        "Report / ours in percent, under `report` at 0.5; precision, recall and F1 are those of the class *real*, as the "
        f"report computed them. Ours are of {data}.\n\n{table}\n\n{found}"
    )


def _missing(study: Study, auc: pd.DataFrame, left_out: dict[str, str]) -> str:
    """The study's detectors without a result under a protocol or on a test set, and the sections left out by name."""
    notebooks = {"Metadata": 2, "PCA_probe": 2} | {network.name: 3 for network in study.direct}
    of_study = "" if study.name == "demo" else f" STUDY={study.name}"
    have, lines = auc.groupby(["model", "protocol"])["test_set"].agg(set), []
    for model, notebook in (notebooks | {study.fourier.name: 4, "Autoencoder_classifier": 5}).items():
        for protocol in PROTOCOLS:
            absent = [name for name in study.test_sets if name not in have.get((model, protocol), ())]
            where = "any test set" if len(absent) == len(study.test_sets) else ", ".join(absent)
            if absent:
                lines.append(
                    f"- {model} under `{protocol}` on {where}: `make reproduce{of_study}`, notebook {notebook}"
                )
    commands = dict.fromkeys(EXTENDED, f"`make extended{of_study}`")
    commands["foreign"] = f"`make reproduce{of_study}`" if study.foreign_reals else "the study names none"
    commands["false_alarms"] = f"`make reproduce{of_study}`" if study.unseen_reals else "the study names none"
    lines += [f"- {title}: {commands[name]}" for name, title in left_out.items() if name in commands]
    return "\n".join(lines) or "Nothing: every detector and every table of the study is here."


def _figures(study: Study) -> str:
    """The figures beside the page, by notebook; of real people, only those that show none."""
    names = sorted(path.name for path in study.figures.glob("[!.]*.png") if path.name != AT_A_GLANCE)
    hidden = [name for name in names if not study.simulated and any(word in name.lower() for word in PEOPLE)]
    titles = {path.stem[:2]: path.stem[3:].replace("_", " ") for path in (ROOT / "notebooks").glob("*.ipynb")}
    parts = []
    for number, group in groupby((name for name in names if name not in hidden), lambda name: name[:2]):
        parts += [f"### {escape(number)} · {titles.get(number, 'others')}", *map(_figure, group)]
    if hidden:
        parts.append("Left out, since they show people, or may: " + ", ".join(map(escape, hidden)) + ".")
    return "\n\n".join(parts) or "None yet."


def _figure(name: str) -> str:
    caption = re.sub(r"^\d\d_", "", name.removesuffix(".png")).replace("_", " ")
    return f"![{escape(caption)}]({quote(name)})"


def _environment() -> str:
    """Versions of what the numbers depend on."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue  # a backend that is not installed, or another build of OpenCV
    return ", ".join(found) + "."


# HTML ------------------------------------------------------------------------------------------------------------


def to_html(text: str, title: str, folder: Path) -> str:
    """The Markdown as one HTML file without scripts or addresses: figures and style lie in it.

    Args:
        text: Markdown; HTML in it is shown, not obeyed.
        title: Of the window.
        folder: Where the figures lie that the text links to.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens, links, figures = parser.parse(text), [], []
    for before, token, after in zip(tokens, tokens[1:], tokens[2:]):
        if before.type == "heading_open" and before.tag == "h2":
            before.attrSet("id", f"part{len(links)}")
            links.append(f'<li><a href="#part{len(links)}">{html.escape(token.content)}</a></li>')
        if token.type == "inline" and [child.type for child in token.children] == ["image"]:
            before.tag = after.tag = "figure"
            figures.append((token.children[0], folder / unquote(token.children[0].attrs["src"])))
    left = MAX_BYTES
    figures.sort(key=lambda figure: figure[1].stat().st_size)  # what small ones do not need goes to the large ones
    for place, (image, path) in enumerate(figures):
        kind, data = _embedded(path, left // (len(figures) - place))
        left -= len(data)
        image.attrSet("src", f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
    body = parser.renderer.render(tokens, parser.options, {})
    body = body.replace("<table>", '<div class="table" role="region" tabindex="0" aria-label="Table"><table>')
    body = body.replace("</table>", "</table></div>")
    return Template(HTML).substitute(title=html.escape(title), style=STYLE, links="".join(links), body=body)


def _embedded(path: Path, max_bytes: int) -> tuple[str, bytes]:
    """A PNG as it is; one of more bytes with fewer colours or as JPEG, and with as few pixels as it takes."""
    if path.stat().st_size <= max_bytes:
        return "png", path.read_bytes()
    with Image.open(path) as image:
        image = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    for scale in (1, 0.7, 0.5, 0.35, 0.25):
        small, chart, photograph = ImageOps.scale(image, scale), io.BytesIO(), io.BytesIO()
        small.quantize(128).save(chart, "PNG")
        small.save(photograph, "JPEG", quality=82)
        kind, stream = min(("png", chart), ("jpeg", photograph), key=lambda each: each[1].tell())
        if stream.tell() <= max_bytes:
            break
    return kind, stream.getvalue()


HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<nav aria-label="Contents"><ol>$links</ol></nav>
<main>
$body</main>
</body>
</html>
"""
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1d20; --soft: #666c74; --line: #dde0e4; --tint: #f4f5f7;
  --accent: #0a6560; --warn: #fff3d1; --edge: #d49b00; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e4e6e9; --soft: #9aa1a9;
  --line: #34383d; --tint: #1f2226; --accent: #6cc5be; --warn: #3a2f10; --edge: #d9a93a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, serif; }
nav, main { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem; }
main { padding-bottom: 4rem; }
nav ol { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 0; padding: 1rem 0 0; list-style: none;
  font: .85rem/1.5 system-ui, sans-serif; }
nav a { color: var(--accent); text-decoration: none; }
h1, h2, h3 { font-family: system-ui, sans-serif; line-height: 1.25; break-after: avoid; text-wrap: balance; }
h1 { font-size: 2rem; margin: 1.5rem 0 .75rem; }
h2 { font-size: 1.4rem; margin: 3rem 0 .75rem; padding-top: .75rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
p, li, blockquote { max-width: 44rem; }
li { margin-bottom: .45rem; }
code { font-size: .88em; background: var(--tint); padding: .08em .3em; border-radius: .25em; }
blockquote { margin: 1rem 0; padding: .6rem 1rem; background: var(--warn); border-left: 4px solid var(--edge); }
blockquote p { margin: 0; }
.table { overflow-x: auto; margin: .75rem 0 1.25rem; border: 1px solid var(--line); border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font: .85rem/1.4 system-ui, sans-serif;
  font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .75rem; text-align: left; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { border-top: 0; background: var(--tint); }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
thead th:first-child { background: var(--tint); }
td em { color: var(--soft); }
:is(th, td):last-child { white-space: normal; min-width: 11rem; }
figure { margin: 1.25rem 0 2rem; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; padding: .5rem; background: #fff;
  border: 1px solid var(--line); border-radius: .4rem; }
@media print { @page { margin: 16mm; }
  body { font-size: 10pt; } nav { display: none; } main { max-width: none; padding: 0; }
  .table { overflow: visible; border: 0; } table { font-size: 7.5pt; } th, td { padding: .2rem .35rem; }
  tr { break-inside: avoid; } figure img { max-height: 220mm; padding: 0; border: 0; } }
"""
