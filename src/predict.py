"""A verdict on any picture: `python -m src.predict PICTURE|FOLDER|PATTERN …`.

Every face gets the probability that it was generated, and a verdict: real, fake or unsure. It is
unsure where validation pictures of both classes had such probabilities, or where saving the picture
smaller or once more as JPEG would turn the verdict: it would depend on the file, not on the face.
"""

import argparse
import glob
import sys
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from .config import Study, get_study
from .data import faces
from .detectors import explain, scoring, training
from .evaluation import metrics, results
from .files import progress, write_atomically
from .pictures.decoding import UnreadableImage, read
from .pictures.spectrum import magnitude_spectrum, to_uint8
from .pictures.steps import run
from .report import data_charts, tables

# What may happen to a picture on its way, in steps.
DELIVERIES = {"as it is": (), "half size": ("downscale:2",), "JPEG 60": ("jpeg:60",)}
DELIVERIES["half size, JPEG 60"] = ("downscale:2", "jpeg:60")
COLUMNS = ["path", "face", "verdict", "probability", *DELIVERIES, *faces.BOX, "warnings", "error"]
DEFAULT = "demo/Multidepth_probe-controlled"
ETHICS = "A verdict is no proof: accuse nobody on its account, and ask where the picture is from."
ERROR_RATE = 0.05  # of each class that may get the other's verdict, on pictures like validation's
SCENE = 2  # a detector sees a square around the face, so many times as large as its box
SMALL = 64  # pixels: a face with a shorter side shows little
_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
_AT_ONCE = 16  # pictures


@dataclass(frozen=True)
class Detector:
    """A trained detector, and what turns its scores into verdicts."""

    model: keras.Model  # pixels `(N, S, S, channels)` `uint8` to scores `(N, 1)`
    steps: tuple[str, ...]  # from the square around a face to these pixels
    card: dict  # of its training: `slope` and `intercept` calibrate the scores
    threshold: float  # calibrated
    band: tuple[float, float]  # see `conformal_band`
    about: str  # what it was trained on, and what it is not known to detect


def load(study: Study, name: str) -> Detector:
    """A detector that the notebooks trained, for example `"Multidepth_probe-controlled"`.

    Raises:
        FileNotFoundError: If it was not trained on this machine.
    """
    card = training.read_card(study.models / name)
    model = keras.models.load_model(study.models / f"{name}.keras")  # in Keras' safe mode
    how = {"slope": card["slope"], "intercept": card["intercept"]}
    valid = results.validation_rows(results.read_scores(study, name), card["train_set"])
    band = conformal_band(valid["label"].to_numpy(), metrics.calibrated(valid["score"], **how))
    threshold = float(metrics.calibrated(card["threshold"], **how))
    steps = scoring.last_steps(study, card["approach"], card["config"]["view"])
    steps = (f"squash:{study.square_size}", "jpeg:75", *steps)
    return Detector(model, steps, card, threshold, band, _about(study, card))


def _about(study: Study, card: dict) -> str:
    """What a detector was trained on, and which generators it is not known to detect."""
    kind = "simulated pictures, not photographs" if study.simulated else study.description
    rows = tables.headline(study, results.read_results(study)).query("metric == 'auc'")
    rows = rows[(rows["model"] == card["model"]) & (rows["protocol"] == card["protocol"])]
    known = rows["ci_low"] > 0.6
    missed = f" It is not known to detect {', '.join(rows.loc[~known, 'test_set'])}."
    return f"It was trained on {card['train_set']} ({kind})." + missed * bool((~known).any())


def conformal_band(labels: np.ndarray, probability: np.ndarray) -> tuple[float, float]:
    """Probabilities below the first bound are no fake's, those above the second no photograph's.

    Of new fakes drawn like these at most `ERROR_RATE` lie below the first, of new photographs above
    the second: conformal prediction by class (Vovk et al., "Algorithmic learning in a random
    world", 2005). With too few pictures to say so, a bound is 0 or 1.

    Example:
    >>> conformal_band(np.repeat([0, 1], 99), np.tile(np.arange(99) / 100, 2))
    (0.04, 0.94)
    """
    real, fake = (np.sort(probability[labels == label]) for label in (0, 1))
    num_fake, num_real = (int(ERROR_RATE * (len(part) + 1)) for part in (fake, real))
    low, high = fake[num_fake - 1] if num_fake else 0, real[-num_real] if num_real else 1
    return float(low), float(high)


def verdict(probabilities: np.ndarray, threshold: float, band: tuple[float, float]) -> str:
    """`"real"`, `"fake"` or `"unsure"`, from the probabilities of a face in all `DELIVERIES`."""
    above = probabilities >= threshold
    can_be_fake, can_be_real = probabilities[0] >= band[0], probabilities[0] <= band[1]
    if can_be_fake == can_be_real or above.any() != above.all() or above[0] != can_be_fake:
        return "unsure"
    return "fake" if can_be_fake else "real"


