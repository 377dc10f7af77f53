"""The summary page of a study: the words stand in `page.md.jinja`, every number is computed."""

import importlib.metadata
import platform
import re
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from PIL import Image

from ..config import PROTOCOLS, ROOT, Study
from ..data import catalog
from ..evaluation.metrics import choose_threshold
from ..evaluation.results import SCORE_COLUMNS, model_id, read_results, read_scores, scores_file
from ..files import TEMPLATES, read_json, write_text
from . import original, tables
from .numbers import MARKS, number_tables, with_texts
from .web import escape, to_html, to_markdown

# Figures without people, by name. Of real people, the page has only these.
SHOWS_NOBODY = re.compile(
    "[0-9][0-9]_(shortcut|file_traits|pixel_statistics|leaks|leak_worth|pca_.*|curves.*|confusion|roc"
    "|loss|loss_report|mean_spectra|radial_profiles|rings|embeddings|error_histograms|auc"
    "|differences|reliability"
    r"|matrix_.*|false_alarms|robustness|subgroups)\.png"
)
AT_A_GLANCE = "06_auc.png"
PACKAGES = """keras tensorflow jax numpy scipy scikit-learn pandas pillow
    opencv-python-headless""".split()


def write_summary(study: Study, changes: pd.DataFrame | None = None) -> list[Path]:
    """Writes `figures/<study>/summary.md` and `summary.html`, and returns their paths.

    It reads the study's results (or raises FileNotFoundError), cards, scores and figures. Without
    `changes`, which is from `comparisons.protocol_differences`, the page lacks this table.
    """
    text = summary(study, read_results(study), changes)
    web = to_html(text, f"True or Fake: {study.name}", study.figures)
    if not study.simulated:  # git does not take its figures: links to them would be dead
        text = re.sub(r"^!\[(.*)\]\(.*\)$", r"*In `summary.html`: \1*", text, flags=re.MULTILINE)
    pages = {"summary.md": text, "summary.html": web}
    return [write_text(study.figures / name, content) for name, content in pages.items()]


def summary(study: Study, results: pd.DataFrame, changes: pd.DataFrame | None = None) -> str:
    """The page in Markdown, with links to the figures in the same folder."""
    results = tables.in_reading_order(study, results)
    auc = with_texts(tables.headline(study, results).query("metric == 'auc'"))
    names = [f"Autoencoder-{protocol}" for protocol in PROTOCOLS]
    names += (auc["model"] + "-" + auc["protocol"]).unique().tolist()
    cards = {name: card for name in names if (card := read_json(study.models / f"{name}.json"))}
    records = sizes = None
    scores = pd.DataFrame(columns=["model_id", *SCORE_COLUMNS])
    with suppress(FileNotFoundError):
        records = catalog.load(study)
        task = catalog.tasks(records, study).query("test_set == @study.train_set")
        sizes = task.groupby(["split", "label"]).size()
    with suppress(FileNotFoundError):
        scores = read_scores(study).query("model_id in @names")
    controlled = auc[auc["protocol"] == "controlled"]
    pixels = controlled[controlled["model"].isin([network.name for network in study.direct])]
    named = [name for name in study.headline if name in set(pixels["model"])]
    best = named[0] if named else None
    pairs = _paired_differences(study, study.fourier.name, best)
    against = pairs[pairs["seed"] == study.seed]
    # Where a network that did not learn in-domain stands elsewhere says nothing.
    telling = ~tables.unlearned(auc) | (auc["test_set"] == study.train_set)
    seen = auc[auc["approach"].isin(tables.NETWORKS) & telling]
    other_seeds = tables.marked(study, results).query("own_training and not own_seed and seed >= 0")
    page = TEMPLATES.get_template("report/page.md.jinja").render(
        study=study,
        protocols=PROTOCOLS,
        having=_having,
        auc=list(auc.itertuples()),
        num_pixel_networks=pixels["model"].nunique(),
        best=best,
        against=against,
        pairs=list(pairs[pairs.index == study.train_set].itertuples()),
        pixels=_split(study, pixels if best is None else pixels[pixels["model"] == best]),
        detector=lambda name: _split(study, controlled[controlled["model"] == name]),
        at_a_glance=_figure(glance) if (glance := study.figures / AT_A_GLANCE).is_file() else "",
        numbers=number_tables(study, results, changes),
        leak=_leak(study, scores, records),
        leak_worth=tables.leak_in_words(tables.leak_worth(study, results)),
        agreement=[tables.rank_agreement_in_words(study, results, name) for name in PROTOCOLS],
        seen=list(seen.itertuples()),
        verdicts=_verdicts(study, seen),
        sizes=sizes,
        tested=_tested(study, auc),
        found_again=_thresholds_found_again(study, scores, cards),
        other_seeds=other_seeds.groupby("model")["seed"].unique().to_dict(),
        cards=_cards(study, cards),
        conclusions=original.conclusions(study, controlled, best, against),
        report_rows=_report(study, results, auc),
        contradictory=(original.contradictions(original.read_tables()) != "").tolist(),
        figures=_figures(study),
        missing=_missing(study, auc),
        environment=_environment(),
    )
    return re.sub(r"\n{3,}", "\n\n", page)


