"""The summary page of a study: one text, written as Markdown and as one HTML file that needs nothing beside it.

Reads `figures/<study>/results.csv` and figures and, where they are there, model cards, training histories, scores and
records; writes `figures/<study>/summary.md` and `summary.html`. No number is typed, and the sentences choose their
words by the numbers.
"""

import importlib.metadata
import json
import platform
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from itertools import groupby, product
from pathlib import Path
from string import Template
from urllib.parse import quote

import numpy as np
import pandas as pd

from ..config import PROTOCOLS, ROOT, Study
from ..data import catalog
from ..evaluation.results import choose_threshold, read_results, read_scores
from ..files import write_atomically
from . import html_page, reporting, tables
from .answers import chosen_by_validation, count, counted, five_sentences
from .reporting import escape, to_markdown

__all__ = ["chosen_by_validation", "summary", "write_summary"]
# The figures that show nobody: of real people, the page holds these alone. Names without number and ending.
PLOTS = """shortcut file_traits pixel_statistics leaks pca_* curves* confusion mean_spectra radial_profiles rings loss
    embeddings error_histograms auc_* roc differences reliability matrix_* false_alarms robustness subgroups""".split()
AT_A_GLANCE = "06_auc_controlled.png"
NETWORKS = ("direct", "fourier", "autoencoder")
PACKAGES = (
    "keras tensorflow jax numpy scipy scikit-learn pandas pillow opencv-python-headless".split()
)
EXTENDED = (
    "Several seeds",
    "Trained on every generator in turn",
)  # the tables that `make extended` fills
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

$numbers

## A sceptical reader asks
**Is there a leak between training and test?** $leak

**Is there a shortcut?** $shortcut

**Is it better than chance?** $chance

**How many pictures?** $pictures

**Which threshold?** $threshold

**Which seeds?** $seeds

**What was trained, and from what?** $cards

