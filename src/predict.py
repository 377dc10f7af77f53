"""A verdict on any picture: `python -m src.predict PICTURE|FOLDER|PATTERN …`.

Every face gets the probability that it was generated, and a verdict: real, fake or unsure. It is
unsure where validation pictures of both classes, or of neither, had such probabilities, and where
half the resolution or JPEG again would change the verdict: it depends on the file, not on the face.
In Python the same is `predict(["photo.jpg", "holiday"])`.
"""

import argparse
import glob
import io
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from .config import Study, get_study
from .data import faces
from .detectors import explain, models, reference, scoring, shipped, training
from .detectors.normalisation import fold
from .evaluation import metrics, results
from .evaluation.metrics import conformal_band
from .files import progress, write_atomically
from .pictures.decoding import UnreadableImage, read
from .pictures.spectrum import radial_profile
from .pictures.steps import run
from .report import style, tables

# What may happen to a picture on its way, in steps.
DELIVERIES = {"as it is": (), "half size": ("downscale:2",), "JPEG 60": ("jpeg:60",)}
DELIVERIES["half size, JPEG 60"] = ("downscale:2", "jpeg:60")
COLUMNS = ["path", "face", "verdict", "probability", *DELIVERIES, *faces.BOX, "warnings", "error"]
DEFAULT = "shipped/specialists"  # for simulated pictures: "demo/Multidepth_probe-controlled"
ETHICS = "A verdict is no proof: accuse nobody because of it, and ask where the picture comes from."
SCENE = 2  # a detector sees a square, its side so many times the longer side of the face's box
SMALL = 64  # pixels: a face with a shorter side shows little detail
UNLIKE = "unlike the pictures it learned from"  # see `reference.squared_distances`
_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
_AT_ONCE, _PIXELS_AT_ONCE = 16, 50_000_000  # files; pixels of all, unless one file has more
_SCORED_AT_ONCE = 4  # nearly as fast as more, with less memory


@dataclass(frozen=True)
class Detector:
    """A trained detector, and what turns its scores into verdicts."""

    model: models.keras.Model  # pixels `(N, S, S, channels)` `uint8` to scores `(N, 1)`
    steps: tuple[str, ...]  # from the square around a face to these pixels
    card: dict  # of its training; `slope` and `intercept` calibrate the scores
    threshold: float  # calibrated
    band: tuple[float, float]  # see `conformal_band`
    reference: reference.Reference
    about: str  # what it was trained on, and what it is not known to detect


def load(name: str = DEFAULT) -> Detector:
    """The shipped detector, or `"study/model"` of the notebooks, after a self-test.

    Raises:
        FileNotFoundError: If it was not trained on this machine.
        ValueError: If there is no such study, if its file is damaged, holds no detector or needs
            code of its own (never run), or if it judges crops of faces, as autoencoders do.
        RuntimeError: If this installation computes other scores than the one that trained it.
    """
    if name == DEFAULT:
        model, card, known = shipped.load()
        rules = card["threshold"], tuple(card["band"])
        return Detector(model, shipped.STEPS, card, *rules, known, card["about"])
    study, _, name = name.rpartition("/")
    study = get_study(study)
    card = training.read_card(study.models / name)
    if card.get("approach") not in ("direct", "probe", "fourier"):
        known = "expected a detector of pictures or of their spectra"
        raise ValueError(f"{name} has the approach {card.get('approach')!r}; {known}.")
    model = fold(_read_model(study.models / f"{name}.keras"))
    how = {"slope": card["slope"], "intercept": card["intercept"]}
    valid = results.validation_rows(results.read_scores(study, name), card["train_set"])
    band = conformal_band(valid["label"].to_numpy(), metrics.calibrated(valid["score"], **how))
    threshold = float(metrics.calibrated(card["threshold"], **how))
    study = replace(study, image_size=model.input.shape[1])  # another one where there is a GPU
    steps = scoring.last_steps(study, card["approach"], card["config"]["view"])
    steps = (f"squash:{study.square_size}", "jpeg:75", *steps)
    known = reference.load(study, name, model, steps)
    return Detector(model, steps, card, threshold, band, known, _about(study, card))


