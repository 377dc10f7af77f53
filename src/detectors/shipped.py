"""The detector of real pictures that comes with the project: `python -m src.detectors.shipped`.

Only its head lies in the repository: the specialists of `beyond`, fitted to pictures at their own
resolution. The one of self-blended photographs is not among them: with it, more photographs of new
sources were called fake. The command fits it anew, for example with `STUDY=faces FACES=folder`.
"""

import json
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.metrics import roc_auc_score

from .. import setup
from ..config import LABELS, ROOT, STUDIES, Study
from ..data import catalog
from ..evaluation import audit, comparisons, intervals, metrics
from ..files import TEMPLATES, write_atomically, write_text
from . import beyond, models, reference, scoring
from .normalisation import fold

FILE = ROOT / "models" / "shipped" / "specialists.safetensors"
STEPS = beyond.middle(STUDIES["faces"])  # from the square around a face to what the detector sees


def load() -> tuple[keras.Model, dict, reference.Reference]:
    """The model, what turns its scores into verdicts (its card), and its reference.

    Raises:
        ValueError: If the file is missing or damaged.
        RuntimeError: If this installation computes other scores than the one that fitted it.
    """
    try:
        with safe_open(FILE, framework="numpy") as file:
            card = json.loads(file.metadata()["card"])
            arrays = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}
        model = _model(arrays.pop("kernels"), arrays.pop("biases"))
        known = reference.Reference(scored=card["scored"], **arrays)
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        advice = "It comes with the repository: `git checkout models/shipped` restores it."
        raise ValueError(f"{FILE} cannot be used: {error}. {advice}") from error
    reference.self_test(known, model, STEPS, FILE)
    return model, card, known


def _model(kernels: np.ndarray, biases: np.ndarray) -> keras.Model:
    extractor = fold(beyond.build_extractor(STUDIES["faces"]))
    return models.join(extractor, beyond.build_head(kernels, biases))


def fit(study: Study) -> Path:
    """Fits the detector to a study's pictures, and writes its file and its card `README.md`."""
    records = catalog.load(study)
    seen = [beyond.see(study, records, "report", delivered) for delivered in (False, True)]
    (table, features), (other, delivered) = seen
    both = pd.concat([table, other.assign(row=other["row"] + len(features))], ignore_index=True)
    views = beyond.in_views(np.concatenate([features, delivered]))
    logits, heads = beyond.out_of_fold(both, views)
    heads.pop(beyond.MADE, None)
    kernels, biases = (np.array(part, np.float32) for part in zip(*heads.values()))
    parts = logits[: len(table)], logits[len(table) :].reset_index(drop=True)
    once = beyond.scored(table, beyond.combine(parts[0], [beyond.MADE])).drop_duplicates("row")
    how = metrics.fit_calibration(once["label"], once["score"])
    probability = metrics.calibrated(once["score"], **how)
    rows = [beyond.compare(study, table, part, "report") for part in parts]
    rows = pd.concat(rows, keys=["as it is", "delivered"], names=["files", None]).reset_index(0)
    rows = rows[(rows["model"] == beyond.ALL_VIEWS) & rows["train_set"].str.match("generators")]
    new = left_out(both, views, logits, len(table))
    card = {
        "model": "Specialists",
        "approach": "probe",
        "families": list(heads),
        **how,
        "threshold": metrics.choose_threshold(once["label"], probability),
        "band": metrics.conformal_band(once["label"].to_numpy(), probability),
        "about": _about(once, rows, new),
        "scored": f"{len(once)} pictures",
    }
    arrays = {"kernels": kernels, "biases": biases}
    known = _reference(study, records, once, features, _model(kernels, biases))._asdict()
    for name in known.keys() - {"scored"}:
        dtype = np.float16 if name == "spectra" else np.float32
        # safetensors 0.8 writes arrays of another memory order as if they were in C's.
        arrays[name] = np.ascontiguousarray(known[name], dtype)
    write_atomically(FILE, lambda path: save_file(arrays, path, {"card": json.dumps(card)}))
    write_atomically(FILE.with_name("left_out.csv"), partial(new.to_csv, index=False))
    headers = _headers(study, table[table["test_set"] != beyond.MADE])
    text = _card(once, rows, new, card | {"headers": headers})
    return write_text(FILE.with_name("README.md"), text)