def _having(rows: list, **values) -> list:
    """The rows with these values."""
    return [row for row in rows if all(getattr(row, key) == values[key] for key in values)]


def _paired_differences(study: Study, first: str, second: str | None) -> pd.DataFrame:
    """`comparisons.differences` under `controlled` of trainings with the same `seed`, by test set.

    `agrees`: on the sign, with the first. No rows where scores are not on this machine.
    """
    from ..evaluation.comparisons import differences  # imports Keras, which takes seconds

    found = [pd.DataFrame(columns=["test_set", "seed", "difference"])]
    for seed in dict.fromkeys([study.seed, *study.extra_seeds]) if second else ():
        variant = "" if seed == study.seed else f"-seed{seed}"
        pair = [model_id(name, "controlled", variant) for name in (first, second)]
        if all(scores_file(study, name).is_file() for name in pair):
            found.append(differences(study, [pair]).assign(seed=seed))
    table = pd.concat(found[1:] or found).set_index("test_set")
    signs = np.sign(table["difference"])
    return table.assign(agrees=signs == signs.groupby(level=0).transform("first"))


def _split(study: Study, auc: pd.DataFrame) -> dict[str, list]:
    """The rows on the generator of the training, and those on others."""
    rows = auc.sort_values("value")
    home = rows["test_set"] == study.train_set
    parts = {"in_domain": rows[home], "elsewhere": rows[~home]}
    return {name: list(part.itertuples()) for name, part in parts.items()}


def _leak(study: Study, scores: pd.DataFrame, records: pd.DataFrame | None) -> dict | None:
    """Tested groups, those of them in other splits, and persons; `None` where it is not known."""
    if scores.empty or records is None:
        return None
    tested, validated = (
        set(scores["group"][scores["split"] == name]) for name in ("test", "valid")
    )
    used = catalog.tasks(records, study)
    trained = set(used["group"][used["split"] == "train"])
    persons = used[used["person"] != ""].groupby("person")["split"].agg(set)
    sources = records[records["dataset"].isin(used["dataset"])].groupby("dataset")
    return {
        "tested": len(tested),
        "validated": len(tested & validated),
        "trained": len(tested & trained),
        "persons": len(persons),
        "persons_in_both": sum({"train", "test"} <= splits for splits in persons),
        "unnamed": [name for name, rows in sources if not rows["person"].any()],
    }


def _verdicts(study: Study, rows: pd.DataFrame) -> str:
    """How many intervals of detectors that see pictures lie above, around and below 0.5."""
    in_domain = (rows["test_set"] == study.train_set).rename("tested on")
    in_domain = in_domain.map({True: "what they were trained on", False: "other generators"})
    counts = pd.crosstab([rows["protocol"], in_domain], rows["verdict"])
    return to_markdown(counts.reindex(columns=[*MARKS], fill_value=0))


def _tested(study: Study, auc: pd.DataFrame) -> str:
    """The largest numbers of pictures and groups that each test set was tested on."""
    rows = auc.sort_values("num_fake", ascending=False).drop_duplicates("test_set")
    rows = tables.in_order(rows, ["test_set"], [*study.test_sets]).astype({"num_groups": "Int64"})
    names = dict(test_set="test set", num_fake="fakes", num_real="reals", real_source="reals of")
    names["num_groups"] = "groups"
    return to_markdown(rows[[*names]].map(escape).rename(columns=names))