def _read_model(file: Path) -> models.keras.Model:
    """A detector from an untrusted file: Keras' safe mode refuses foreign code."""
    try:
        model = models.keras.models.load_model(file, compile=False, safe_mode=True)
        models.parts(model)
        side, also, channels = model.input.shape[1:]
        if side != also or channels not in (1, 3) or model.output.shape[1:] != (1,):
            expected = "expected square pictures of 1 or 3 channels, and one score"
            found = f"it takes {model.input.shape} and returns {model.output.shape}"
            raise ValueError(f"{found}; {expected}")
    except Exception as error:  # damaged files raise errors of many kinds
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{file} is no detector that can be used: {reason}") from error
    return model


def _about(study: Study, card: dict) -> str:
    """What a detector was trained on, and which generators it is not known to detect."""
    rows = tables.headline(study, results.read_results(study)).query("metric == 'auc'")
    rows = rows[(rows["model"] == card["model"]) & (rows["protocol"] == card["protocol"])]
    known = rows["ci_low"] > 0.6
    missed = f" It is not known to detect {', '.join(rows.loc[~known, 'test_set'])}."
    seen = study.training(card["train_set"])
    return f"It was trained on {seen}." + missed * bool((~known).any())


def verdict(probabilities: np.ndarray, threshold: float, band: tuple[float, float]) -> str:
    """`"real"`, `"fake"` or `"unsure"`, from the probabilities of a face in all `DELIVERIES`."""
    above = probabilities >= threshold
    can_be_fake, can_be_real = probabilities[0] >= band[0], probabilities[0] <= band[1]
    if can_be_fake == can_be_real or above.any() != above.all() or above[0] != can_be_fake:
        return "unsure"
    return "fake" if can_be_fake else "real"


def predict(images: Sequence[str | Path], model: str = DEFAULT) -> pd.DataFrame:
    """Verdicts on pictures, given as names of files or folders, or as patterns.

    Returns a table of `COLUMNS`, a row a face. The surest face of a picture comes first. A picture
    without a face is judged as a whole. A file that is no picture has a row with the `error`. Boxes
    are fractions of the upright picture. Errors are those of `load` and `expand`.
    """
    files, detector = expand(images), load(model)
    return pd.concat([table for table, _ in judge(files, detector)], ignore_index=True)


def judge(
    files: Sequence[Path | BinaryIO], detector: Detector
) -> Iterator[tuple[pd.DataFrame, list[Image.Image]]]:
    """Verdicts on a few files at a time; the path of an open file is its `name`.

    Yields a table as of `predict`, and the square around each of its faces.
    """
    with ThreadPoolExecutor(2) as pool:
        for rows, squares, pixels in _ahead(partial(_look, detector, pool), _in_parts(files)):
            probabilities, is_far = score(pixels, detector)
            judged = (row for row in rows if "face" in row)
            values_of = probabilities.reshape(-1, len(DELIVERIES))
            for row, values, far in zip(judged, values_of, is_far[:: len(DELIVERIES)].tolist()):
                row |= {"probability": values[0], **dict(zip(DELIVERIES, values))}
                row["verdict"] = verdict(values, detector.threshold, detector.band)
                row["warnings"] = "; ".join(row["warnings"] + [UNLIKE] * far)
            yield pd.DataFrame(rows, columns=COLUMNS).astype({"face": "Int64"}), squares


def _look(
    detector: Detector, pool: ThreadPoolExecutor, files: list
) -> tuple[list[dict], list[Image.Image], np.ndarray]:
    """Rows without verdicts, squares around faces, and the pixels of each in all `DELIVERIES`."""
    opened = list(pool.map(_upright, files))
    pictures = [picture for picture in opened if isinstance(picture, Image.Image)]
    found = iter(faces.find_all(list(pool.map(faces.shrunk, pictures))))
    rows, squares = [], []
    for file, picture in zip(files, opened):
        path = str(file) if isinstance(file, Path) else file.name
        if isinstance(picture, str):
            rows.append({"path": path, "error": picture})
            continue
        boxes = next(found)[:, :4]
        noted = _warnings(picture, boxes)
        for number, box in enumerate(boxes if len(boxes) else [(0, 0, 1, 1)], start=1):
            squares.append(_square_around(picture, box) if len(boxes) else picture)
            row = {"path": path, "face": number, "warnings": noted}
            rows.append(row | dict(zip(faces.BOX, map(float, box))))
    ways = [(square, way) for square in squares for way in DELIVERIES.values()]
    return rows, squares, np.array(list(pool.map(lambda way: delivered(*way, detector), ways)))