def left_out(both: pd.DataFrame, views: dict, logits: pd.DataFrame, number: int) -> pd.DataFrame:
    """Verdicts on what neither detector nor band has seen: a family, a source of photographs.

    Fakes of a family are judged without its specialist; photographs of a source by detectors that
    learnt from none of its pictures, nor of the fakes that are compared with it. Calibration, band
    and threshold come from the other pictures; where these are of one class, nothing is left out.

    Args:
        both: Rows of `beyond.see`; the first `number` are judged, all are learnt from.
        views: Their features by view.
        logits: Of `beyond.out_of_fold`, of all families.

    Returns:
        A row for each `left_out`, `label` and `share`, with the columns of `intervals.rate`: of the
        verdicts `"real"`, `"unsure"` and `"fake"`, and `"found at 1% false positives"` (of the
        other photographs) and at 5 %.
    """
    table, is_real, asked, rows = both[:number], both["label"] == "real", [], []
    for name in logits[beyond.ALL_VIEWS].columns.drop(["any", beyond.MADE], errors="ignore"):
        is_left = ~is_real & (both["generator"].map(beyond.family) == name)
        if not (is_real | is_left).all():
            asked.append((name, logits, is_left, ~is_left))
    sets = both["real_source"].unique()
    for source in both.loc[is_real, "dataset"].unique():
        near = [each for each in sets if source in each.split("&")]
        is_known = ~both["real_source"].isin(near)
        if is_real[is_known].nunique() == 2:
            others = beyond.out_of_fold(both, views, near)[0]
            asked.append((source, others, is_real & (both["dataset"] == source), is_known))
    for name, each, is_left, is_known in asked:
        score = beyond.scored(table, beyond.combine(each[:number], [name, beyond.MADE]))
        left, known = (score.loc[part].drop_duplicates("row") for part in (is_left, is_known))
        how = metrics.fit_calibration(known["label"], known["score"])
        old, new = (metrics.calibrated(part["score"], **how) for part in (known, left))
        low, high = metrics.conformal_band(known["label"].to_numpy(), old)
        can_be_fake, can_be_real = new >= low, new <= high
        rules = comparisons.recall_by_generator(known).drop_duplicates("rule")
        limits = rules.set_index("rule")["threshold"]
        shares = {
            "real": ~can_be_fake & can_be_real,
            "unsure": can_be_fake == can_be_real,
            "fake": can_be_fake & ~can_be_real,
        }
        for rule, limit in limits.drop("threshold 0.5").items():
            shares[f"found at {rule}"] = left["score"].to_numpy() >= limit
        row = {"left_out": name, "label": LABELS[left["label"].iloc[0]]}
        for share, events in shares.items():
            rows.append(row | {"share": share, **intervals.rate(events, left["group"])})
    return pd.DataFrame(rows, columns=["left_out", "label", "share", "value", "ci_low", "ci_high"])


def _about(once: pd.DataFrame, rows: pd.DataFrame, new: pd.DataFrame) -> str:
    """What it was fitted to, and what it says of families and sources that it has not seen."""
    held = rows[rows["train_set"].str.match(".* but ") & (rows["files"] == "as it is")]
    real, fake = (once[once["label"] == label] for label in (0, 1))
    return (
        f"It was fitted to {len(real):,} photographs of {' and '.join(real['dataset'].unique())} "
        f"and to fakes of {', '.join(fake['generator'].unique())}. Of generators that it has not "
        f"seen it finds little: with one family held out, its AUC on that family was "
        f"{held['value'].min():.2f} to {held['value'].max():.2f} (chance is 0.50). "
        "Photographs of a source that it has not seen may be called fake (of a source that was "
        f"left out: {_wrong(new, 'real')})."
    )


def _headers(study: Study, table: pd.DataFrame) -> str:
    """The generators whose files one trait of the header tells from photographs, in a sentence."""
    table, found = table.reset_index(drop=True), []
    traits = audit.file_traits(catalog.files(study, table)).drop(columns="bytes_per_pixel")
    traits = traits.fillna(-1)
    for name, rows in table.groupby("test_set", sort=False):
        auc = traits.iloc[rows.index].apply(partial(roc_auc_score, rows["label"] == "fake"))
        trait = (auc - 0.5).abs().idxmax()
        if abs(auc[trait] - 0.5) > 0.25:
            found.append(f"{name} ({trait}, AUC {auc[trait]:.2f})")
    return (
        f"Files as they came may tell, too: one number of the header alone tells fakes of "
        f"{', '.join(found) or 'none'} from photographs. Of these, part of what was found as it is "
        "may be the file."
    )


def _reference(study, records, once, features, model) -> reference.Reference:
    """Distances from the training pictures, mean spectra and the self-test; see `reference`."""
    study = catalog.every_generator(study, records)
    pictures = scoring.prepare(study, records, "report", "probe", steps=STEPS)
    is_valid = beyond.folds(once["group"]) == 0
    label, row = once["label"].to_numpy(), once["row"].to_numpy()
    shown = [pictures.pixels[reference.some(row[is_valid & (label == one)])] for one in (0, 1)]
    train, valid = (features[reference.some(row[part])] for part in (~is_valid, is_valid))
    return reference.of_features(train, valid, shown, model, STEPS, f"{len(once)} pictures")


def _card(once: pd.DataFrame, rows: pd.DataFrame, left: pd.DataFrame, card: dict) -> str:
    """The text of the model card."""
    recall = comparisons.recall_by_generator(once)
    recall = recall[recall["rule"].str.contains("%")]
    wrong = {label: _wrong(left, label) for label in LABELS}
    tables = {"once": once, "rows": rows, "recall": recall, "left": left, "wrong": wrong}
    template = TEMPLATES.get_template("detectors/shipped.md.jinja")
    return template.render(card, **tables, side=STUDIES["faces"].detail_size, family=beyond.family)


def _wrong(shares: pd.DataFrame, label: str) -> str:
    """The shares of `left_out` that got the other class's verdict, from the least to the most."""
    other = {"real": "fake", "fake": "real"}[label]
    values = shares[(shares["label"] == label) & (shares["share"] == other)]["value"]
    return f"{values.min():.0%} to {values.max():.0%}" if len(values) else "not measured"


if __name__ == "__main__":
    print(fit(setup("faces")))
