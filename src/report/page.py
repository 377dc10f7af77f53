"""The summary page of a study, as Markdown and as one HTML file, and the tables of the README.

The words stand in `page.md.jinja`, the look in `page.html.jinja` and `page.css`; every number is
computed. `python -m src.report.page` writes the tables of all studies into the README.
"""

import base64
import importlib.metadata
import io
import platform
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import groupby, product
from pathlib import Path
from urllib.parse import quote, unquote

import jinja2
import numpy as np
import pandas as pd
from markdown_it import MarkdownIt
from PIL import Image

from ..config import PROTOCOLS, ROOT, Study, get_study
from ..data import catalog
from ..evaluation.metrics import choose_threshold
from ..evaluation.results import read_results, read_scores
from ..files import read_json, write_atomically
from . import tables

MAX_BYTES = 1_400_000  # of all figures together; base64 makes them a third larger
MAX_WIDTH, MIN_WIDTH = 1100, 400  # of a figure, in pixels
# Figures without people, by name. Of real people, the page has only these.
SHOWS_NOBODY = re.compile(
    "[0-9][0-9]_(shortcut|file_traits|pixel_statistics|leaks|leak_worth|pca_.*|curves.*|confusion|roc|loss"
    "|mean_spectra|radial_profiles|rings|embeddings|error_histograms|auc|differences|reliability"
    r"|matrix_.*|false_alarms|robustness|subgroups)\.png"
)
AT_A_GLANCE = "06_auc.png"
PACKAGES = """keras tensorflow jax numpy scipy scikit-learn pandas pillow
    opencv-python-headless""".split()
ANSWER = "The answer in five sentences"
EXTENDED = ("Trained on every generator in turn",)  # filled by `make extended`
MARKS = {"better than chance": "{}", "not better than chance": "*{}*", "worse than chance": "▼ {}"}
_DETECTOR = ["protocol", "model"]
_HEADERS = {"model": "detector", "train_set": "trained on", "test_set": "tested on"}
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=lambda name: name == "page.html.jinja",
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


# Tables in Markdown ------------------------------------------------------------------------------


def to_markdown(frame: pd.DataFrame, decimals: int = 2) -> str:
    """The table in Markdown: floats with so many decimals, missing values empty, no index."""

    def text(value) -> str:
        shown = f"{value:.{decimals}f}" if isinstance(value, float) else str(value)
        return "" if pd.isna(value) else shown.replace("|", "\\|").replace("\n", " ")

    rows = [frame.columns, ["---"] * frame.shape[1], *frame.astype(object).to_numpy()]
    return "\n".join("| " + " | ".join(map(text, row)) + " |" for row in rows)


def escape(text: str) -> str:
    """A name from outside (a file, a generator) on one line, as Markdown that shows it as it is."""
    return re.sub(r"([\\`*\[\]<>&~]|\b_|_\b)", r"\\\1", " ".join(str(text).split()))


def _table(rows: pd.DataFrame, index: list[str], column: str = "test_set") -> str:
    """A wide table of the column `text`; empty if there are no rows."""
    if rows.empty:
        return ""
    names = rows[[*index, column]].astype(str).map(escape)
    table = tables.wide(names, index, column, rows["text"]).fillna("–")
    return to_markdown(table.reset_index().rename(columns=_HEADERS))


def _pairs(rows: pd.DataFrame, names: list[str], index: list[str], column: str = "test_set") -> str:
    """As `_table`, with the values of several metrics in a cell."""
    rows = rows[rows["metric"].isin(names)]
    keys = [*index, column]
    texts = tables.wide(rows, keys, "metric", rows["value"].map("{:.2f}".format)).fillna("–")
    cells = texts.reindex(columns=names, fill_value="–").reset_index()
    texts = [" / ".join(values) for values in cells[names].to_numpy()]
    return _table(cells.assign(text=texts), index, column)


def _with_texts(rows: pd.DataFrame, chance: float | None = 0.5) -> pd.DataFrame:
    """Rows with `text`, the interval, and `verdict`, where it lies against chance.

    A third decimal is shown where two would hide on which side of chance the interval ends.
    """
    texts, verdicts = [], []
    for row in rows.itertuples():
        bounds = (row.ci_low, row.ci_high)
        hidden = chance in [round(bound, 2) for bound in bounds if bound != chance]
        texts.append(tables.interval(row.value, *bounds, 3 if hidden else 2))
        verdicts.append(tables.against_chance(row))
    return rows.assign(text=texts, verdict=verdicts)