def _ahead(function: Callable, items: Iterable) -> Iterator:
    """`map`, but a thread works on the next item while a value is used."""
    with ThreadPoolExecutor(1) as thread:
        waiting = None
        for item in items:
            waiting, ready = thread.submit(function, item), waiting
            if ready:
                yield ready.result()
        if waiting:
            yield waiting.result()


def delivered(square: Image.Image, way: Sequence[str], detector: Detector) -> np.ndarray:
    """What a detector sees of a square after the steps of its delivery: `(S, S, channels)`."""
    return np.reshape(run(square, (*way, *detector.steps), None), detector.model.input.shape[1:])


def score(pixels: np.ndarray, detector: Detector) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities `(N,)` of pixels `(N, S, S, channels)`, and which are `UNLIKE`."""
    if not len(pixels):
        return np.empty(0), np.empty(0, bool)
    extractor, head = models.parts(detector.model)
    starts = range(0, len(pixels), _SCORED_AT_ONCE)
    features = [extractor.predict_on_batch(pixels[k : k + _SCORED_AT_ONCE]) for k in starts]
    features = np.concatenate(features)
    scores = np.ravel(head.predict_on_batch(features))
    is_far = reference.squared_distances(detector.reference, features) > detector.reference.limit
    return metrics.calibrated(scores, detector.card["slope"], detector.card["intercept"]), is_far


def _in_parts(files: Sequence[Path | BinaryIO]) -> Iterator[list]:
    """The files in order, a few at a time, so that large ones do not fill the memory."""
    part, num_pixels = [], 0
    for file in files:
        size = 0
        with suppress(Exception), Image.open(file) as image:  # reading it says why it fails
            size = image.width * image.height
        if part and (len(part) == _AT_ONCE or num_pixels + size > _PIXELS_AT_ONCE):
            yield part
            part, num_pixels = [], 0
        part.append(file)
        num_pixels += size
    if part:
        yield part


def _upright(file: Path | BinaryIO) -> Image.Image | str:
    """A picture turned as its EXIF says, or why it cannot be read."""
    try:
        return ImageOps.exif_transpose(read(file))
    except UnreadableImage as error:
        return error.args[1]


def _square_around(picture: Image.Image, box: np.ndarray) -> Image.Image:
    """The square around a face, within the picture, with a corner where JPEG's blocks have one."""
    start, stop = np.reshape(box, (2, 2)) * picture.size
    side = min(SCENE * (stop - start).max(), *picture.size)
    corner = 8 * (np.clip((start + stop - side) / 2, 0, np.subtract(picture.size, side)) // 8)
    return picture.crop([round(place) for place in (*corner, *np.add(corner, side))])


def _warnings(picture: Image.Image, boxes: np.ndarray) -> list[str]:
    """What makes verdicts on a picture doubtful."""
    noted = []
    if len(boxes) != 1:
        noted.append(f"{len(boxes)} faces" if len(boxes) else "no face found: all of it was judged")
    sides = (boxes[:, 2:] - boxes[:, :2]) * picture.size
    if len(sides) and sides.min() < SMALL:
        noted.append(f"a face of {sides.min():.0f} pixels: small")
    if not np.ptp(np.asarray(picture.resize((64, 64)), int), axis=-1).any():
        noted.append("grey")
    return noted


def expand(names: Sequence[str]) -> list[Path]:
    """The files that names stand for: files, pictures at any depth of folders, or patterns.

    A name that means no file is a `FileNotFoundError`.
    """
    found = []
    for name in names:
        path = Path(name).expanduser()
        files = [Path(file) for file in sorted(glob.glob(str(path), recursive=True))]
        if path.is_dir():
            files = sorted(f for f in path.rglob("[!.]*") if f.suffix.lower() in _ENDINGS)
        elif path.exists():  # also where its name has brackets or stars
            files = [path]
        if not files:
            expected = "Expected a file, a folder with pictures or a pattern such as '*.jpg'"
            raise FileNotFoundError(f"Nothing was found for {name!r}. {expected}.")
        found += files
    return list(dict.fromkeys(found))


@style.styled
def draw(pixels: np.ndarray, detector: Detector, title: str) -> Figure:
    """A face as the detector sees it, its heat map, and its spectrum beside those of validation."""
    size = {"patch": len(pixels) // 4, "stride": len(pixels) // 8}
    with redirect_stdout(io.StringIO()):  # `occlusion` prints a progress bar
        [heat] = explain.occlusion(detector.model, pixels[None], **size)
    spectra = reference.spectrum_of(pixels), *detector.reference.spectra
    names = ("this face", "mean of photographs", "mean of fakes")
    titles = ["as it is seen", "orange speaks for fake", "spectrum: mean by frequency", *names]
    figure, axes = style.new_axes(titles, 3, 2.9, 0.5, title, num_columns=3)
    seen, where, profile, *below = axes.flat
    shown = np.broadcast_to(pixels, (*pixels.shape[:2], 3))  # a spectrum is grey
    style.show_picture(seen, shown)
    style.show_picture(where, shown @ (0.299, 0.587, 0.114), cmap="gray", vmin=0, vmax=255)
    highest = max(np.abs(heat).max(), 1e-9)
    where.imshow(heat, cmap="PuOr_r", vmin=-highest, vmax=highest, alpha=0.6)
    colors = ("black", style.REAL, style.FAKE)
    for axis, spectrum, name, color in zip(below, spectra, names, colors):
        style.show_picture(axis, spectrum, cmap="magma", vmin=0, vmax=255)
        values = radial_profile(spectrum)
        profile.plot(np.linspace(0, 0.5, len(values)), values, color=color, label=name)
    profile.set(xlabel="cycles per pixel", ylabel="grey levels")
    profile.legend(fontsize=9)
    return figure


def _explain(table: pd.DataFrame, squares: list, detector: Detector, folder: Path) -> None:
    """Draws every face of a table into a PNG of its own."""
    for row, square in zip(table[table["error"].isna()].itertuples(), squares, strict=True):
        name = f"{Path(row.path).stem}-{zlib.crc32(row.path.encode()):08x}"  # stems may recur
        title = f"face {row.face}: {row.verdict}, probability of fake {row.probability:.2f}"
        figure = draw(delivered(square, (), detector), detector, title)
        figure.savefig(folder / f"{name}-face{row.face}.png")


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns 0, or 3 if some files could not be read."""
    parser = argparse.ArgumentParser("python -m src.predict", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("pictures", nargs="+", help="files, folders or patterns such as 'holiday/*.jpg'")
    add("--model", default=DEFAULT, help=f"study/model of a trained detector (default: {DEFAULT})")
    add("--csv", type=Path, metavar="FILE", help="write the table, all columns, to a file")
    add("--json", action="store_true", help="print a JSON object a face, and nothing else")
    add("--explain", type=Path, metavar="FOLDER", help="draw heat map and spectrum")
    options = parser.parse_args(arguments)
    try:
        files, detector = expand(options.pictures), load(options.model)
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        parser.error(str(error))  # exits with 2
    if options.explain:
        options.explain.mkdir(parents=True, exist_ok=True)
    parts, bar = [], progress(description="Pictures", total=len(files), disable=options.json)
    for table, squares in judge(files, detector):
        parts.append(table)
        bar.update(table["path"].nunique())
        if options.explain:
            _explain(table, squares, detector, options.explain)
    bar.close()
    table = pd.concat(parts, ignore_index=True)
    if options.csv:
        write_atomically(options.csv, lambda path: table.to_csv(path, index=False))
    if options.json:
        print(table.to_json(orient="records", lines=True), end="")
    else:
        shown = table[["path", "face", "verdict", "probability", "warnings"]]
        shown = shown.assign(warnings=table["warnings"].fillna(table["error"]))
        shown = shown.to_string(index=False, na_rep="", float_format="{:.2f}".format)
        print(shown, detector.about, ETHICS, sep="\n\n")
    return 3 if table["error"].notna().any() else 0


if __name__ == "__main__":
    sys.exit(main())