**Was anything tuned on the test set?** Nothing is chosen by results on test pictures: the epoch is kept by validation
loss, threshold and temperature are fitted on validation pictures, and the network that speaks for the others above is,
where there is one, chosen by its validation AUC. What no page can show is how the settings in `src/config.py` were
arrived at.

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
        ValueError: If scores per image contradict themselves (`evaluation.read_scores`).
    """
    text = summary(study, read_results(study))
    bodies = {
        "md": text,
        "html": html_page.to_html(text, f"True or Fake: {study.name}", study.figures),
    }
    if not study.simulated:  # git does not take its figures: links to them would be dead
        bodies["md"] = re.sub(
            r"^!\[(.*)\]\(.*\)$", r"*In `summary.html`: \1*", text, flags=re.MULTILINE
        )
    return [
        write_atomically(
            study.figures / f"summary.{kind}",
            lambda beside, body=body: beside.write_text(body, encoding="utf-8"),
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
    auc = tables.with_texts(reporting.headline(study, results).query("metric == 'auc'"))
    names = ["Autoencoder", *(auc["model"] + "-" + auc["protocol"]).unique()]
    paths = {name: study.models / f"{name}.json" for name in names}
    cards = {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name, path in paths.items()
        if path.is_file()
    }
    records, scores = (_if_there(read, study) for read in (catalog.load, read_scores))
    scores = None if scores is None else scores[scores["model_id"].isin(names)]
    numbers = {
        heading: (table(study, results), reading)
        for heading, (table, reading) in tables.TABLES.items()
    }
    page = Template(PAGE).substitute(
        name=study.name,
        banner=SIMULATED if study.simulated else f"Data: {study.description}.",
        train_set=study.train_set,
        unseen=", ".join(name for name in study.test_sets if name != study.train_set),
        num_resamples=f"{study.num_resamples:,}",
        answers="\n".join(
            f"{place}. {sentence}"
            for place, sentence in enumerate(five_sentences(study, auc), start=1)
        ),
        at_a_glance=_figure(AT_A_GLANCE) if (study.figures / AT_A_GLANCE).is_file() else "",
        numbers="\n\n".join(
            f"### {each}\n{reading}\n\n{table}"
            for each, (table, reading) in numbers.items()
            if table
        ),
        leak=_leak(scores, records),
        shortcut=_shortcut(study, auc),
        chance=_chance(study, auc),
        pictures=_pictures(study, auc, records),
        threshold=_threshold(study, scores, cards),
        seeds=_seeds(study, results),
        cards=_cards(study, cards),
        beside_the_report=tables.beside_the_report(study, results),
        figures=_figures(study),
        missing=_missing(
            study, auc, [heading for heading, (table, _) in numbers.items() if not table]
        ),
        environment=_environment(),
    )
    return re.sub(r"\n{3,}", "\n\n", page)


def _if_there(read: Callable[[Study], pd.DataFrame], study: Study) -> pd.DataFrame | None:
    try:
        return read(study)
    except FileNotFoundError:
        return None


# The sceptic -----------------------------------------------------------------------------------------------------


def _leak(scores: pd.DataFrame | None, records: pd.DataFrame | None) -> str:
    if scores is None or scores.empty or records is None:
        return "Not answered here: scores per image or records are not on the machine that wrote this page."
    tested, validated = (
        set(scores.loc[scores["split"] == split, "group"]) for split in ("test", "valid")
    )
    trained = set(records.loc[records["split"] == "train", "group"])
    persons = records[records["person"] != ""].groupby("person")["split"].agg(set)
    num_both = sum({"train", "test"} <= splits for splits in persons)
    named = f" Of {len(persons):,} persons whom the source names, {num_both} are in training and in test."
    return (
        f"{'Yes' if tested & (trained | validated) else 'No'}: of the {count(len(tested), 'group')} of pictures tested "
        "(a group is all versions of one photograph and whatever else must share a split) "
        f"{len(tested & validated)} reach into validation and {len(tested & trained)} reach into training."
        f"{named if len(persons) else ''}"
    )


def _shortcut(study: Study, auc: pd.DataFrame) -> str:
    file = auc[auc["approach"] == "metadata"]
    if file.empty:
        return "Not answered here: there is no row of the file alone (notebook 2)."
    found = [
        f"{counted(rows)} under `{protocol}`"
        for protocol, rows in file.groupby("protocol", sort=False)
    ]
    text = f"The detector that sees the file's header and no pixel has {', and '.join(found)}."
    at_home = auc[(auc["protocol"] == "report") & (auc["test_set"] == study.train_set)]
    file, networks = (
        at_home[at_home["approach"].isin(names)] for names in (["metadata"], NETWORKS)
    )
    if len(file) and len(networks):
        num_above = (networks["ci_low"] > file["value"].iloc[0]).sum()
        text += f" Under `report`, on {study.train_set}, {num_above} of {count(len(networks), 'detector')} that see "
        text += "pictures have an interval above its AUC."
    return f"{text} This speaks of what a header holds, and of nothing else."


def _chance(study: Study, auc: pd.DataFrame) -> str:
    rows = auc[auc["approach"].isin(NETWORKS)]
    if rows.empty:
        return "Not answered here: no detector that sees pictures has a result (notebooks 3 to 5)."
    tested_on = np.where(
        rows["test_set"] == study.train_set, "what they were trained on", "other generators"
    )
    keys = [rows["protocol"].rename("protocol"), pd.Series(tested_on, rows.index, name="tested on")]
    counts = pd.crosstab(keys, rows["side"]).reindex(
        columns=["above", "around", "below"], fill_value=0
    )
    return (
        f"{(rows['side'] != 'around').sum()} of the {len(rows)} intervals of detectors that see pictures exclude 0.5; of "
        f"as many coins about {0.05 * len(rows):.0f} would. By where they lie:\n\n"
        f"{to_markdown(counts.add_suffix(' 0.5').reset_index())}"
    )


def _pictures(study: Study, auc: pd.DataFrame, records: pd.DataFrame | None) -> str:
    rows = (
        auc.sort_values("num_fake", ascending=False)
        .drop_duplicates("test_set")
        .set_index("test_set")
    )
    rows = rows.reindex([name for name in study.test_sets if name in rows.index]).reset_index()
    shown = {
        "test_set": "test set",
        "num_fake": "fakes",
        "num_real": "reals",
        "real_source": "reals of",
    }
    table = to_markdown(rows[[*shown]].map(escape).rename(columns=shown))
    if records is None:
        return f"How many were trained on is not known here, for want of the records; tested on these:\n\n{table}"
    task = catalog.tasks(records, study)
    sizes = task[task["test_set"] == study.train_set].groupby(["split", "label"]).size()
    trained, validated = (
        " and ".join(f"{sizes.get((split, label), 0):,} {label}s" for label in ("fake", "real"))
        for split in ("train", "valid")
    )
    return f"Trained on {trained}, validated on {validated}; tested on these:\n\n{table}"


def _threshold(study: Study, scores: pd.DataFrame | None, cards: dict[str, dict]) -> str:
    equal = []
    if scores is not None:
        scores = scores[(scores["split"] == "valid") & (scores["test_set"] == study.train_set)]
        for name, rows in scores.groupby("model_id"):
            stored = cards.get(name, {}).get("threshold")
            if stored is not None:
                equal.append(np.isclose(stored, choose_threshold(rows["label"], rows["score"])))
    found = (
        f"{sum(equal)} of {len(equal)} cards hold what is found again from the scores here"
        if equal
        else ""
    )
    return (
        "0.5, as in the report, and the threshold of the best balanced accuracy on validation pictures, which stands in "
        f"the model's card: {found or 'scores or cards are not here to find it again'}."
    )


def _seeds(study: Study, results: pd.DataFrame) -> str:
    text = f"{study.seed}, for splits, weights and the order of pictures."
    others = (
        reporting.marked(study, results)
        .query("own_training and not own_seed")
        .groupby("model")["seed"]
        .unique()
    )
    if others.empty:
        return f"{text} No other was run, so that nothing is known of how much is luck of the training."
    found = "; ".join(
        f"`{model}` {', '.join(map(str, sorted(seeds)))}" for model, seeds in others.items()
    )
    return f"{text} Beside it: {found}; only the table “Several seeds” shows these."


def _cards(study: Study, cards: dict[str, dict]) -> str:
    rows = [
        {"model": escape(name), "weights before training": card.get("starts_from", "not recorded")}
        | {key: card.get(key) for key in ("seed", "threshold", "temperature")}
        | _training(study.models / f"{name}.history.csv")
        | {"device": card.get("device")}
        for name, card in cards.items()
    ]
    if not rows:
        return "Not answered here: the model cards are not on the machine that wrote this page."
    table = to_markdown(pd.DataFrame(rows).astype({"seed": "Int64"}), decimals=3)
    return f"As their cards and histories say; of a frozen backbone only the head was trained:\n\n{table}"


def _training(history: Path) -> dict[str, str]:
    """Which epoch was kept, and what all took; empty if the history is not there."""
    if not history.is_file():
        return {"epoch kept": "", "training": "", "images/s": ""}
    table = pd.read_csv(history)
    kept, rate = table["epoch"][table["val_loss"].idxmin()], table["images_per_second"].median()
    return {
        "epoch kept": f"{kept} of {len(table)}",
        "training": f"{table['seconds'].sum():,.0f} s",
        "images/s": f"{rate:,.0f}",
    }


# What else is on the page ----------------------------------------------------------------------------------------


def _figures(study: Study) -> str:
    """The figures beside the page, by notebook; of real people, those that show none."""
    names = sorted(
        path.name for path in study.figures.glob("[!.]*.png") if path.name != AT_A_GLANCE
    )
    shown = [name for name in names if study.simulated or _shows_nobody(name)]
    titles = {
        path.stem[:2]: path.stem[3:].replace("_", " ")
        for path in (ROOT / "notebooks").glob("*.ipynb")
    }
    parts = []
    for number, group in groupby(shown, lambda name: name[:2]):
        parts += [f"### {escape(number)} · {titles.get(number, 'others')}", *map(_figure, group)]
    if hidden := [escape(name) for name in names if name not in shown]:
        parts.append(f"Left out, since they show people, or may: {', '.join(hidden)}.")
    return "\n\n".join(parts) or "None yet."


def _shows_nobody(name: str) -> bool:
    return any(fnmatchcase(name, f"[0-9][0-9]_{plot}.png") for plot in PLOTS)


def _figure(name: str) -> str:
    caption = re.sub(r"^\d\d_", "", name.removesuffix(".png")).replace("_", " ")
    return f"![{escape(caption)}]({quote(name)})"


def _missing(study: Study, auc: pd.DataFrame, empty: list[str]) -> str:
    """The study's detectors without a result under a protocol or on a test set, and the empty tables."""
    notebooks = {"Metadata": 2, "PCA_probe": 2} | {network.name: 3 for network in study.direct}
    notebooks |= {study.fourier.name: 4, "Autoencoder_classifier": 5}
    of_study = "" if study.name == "demo" else f" STUDY={study.name}"
    have, lines = auc.groupby(["model", "protocol"])["test_set"].agg(set), []
    for model, protocol in product(notebooks, PROTOCOLS):
        absent = [name for name in study.test_sets if name not in have.get((model, protocol), ())]
        where = "any test set" if len(absent) == len(study.test_sets) else ", ".join(absent)
        if absent:
            how = f"`make reproduce{of_study}`, notebook {notebooks[model]}"
            lines.append(f"- {model} under `{protocol}` on {where}: {how}")
    asked = {"The same fakes against other real photographs": study.foreign_reals}
    asked |= {"False alarms on photographs that nobody trained on": study.unseen_reals}
    for heading in empty:
        how = f"`make {'extended' if heading in EXTENDED else 'reproduce'}{of_study}`"
        lines.append(f"- {heading}: {how if asked.get(heading, True) else 'the study names none'}")
    return "\n".join(lines) or "Nothing: every detector and every table of the study is here."


def _environment() -> str:
    """Versions of what the numbers depend on."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue  # a backend that is not installed, or another build of OpenCV
    return ", ".join(found) + "."