def _marked(rows: pd.DataFrame) -> pd.DataFrame:
    """As `_with_texts`: in italics if 0.5 lies inside, with ▼ if the interval lies below it."""
    rows = _with_texts(rows)
    return rows.assign(text=[MARKS[row.verdict].format(row.text) for row in rows.itertuples()])


def _bold(rows: pd.DataFrame, bold: Iterable[bool]) -> pd.DataFrame:
    texts = [f"**{text}**" if yes else text for text, yes in zip(rows["text"], bold)]
    return rows.assign(text=texts)


def number_tables(
    study: Study, results: pd.DataFrame, changes: pd.DataFrame | None = None
) -> dict[str, str]:
    """The tables of numbers by heading, empty without rows; `page.md.jinja` explains them."""
    rows, conditions = tables.headline(study, results), tables.conditions(study, results)
    of_auc = rows[rows["metric"] == "auc"]
    rows, conditions, auc = (tables.with_daggers(t, of_auc) for t in (rows, conditions, of_auc))
    auc = _marked(auc)
    matrix, foreign = tables.matrix(study, results), tables.foreign(study, results)
    failed = ~matrix["learned"].astype(bool)
    matrix["train_set"] = matrix["train_set"].mask(failed, matrix["train_set"].astype(str) + " †")
    foreign = _marked(tables.with_daggers(foreign, of_auc))
    foreign["pair"] = foreign["test_set"] + " against " + foreign["real_source"]
    alarms = _with_texts(tables.false_alarms(study, results), chance=None)
    of_threshold, lost = ["accuracy_at_threshold", "f1_at_threshold"], ""
    if changes is not None and len(changes):
        lost = tables.difference_table(changes, "model", "test_set").map(escape)
        lost = to_markdown(lost.reset_index().rename(columns=_HEADERS))
    return {
        "AUC under `controlled`": _table(auc.query("protocol == 'controlled'"), ["model"]),
        "AUC under `report`": _table(auc.query("protocol == 'report'"), ["model"]),
        "Accuracy / F1 at 0.5": _pairs(rows, ["accuracy", "f1"], _DETECTOR),
        "Accuracy / F1 at the validation threshold": _pairs(rows, of_threshold, _DETECTOR),
        "Several seeds": _table(tables.seeds(study, results), _DETECTOR),
        "Trained on every generator in turn": _table(
            _bold(_marked(matrix), matrix["seen"]), ["approach", "train_set"]
        ),
        "The same fakes against other real photographs": _table(foreign, _DETECTOR, "pair"),
        "False alarms on photographs from elsewhere": _table(alarms, _DETECTOR, "real_source"),
        "Robustness": _robustness(rows, conditions[conditions["is_step"]]),
        "Parts of the test set": _subgroups(conditions[~conditions["is_step"]]),
        "Where the networks look": _attention(rows),
        "What the control takes away": lost,
    }


def _robustness(unchanged: pd.DataFrame, rows: pd.DataFrame) -> str:
    """A table for each kind of degradation."""
    parts, names = [], ["auc", "accuracy_at_threshold"]
    for kind, part in rows.groupby("kind", sort=False):
        keys = _DETECTOR + ["test_set"] * (part["test_set"].nunique() > 1)
        first = unchanged.merge(part[[*_DETECTOR, "test_set"]].drop_duplicates())
        first = first.assign(level="unchanged")
        part = part.assign(metric=part["name"], level=part["level"].replace("", kind))
        table = _pairs(pd.concat([first, part]), names, keys, "level")
        parts.append(f"`{kind}`, by its level:\n\n{table}")
    return "\n\n".join(parts)


def _subgroups(rows: pd.DataFrame) -> str:
    rows = rows[rows["name"] == "auc"]
    sizes = (rows["num_real"] + rows["num_fake"]).groupby([rows["kind"], rows["level"]])
    size = sizes.transform("max").astype(int).astype(str)
    rows = rows.assign(part=rows["kind"] + ": " + rows["level"] + " (n = " + size + ")")
    keys = _DETECTOR + ["test_set"] * (rows["test_set"].nunique() > 1)
    return _table(_marked(rows), keys, "part")