def predict(files: Sequence[Path], detector: Detector) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Verdicts on a few files at a time.

    Yields:
        A table of `COLUMNS`, a row a face, the surest first; if there is none the whole picture,
        and of a file that is no picture a row with the `error`. And what the detector saw of each
        row without an error, as it is: `(N, S, S, channels)` `uint8`. Boxes are fractions of the
        upright picture.
    """
    shape = detector.model.input.shape[1:]
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(files), _AT_ONCE):
            part = files[start : start + _AT_ONCE]
            opened = list(pool.map(_upright, part))
            pictures = [picture for picture in opened if isinstance(picture, Image.Image)]
            found = iter(faces.find_all(list(pool.map(faces.shrunk, pictures))))
            rows, jobs = [], []
            for file, picture in zip(part, opened):
                if isinstance(picture, str):
                    rows.append({"path": str(file), "error": picture})
                    continue
                boxes = next(found)[:, :4]
                noted = _warnings(picture, boxes)
                for number, box in enumerate(boxes if len(boxes) else [(0, 0, 1, 1)], start=1):
                    seen = _square_around(picture, box) if len(boxes) else picture
                    jobs += [(seen, (*way, *detector.steps), None) for way in DELIVERIES.values()]
                    row = {"path": str(file), "face": number, "warnings": "; ".join(noted)}
                    rows.append(row | dict(zip(faces.BOX, map(float, box))))
            pixels = [np.reshape(made, shape) for made in pool.map(lambda job: run(*job), jobs)]
            pixels = np.array(pixels, np.uint8).reshape(-1, len(DELIVERIES), *shape)
            for row, values in zip(
                (row for row in rows if "face" in row), _score(pixels, detector)
            ):
                row |= {"probability": values[0], **dict(zip(DELIVERIES, values))}
                row["verdict"] = verdict(values, detector.threshold, detector.band)
            yield pd.DataFrame(rows, columns=COLUMNS), pixels[:, 0]


def _score(pixels: np.ndarray, detector: Detector) -> np.ndarray:
    """Calibrated probabilities `(N, D)` of pixels `(N, D, ...)`."""
    if not len(pixels):
        return np.empty((0, len(DELIVERIES)))
    scores = detector.model.predict(pixels.reshape(-1, *pixels.shape[2:]), verbose=0)
    scores = metrics.calibrated(scores, detector.card["slope"], detector.card["intercept"])
    return scores.reshape(pixels.shape[:2])


def _upright(file: Path) -> Image.Image | str:
    """A picture turned as its EXIF says, or why it cannot be read."""
    try:
        return ImageOps.exif_transpose(read(file))
    except UnreadableImage as error:
        return error.args[1]


def _square_around(picture: Image.Image, box: np.ndarray) -> Image.Image:
    """The square around a face, moved and shrunk so that it lies in the picture."""
    left, top, right, bottom = np.asarray(box) * (picture.size * 2)
    side = min(SCENE * max(right - left, bottom - top), *picture.size)
    corner = [
        np.clip((low + high - side) / 2, 0, length - side)
        for low, high, length in ((left, right, picture.width), (top, bottom, picture.height))
    ]
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
    """The files meant by names of files, of folders (their pictures, at any depth), by patterns.

    Raises:
        FileNotFoundError: If a name means no file.
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
            raise FileNotFoundError(f"{name!r} is no file, no folder with pictures, no pattern.")
        found += files
    return list(dict.fromkeys(found))


def draw(table: pd.DataFrame, pixels: np.ndarray, detector: Detector, folder: Path) -> None:
    """For each picture a PNG with its faces as seen, what speaks for and against, the spectra."""
    judged = table[table["error"].isna()].reset_index(drop=True)
    for path, rows in judged.groupby("path", sort=False):
        stem = folder / f"{Path(path).stem}-{zlib.crc32(path.encode()):08x}"  # names may recur
        shown = pixels[rows.index]
        title = ", ".join(f"{row.verdict} {row.probability:.2f}" for row in rows.itertuples())
        names = [f"face {number}" for number in rows["face"]]
        side = shown.shape[1]
        heat = explain.occlusion(detector.model, shown, patch=side // 4, stride=side // 8)
        spectra = [to_uint8(magnitude_spectrum(image)) for image in shown]
        figure = data_charts.heat_overlays(
            shown, {"occlusion": heat}, np.full((len(shown), 4), np.nan), title=title
        )
        figure.savefig(f"{stem}-heat.png")
        figure = data_charts.image_grid(spectra, names, num_columns=len(names), title="Spectra")
        figure.savefig(f"{stem}-spectrum.png")


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns 0, or 3 if some files could not be read."""
    parser = argparse.ArgumentParser("python -m src.predict", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("pictures", nargs="+", help="files, folders or patterns such as 'holiday/*.jpg'")
    add("--model", default=DEFAULT, help=f"study/model of a trained detector (default: {DEFAULT})")
    add("--csv", type=Path, metavar="FILE", help="write the table, all columns, to a file")
    add("--json", action="store_true", help="print a JSON object a face, and nothing else")
    add("--explain", type=Path, metavar="FOLDER", help="draw where the evidence lies")
    options = parser.parse_args(arguments)
    study, _, name = options.model.rpartition("/")
    try:
        files, detector = expand(options.pictures), load(get_study(study), name)
    except (FileNotFoundError, ValueError) as error:
        parser.error(f"{error} `make reproduce` trains the detectors of the demo.")  # exits with 2
    if options.explain:
        options.explain.mkdir(parents=True, exist_ok=True)
    quiet = options.json or options.explain is not None  # drawing has a bar of its own
    parts, bar = [], progress(description="Pictures", total=len(files), disable=quiet)
    for table, pixels in predict(files, detector):
        parts.append(table)
        bar.update(table["path"].nunique())
        if options.explain:
            draw(table, pixels, detector, options.explain)
    bar.close()
    table = pd.concat(parts, ignore_index=True).astype({"face": "Int64"})
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