def _thresholds_found_again(study: Study, scores: pd.DataFrame, cards: dict) -> list[bool]:
    """For each card whose scores are there, whether they give its threshold."""
    scores = scores[(scores["split"] == "valid") & (scores["test_set"] == study.train_set)]
    return [
        bool(np.isclose(stored, choose_threshold(rows["label"], rows["score"])))
        for name, rows in scores.groupby("model_id")
        if (stored := cards.get(name, {}).get("threshold")) is not None
    ]


def _cards(study: Study, cards: dict[str, dict]) -> str:
    """What the cards and training histories say, a row a model."""
    columns = ["model", "weights before training", "seed", "threshold", "slope", "intercept"]
    columns += ["epoch kept", "training", "images/s", "device"]
    rows = []
    for name, card in cards.items():
        row = {"weights before training": card.get("starts_from", "not recorded")}
        row |= card | {"model": escape(name)}
        if (path := study.models / f"{name}.history.csv").is_file():
            history = pd.read_csv(path)
            kept = history["epoch"][history["val_loss"].idxmin()]
            row["epoch kept"] = f"{kept} of {len(history)}"
            row["training"] = f"{history['seconds'].sum():,.0f} s"
            row["images/s"] = f"{history['images_per_second'].median():,.0f}"
        rows.append(row)
    return to_markdown(pd.DataFrame(rows, columns=columns).astype({"seed": "Int64"}), 3)


def _report(study: Study, results: pd.DataFrame, auc: pd.DataFrame) -> str:
    """The report's rows of which there is one of ours under `report`."""
    both = original.beside_ours(study, results).dropna(subset=["accuracy_report", "accuracy_ours"])
    both = tables.with_daggers(both.assign(protocol="report"), auc)
    table = original.texts(both).drop(columns="train_set").set_index(["model", "test_set"])
    last = "what cannot be in the report's row"
    table[last] = table.pop("contradiction").str.replace(r"^(?=.)", "⚠ ", regex=True)
    return to_markdown(table)


def _figures(study: Study) -> str:
    """The figures in the page's folder, by notebook; of real people, those that show none."""
    paths = study.figures.glob("[!.]*.png")
    names = sorted(path.name for path in paths if path.name != AT_A_GLANCE)
    shown = [name for name in names if study.simulated or SHOWS_NOBODY.fullmatch(name)]
    notebooks = (ROOT / "notebooks").glob("*.ipynb")
    titles = {path.stem[:2]: path.stem[3:].replace("_", " ") for path in notebooks}
    parts = []
    for number, group in groupby(shown, lambda name: name[:2]):
        heading = f"### {escape(number)} · {titles.get(number, 'others')}"
        parts += [heading, *(_figure(study.figures / name) for name in group)]
    if hidden := [escape(name) for name in names if name not in shown]:
        parts.append(f"Left out, since they show people, or may: {', '.join(hidden)}.")
    return "\n\n".join(parts) or "None yet."


def _figure(path: Path) -> str:
    """A link with the title that `style.save_figure` wrote into the file, or else its name."""
    with Image.open(path) as image:
        caption = image.info.get("Title") or path.stem[3:].replace("_", " ")
    return f"![{escape(caption)}]({quote(path.name)})"


def _missing(study: Study, auc: pd.DataFrame) -> list[tuple]:
    """The study's detectors and protocols without a result on these test sets; their notebook."""
    notebooks = {"Metadata": 2, "PCA_probe": 2}
    notebooks |= {network.name: 3 for network in (*study.direct, study.probe)}
    notebooks |= {study.fourier.name: 4, study.autoencoder.classifier.name: 5}
    have = set(zip(auc["model"], auc["protocol"], auc["test_set"]))
    return [
        (model, protocol, absent, number)
        for model, number in notebooks.items()
        for protocol in PROTOCOLS
        if (absent := [name for name in study.test_sets if (model, protocol, name) not in have])
    ]


def _environment() -> str:
    """Versions of what the numbers depend on."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):  # a backend, or another OpenCV
            found.append(f"{package} {importlib.metadata.version(package)}")
    return ", ".join(found) + "."