def _attention(rows: pd.DataFrame) -> str:
    suffixes, keys = ("", "_chance", "_elsewhere", "_excess"), [*_DETECTOR, "test_set"]
    heat, area, elsewhere, excess = (
        rows[rows["metric"] == f"cam_in_region{suffix}"].set_index(keys) for suffix in suffixes
    )
    heat = _with_texts(heat[heat.index.isin(excess.index)], chance=None)
    shares = (part["value"].reindex(heat.index) for part in (area, elsewhere))
    texts = [f"{text} / {own:.2f} / {other:.2f}" for text, own, other in zip(heat["text"], *shares)]
    found = excess["ci_low"].reindex(heat.index) > 0
    return _table(_bold(heat.assign(text=texts), found).reset_index(), _DETECTOR)


# The page ----------------------------------------------------------------------------------------


def write_summary(study: Study, changes: pd.DataFrame | None = None) -> list[Path]:
    """Writes `figures/<study>/summary.md` and `summary.html`, and returns their paths.

    Args:
        study: Whose results, cards, scores and figures to read.
        changes: From `comparisons.protocol_differences`; without it the page lacks this table.

    Raises:
        FileNotFoundError: If no results have been written.
        ValueError: If scores per image contradict themselves (`results.read_scores`).
    """
    text = summary(study, read_results(study), changes)
    web = to_html(text, f"True or Fake: {study.name}", study.figures)
    if not study.simulated:  # git does not take its figures: links to them would be dead
        text = re.sub(r"^!\[(.*)\]\(.*\)$", r"*In `summary.html`: \1*", text, flags=re.MULTILINE)
    return [
        write_atomically(
            study.figures / name, partial(Path.write_text, data=data, encoding="utf-8")
        )
        for name, data in {"summary.md": text, "summary.html": web}.items()
    ]


def summary(study: Study, results: pd.DataFrame, changes: pd.DataFrame | None = None) -> str:
    """The page in Markdown, with links to the figures in the same folder."""
    results = tables.in_reading_order(study, results)
    auc = _with_texts(tables.headline(study, results).query("metric == 'auc'"))
    names = [f"Autoencoder-{protocol}" for protocol in PROTOCOLS]
    names += (auc["model"] + "-" + auc["protocol"]).unique().tolist()
    cards = {name: read_json(study.models / f"{name}.json") for name in names}
    cards = {name: card for name, card in cards.items() if card}
    records = scores = sizes = None
    with suppress(FileNotFoundError):
        records = catalog.load(study)
        task = catalog.tasks(records, study).query("test_set == @study.train_set")
        sizes = task.groupby(["split", "label"]).size()
    with suppress(FileNotFoundError):
        scores = read_scores(study).query("model_id in @names")
    controlled = auc[auc["protocol"] == "controlled"]
    pixels = controlled[controlled["model"].isin([network.name for network in study.direct])]
    best = chosen_by_validation(study, pixels)
    against = None
    pair = [f"{name}-controlled" for name in (study.fourier.name, best)]
    if best and scores is not None and set(pair) <= set(scores.model_id):
        from ..evaluation.comparisons import differences  # imports Keras, which takes seconds

        against = differences(study, [pair]).set_index("test_set")
    numbers = number_tables(study, results, changes)
    other_seeds = tables.marked(study, results).query("own_training and not own_seed and seed >= 0")
    page = _TEMPLATES.get_template("page.md.jinja").render(
        study=study,
        protocols=PROTOCOLS,
        having=_having,
        auc=list(auc.itertuples()),
        num_pixel_networks=pixels["model"].nunique(),
        best=best,
        percentiles=auc["num_groups"].isna().any(),
        against=against,
        pixels=_in_domain_and_elsewhere(study, pixels, best),
        detector=lambda name: _in_domain_and_elsewhere(study, controlled, name),
        at_a_glance=_figure(AT_A_GLANCE) if (study.figures / AT_A_GLANCE).is_file() else "",
        numbers=numbers,
        leak=_leak(study, scores, records),
        leak_worth=tables.leak_in_words(tables.leak_differences(tables.leak_worth(study, results))),
        agreement=[tables.rank_agreement_in_words(study, results, name) for name in PROTOCOLS],
        seen=[row for row in auc.itertuples() if row.approach in tables.NETWORKS],
        verdicts=_verdicts(study, auc),
        sizes=sizes,
        tested=_tested(study, auc),
        found_again=_thresholds_found_again(study, scores, cards),
        other_seeds=other_seeds.groupby("model")["seed"].unique().to_dict(),
        cards=_cards(study, cards),
        report_rows=_report(study, results),
        contradictory=(tables.contradictions(tables.read_report_tables()) != "").tolist(),
        figures=_figures(study),
        missing=_missing(study, auc, [heading for heading, table in numbers.items() if not table]),
        environment=_environment(),
    )
    return re.sub(r"\n{3,}", "\n\n", page)


def _having(rows: list, **values) -> list:
    """The rows with these values."""
    return [row for row in rows if all(getattr(row, key) == values[key] for key in values)]


def _history(study: Study, name: str) -> tuple[pd.DataFrame, pd.Series] | None:
    """The training history of a network, if there is one, and its row of the epoch kept."""
    path = study.models / f"{name}.history.csv"
    if not path.is_file():
        return None
    history = pd.read_csv(path)
    return history, history.loc[history["val_loss"].idxmin()]


def chosen_by_validation(study: Study, auc: pd.DataFrame) -> str | None:
    """The detector with the highest validation AUC at the epoch kept; test results play no part.

    Args:
        study: Whose training histories to read.
        auc: Rows of `results.csv` of the detectors to choose from, under one protocol.

    Returns:
        Its name; `None` if there is no detector, or a training history is missing.
    """
    at_home = auc[auc["test_set"] == study.train_set]
    found = {
        row.model: _history(study, f"{row.model}-{row.protocol}") for row in at_home.itertuples()
    }
    if None in found.values():
        return None
    return max(found, key=lambda model: found[model][1]["val_auc"], default=None)


def _in_domain_and_elsewhere(study: Study, auc: pd.DataFrame, model: str | None) -> dict:
    """The rows of a detector (`None`: of all) on the generator of the training, and on others."""
    rows = auc[auc["model"].eq(model) | (model is None)].sort_values("value")
    home = rows["test_set"] == study.train_set
    return {
        "in_domain": list(rows[home].itertuples()),
        "elsewhere": list(rows[~home].itertuples()),
    }


def _leak(study: Study, scores: pd.DataFrame | None, records: pd.DataFrame | None) -> dict | None:
    """Tested groups, those of them in other splits, and persons; `None` where it is not known."""
    if scores is None or scores.empty or records is None:
        return None
    tested, validated = (
        set(scores["group"][scores["split"] == name]) for name in ("test", "valid")
    )
    used = catalog.tasks(records, study)
    trained = set(used["group"][used["split"] == "train"])
    persons = used[used["person"] != ""].groupby("person")["split"].agg(set)
    records = records[records["dataset"].isin(used["dataset"])]
    return {
        "tested": len(tested),
        "validated": len(tested & validated),
        "trained": len(tested & trained),
        "persons": len(persons),
        "persons_in_both": sum({"train", "test"} <= splits for splits in persons),
        "unnamed": [name for name, rows in records.groupby("dataset") if not rows["person"].any()],
    }


def _verdicts(study: Study, auc: pd.DataFrame) -> str:
    """How many intervals of detectors that see pictures lie above, around and below 0.5."""
    rows = auc[auc["approach"].isin(tables.NETWORKS)]
    in_domain = (rows["test_set"] == study.train_set).rename("tested on")
    in_domain = in_domain.map({True: "what they were trained on", False: "other generators"})
    counts = pd.crosstab([rows["protocol"], in_domain], rows["verdict"])
    return to_markdown(counts.reindex(columns=[*MARKS], fill_value=0).reset_index())


def _tested(study: Study, auc: pd.DataFrame) -> str:
    """The largest numbers of pictures and groups that each test set was tested on."""
    rows = auc.sort_values("num_fake", ascending=False).drop_duplicates("test_set")
    rows = tables.in_reading_order(study, rows.assign(protocol="", approach="", model=""))
    names = dict(test_set="test set", num_fake="fakes", num_real="reals", real_source="reals of")
    names["num_groups"] = "groups"
    rows["num_groups"] = rows["num_groups"].astype("Int64")
    return to_markdown(rows[[*names]].map(escape).rename(columns=names))


def _thresholds_found_again(
    study: Study, scores: pd.DataFrame | None, cards: dict[str, dict]
) -> list[bool]:
    """For each card whose scores are there, whether they give its threshold."""
    if scores is None:
        return []
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
        if found := _history(study, name):
            history, kept = found
            row["epoch kept"] = f"{kept['epoch']:.0f} of {len(history)}"
            row["training"] = f"{history['seconds'].sum():,.0f} s"
            row["images/s"] = f"{history['images_per_second'].median():,.0f}"
        rows.append(row)
    table = pd.DataFrame(rows, columns=columns).astype({"seed": "Int64"})
    return to_markdown(table, 3) if rows else ""


def _report(study: Study, results: pd.DataFrame) -> str:
    """The report's rows of which there is one of ours under `report`."""
    both = tables.report_table(study, results).dropna(subset=["accuracy_report", "accuracy_ours"])
    table = tables.report_texts(both).drop(columns="train_set")
    last = "what cannot be in the report's row"
    table[last] = table.pop("contradiction").str.replace(r"^(?=.)", "⚠ ", regex=True)
    return to_markdown(table.rename(columns=_HEADERS)) if len(table) else ""


def _figures(study: Study) -> str:
    """The figures in the page's folder, by notebook; of real people, those that show none."""
    paths = study.figures.glob("[!.]*.png")
    names = sorted(path.name for path in paths if path.name != AT_A_GLANCE)
    shown = [name for name in names if study.simulated or SHOWS_NOBODY.fullmatch(name)]
    notebooks = (ROOT / "notebooks").glob("*.ipynb")
    titles = {path.stem[:2]: path.stem[3:].replace("_", " ") for path in notebooks}
    parts = []
    for number, group in groupby(shown, lambda name: name[:2]):
        parts += [f"### {escape(number)} · {titles.get(number, 'others')}", *map(_figure, group)]
    if hidden := [escape(name) for name in names if name not in shown]:
        parts.append(f"Left out, since they show people, or may: {', '.join(hidden)}.")
    return "\n\n".join(parts) or "None yet."


def _figure(name: str) -> str:
    caption = re.sub(r"^\d\d_", "", name.removesuffix(".png")).replace("_", " ")
    return f"![{escape(caption)}]({quote(name)})"


def _missing(study: Study, auc: pd.DataFrame, empty: list[str]) -> list[str]:
    """The study's detectors without a result under a protocol or on a test set; empty tables."""
    notebooks = {"Metadata": 2, "PCA_probe": 2} | {
        network.name: 3 for network in (*study.direct, study.probe)
    }
    notebooks |= {study.fourier.name: 4, study.autoencoder.classifier.name: 5}
    of_study = "" if study.name == "demo" else f" STUDY={study.name}"
    have, lines = auc.groupby(["model", "protocol"])["test_set"].agg(set), []
    for model, protocol in product(notebooks, PROTOCOLS):
        absent = [name for name in study.test_sets if name not in have.get((model, protocol), ())]
        where = "any test set" if len(absent) == len(study.test_sets) else ", ".join(absent)
        if absent:
            how = f"`make reproduce{of_study}`, notebook {notebooks[model]}"
            lines.append(f"{model} under `{protocol}` on {where}: {how}")
    asked = {
        "The same fakes against other real photographs": study.foreign_reals,
        "False alarms on photographs from elsewhere": study.unseen_reals,
    }
    for heading in empty:
        how = f"`make {'extended' if heading in EXTENDED else 'reproduce'}{of_study}`"
        lines.append(f"{heading}: {how if asked.get(heading, True) else 'the study names none'}")
    return lines


def _environment() -> str:
    """Versions of what the numbers depend on."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):  # a backend, or another OpenCV
            found.append(f"{package} {importlib.metadata.version(package)}")
    return ", ".join(found) + "."


# Markdown as HTML --------------------------------------------------------------------------------


def to_html(text: str, title: str, folder: Path) -> str:
    """Markdown as one HTML page without scripts or addresses, with the figures of `folder` inside.

    HTML in the text is escaped; a paragraph of one image becomes a figure.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens, headings, figures = parser.parse(text), [], []
    for before, token, after in zip(tokens, tokens[1:], tokens[2:]):
        if before.type == "heading_open" and before.tag == "h2":
            before.attrSet("id", f"part{len(headings)}")
            headings.append(token.content)
        if token.type == "inline" and [child.type for child in token.children] == ["image"]:
            before.tag = after.tag = "figure"
            figures.append(token.children[0])
    paths = [folder / unquote(figure.attrs["src"]) for figure in figures]
    for figure, (kind, data) in zip(figures, _embedded(paths)):
        figure.attrSet("src", f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
    body = parser.renderer.render(tokens, parser.options, {})
    region = '<div class="table" role="region" tabindex="0" aria-label="Table"><table>'
    body = body.replace("<table>", region).replace("</table>", "</table></div>")
    template = _TEMPLATES.get_template("page.html.jinja")
    return template.render(title=title, headings=headings, body=body)


def _embedded(paths: list[Path]) -> list[tuple[str, bytes]]:
    """The figures, `compressed`, all as wide at most as it takes to keep within `MAX_BYTES`."""
    width = MAX_WIDTH
    while True:
        files = []
        for path in paths:
            with Image.open(path) as image:
                image = image.convert("RGB")
            image.thumbnail((width, image.height))
            files.append(compressed(image, num_colors=256))
        total = sum(len(data) for _, data in files)
        if total <= MAX_BYTES or width == MIN_WIDTH:
            return files
        # Bytes grow a little faster than the width: this takes two or three rounds.
        width = max(MIN_WIDTH, int(width * (MAX_BYTES / total) ** 0.8) - 5)


def compressed(image: Image.Image, num_colors: int = 128) -> tuple[str, bytes]:
    """`"png"` (with a palette) or `"jpeg"`, whichever is smaller, and the file's content.

    Args:
        image: Without transparency.
        num_colors: Of the palette, at most 256; colour maps show bands with few.
    """
    chart, photograph = io.BytesIO(), io.BytesIO()
    image = image.convert("RGB")
    image.quantize(num_colors, Image.Quantize.FASTOCTREE).save(chart, "PNG", optimize=True)
    image.save(photograph, "JPEG", quality=70, optimize=True)
    files = ("png", chart.getvalue()), ("jpeg", photograph.getvalue())
    return min(files, key=lambda file: len(file[1]))


# The README's tables -----------------------------------------------------------------------------


def readme_table(study: Study) -> str:
    """AUC of all detectors and test sets, in Markdown: `report → controlled [the report's]`."""
    rows = tables.headline(study, read_results(study)).query("metric == 'auc'")
    texts = rows["value"].map("{:.2f}".format) + np.where(tables.unlearned(rows), "†", "")
    rows = rows.assign(text=texts, order=rows["protocol"], protocol="")
    rows = tables.in_reading_order(study, rows)
    values = tables.wide(rows, ["model", "test_set"], "order", "text")
    values = values.reindex(columns=[*PROTOCOLS])
    reference = tables.report_table(study, read_results(study)).dropna(subset=["auc_report"])
    given = reference.set_index(["model", "test_set"])["auc_report"]
    texts = values.fillna("–").agg(" → ".join, axis=1).unstack("test_set", sort=False)
    texts = texts.reindex(columns=[*study.test_sets]).fillna("– → –")
    for model, test_set in given.index.intersection(pd.MultiIndex.from_product(texts.axes)):
        texts.loc[model, test_set] += f" [{given[model, test_set] / 100:.2f}]"
    return to_markdown(texts.reset_index().rename(columns=_HEADERS))


def update_readme(readme: Path = ROOT / "README.md") -> bool:
    """Writes tables and answers of all studies into the README. Returns whether it changed.

    The tables are of `results.csv`, the answers those of `summary.md`.
    """

    def block(found: re.Match) -> str:
        study = get_study(found[2])
        page = study.figures / "summary.md"
        if not (study.figures / "results.csv").is_file() or not page.is_file():
            return found[0]
        inside = readme_table(study)
        if found[1] == "answers":
            inside = re.search(rf"## {ANSWER}\n(.*?)\n\n", page.read_text("utf-8"), re.DOTALL)[1]
        return f"<!-- {found[1]}: {study.name} -->\n\n{inside}\n\n<!-- end -->"

    text, blocks = (
        readme.read_text(encoding="utf-8"),
        r"<!-- (results|answers): (\w+) -->.*?<!-- end -->",
    )
    new = re.sub(blocks, block, text, flags=re.DOTALL)
    if new != text:
        write_atomically(readme, lambda file: file.write_text(new, encoding="utf-8"))
    return new != text


if __name__ == "__main__":
    print("README.md rewritten" if update_readme() else "README.md is up to date")
