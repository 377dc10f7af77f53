"""Can something trivial tell real from fake? Traits of files and of pixels, and how well they separate the classes.

A trait is one number of a file (its size, its JPEG tables) or of its pixels (brightness, sharpness). Where traits
separate the classes, a detector may have learnt them in place of faces; that is the shortcut to rule out.
"""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image, JpegImagePlugin
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from .decoding import UnreadableImage, read, reason_of
from .metrics import evaluate
from .steps import run

ALL_TRAITS = "gradient boosting (all traits)"
NUM_FOLDS = 5


def file_traits(files: Sequence[str | Path | bytes], *, num_threads: int = 2) -> pd.DataFrame:
    """Traits that a file shows before a pixel is decoded: only headers are read.

    Args:
        files: Paths, or the bytes of encoded pictures (see `replay`).

    Returns:
        One row a file, in order. `width`, `height`, `aspect` (width / height), `bytes_per_pixel`, `channels`, `exif`
        (1 if there is any); and of JPEGs, `NaN` for others: `luminance_table` and `chrominance_table` (means of the
        quantisation tables; no chrominance in grey pictures), `quality` (of libjpeg's scale, the nearest luminance
        table), `subsampling` (of chrominance: 0 none, 1 horizontal, 2 both ways, -1 other), `progressive`.

    Raises:
        UnreadableImage: If a file is no picture.
    """
    with ThreadPoolExecutor(num_threads) as pool:
        return pd.DataFrame(pool.map(_header_traits, files), columns=_FILE_TRAITS, dtype=float)


_FILE_TRAITS = ["width", "height", "aspect", "bytes_per_pixel", "channels", "exif"]
_FILE_TRAITS += ["luminance_table", "chrominance_table", "quality", "subsampling", "progressive"]


def _header_traits(file: str | Path | bytes) -> dict[str, float]:
    """The row of `file_traits` for one file."""
    try:
        num_bytes = len(file) if isinstance(file, bytes) else os.path.getsize(file)
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            width, height = image.size
            traits = {"width": width, "height": height, "aspect": width / height}
            traits["bytes_per_pixel"] = num_bytes / (width * height)
            traits["channels"] = len(image.getbands())
            traits["exif"] = "exif" in image.info
            if image.format == "JPEG":
                tables = image.quantization
                traits["luminance_table"] = np.mean(tables[0])
                traits["chrominance_table"] = np.mean(tables[1]) if 1 in tables else np.nan
                distance = np.abs(_luminance_tables() - np.array(tables[0])).sum(1)
                traits["quality"] = 100 - distance[::-1].argmin()  # of equal tables, the best quality
                traits["subsampling"] = JpegImagePlugin.get_sampling(image)
                traits["progressive"] = "progressive" in image.info
            return traits
    except Exception as error:  # damaged headers raise errors of many kinds
        name = f"<{len(file)} bytes>" if isinstance(file, bytes) else file
        reason = "not a picture in a known format" if isinstance(file, bytes) else reason_of(file, error)
        raise UnreadableImage(name, reason) from error


@lru_cache(maxsize=1)
def _luminance_tables() -> np.ndarray:
    """libjpeg's luminance tables of the qualities 1 to 100, `(100, 64)`: those that Pillow writes."""
    tables = []
    for quality in range(1, 101):
        stream = io.BytesIO()
        Image.new("L", (8, 8)).save(stream, "JPEG", quality=quality)
        tables.append(Image.open(stream).quantization[0])
    return np.array(tables, dtype=int)


def replay(file: str | Path, steps: Sequence[str]) -> bytes:
    """The file that the picture would lie in after a protocol's steps, for `file_traits`.

    Args:
        file: A picture.
        steps: Of the protocol, as from `protocol_steps`. Ending in `jpeg:Q`; or, for a picture that has had its
            JPEGs, steps that leave its size as it is: then its own bytes are returned.

    Returns:
        An encoded picture.

    Raises:
        ValueError: If the steps change the picture and do not end in a file.
    """
    if steps and steps[-1].startswith("jpeg:"):
        return run(read(file), steps, None).fp.getvalue()  # the JPEG that the last step wrote and nobody decoded
    with Image.open(file) as image:
        unchanged = {f"{name}:{image.width}" for name in ("squash", "resize")}
        if steps and not (image.width == image.height and unchanged >= set(steps)):
            raise ValueError(
                f"The steps {tuple(steps)} change {file} ({image.width}×{image.height}) and end in pixels, not in a "
                "file. End them in a step like 'jpeg:75'."
            )
    return Path(file).read_bytes()


def pixel_traits(pixels: np.ndarray, *, num_threads: int = 2) -> pd.DataFrame:
    """Traits of what a network sees, from the picture as a whole.

    Args:
        pixels: `(N, height, width, 3)`, `uint8`, RGB.

    Returns:
        One row a picture: `brightness` (mean grey level), `contrast` (its standard deviation), `saturation` (mean, 0
        to 1), `sharpness` (variance of the Laplacian), `noise` (standard deviation of the noise in grey levels, from
        the median absolute value after the filter of J. Immerkær, "Fast noise variance estimation", 1996, which
        removes constant and linear structure).
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise ValueError(f"Expected uint8 pixels (N, height, width, 3), received {pixels.dtype} {pixels.shape}.")
    with ThreadPoolExecutor(num_threads) as pool:
        columns = ["brightness", "contrast", "saturation", "sharpness", "noise"]
        return pd.DataFrame(pool.map(_picture_traits, pixels), columns=columns, dtype=float)


_HIGH_PASS = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32) / 6  # of unit gain for white noise


def _picture_traits(image: np.ndarray) -> tuple[float, ...]:
    """The row of `pixel_traits` for one picture."""
    image = np.ascontiguousarray(image)
    grey = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY)  # rounded grey levels would hide weak noise
    saturation = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)[..., 1]
    noise = np.median(np.abs(cv2.filter2D(grey, -1, _HIGH_PASS)[1:-1, 1:-1])) / 0.6745
    return grey.mean(), grey.std(), saturation.mean() / 255, cv2.Laplacian(grey, -1).var(), noise


def trait_table(
    traits: pd.DataFrame, labels: np.ndarray, groups: Sequence, *, num_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """How well each trait alone, and all together, tell fake from real.

    Args:
        traits: `(N, T)`; a missing value counts as smaller than any other.
        labels: `(N,)`, 1 for fake, 0 for real.
        groups: `(N,)`; groups are resampled whole, and never divided between the folds of the joint model.

    Returns:
        Columns `trait`, `auc`, `ci_low`, `ci_high`: the area under the ROC curve of the trait itself with a 95 %
        interval. Above 0.5 fakes have the larger values, below 0.5 the smaller; 0.5 tells nothing (no direction is
        chosen after the fact, which would lift every useless trait above 0.5). A trait that is large *and* small in
        one class may have 0.5 too and still separate: the last row, gradient boosting on all traits, scored out of
        fold, finds that. The other rows are sorted by distance from 0.5.
    """
    labels = check_classes(traits, labels, groups)
    scores = {name: rankdata(traits[name].fillna(-np.inf)) / len(traits) for name in traits}
    scores[ALL_TRAITS] = out_of_fold_scores(traits, labels, groups, seed=seed)
    options = {"num_resamples": num_resamples, "seed": seed, "names": ("auc",)}
    rows = [evaluate(labels, values, groups, **options).assign(trait=name) for name, values in scores.items()]
    table = pd.concat(rows).rename(columns={"value": "auc"})[["trait", "auc", "ci_low", "ci_high"]]
    strength = (table["auc"] - 0.5).abs().where(table["trait"] != ALL_TRAITS, -1)
    return table.iloc[np.argsort(-strength.to_numpy(), kind="stable")].reset_index(drop=True)


def out_of_fold_scores(traits: pd.DataFrame, labels: np.ndarray, groups: Sequence, *, seed: int = 0) -> np.ndarray:
    """Probability of fake from all traits, `(N,)`: gradient boosting, each record scored by a model that knew no
    member of its group."""
    labels = check_classes(traits, labels, groups)
    return cross_validated(_boosting(seed), traits.to_numpy(float), labels, groups, seed, "predict_proba")


def metadata_scores(
    train_traits: pd.DataFrame, train_labels: np.ndarray, test_traits: pd.DataFrame, *, seed: int = 0
) -> np.ndarray:
    """The metadata baseline: gradient boosting on the traits of a training split, applied to another set.

    Args:
        train_traits: `(N, T)`.
        train_labels: `(N,)`, 1 for fake.
        test_traits: `(M, T)`, the same columns.

    Returns:
        Probabilities of fake, `(M,)`.
    """
    labels = check_classes(train_traits, train_labels, np.arange(len(train_traits)))
    if list(train_traits) != list(test_traits):
        raise ValueError(f"Expected the traits {list(train_traits)} in both sets, received {list(test_traits)}.")
    with threadpool_limits(1):
        model = _boosting(seed).fit(train_traits.to_numpy(float), labels)
        return model.predict_proba(test_traits.to_numpy(float))[:, 1]


def _boosting(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=seed)


def check_classes(values, labels, groups) -> np.ndarray:
    """Labels as integers; raises if arrays differ in length or a class is missing."""
    labels = np.asarray(labels)
    if not len(values) == len(labels) == len(groups):
        raise ValueError(f"Expected a label and a group a row; received {len(values)}, {len(labels)}, {len(groups)}.")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"Expected labels 0 (real) and 1 (fake), received {pd.unique(labels)[:5].tolist()}.")
    num_fake = int(labels.sum())
    if not 0 < num_fake < len(labels):
        raise ValueError(f"Both classes are needed; received {len(labels) - num_fake} real and {num_fake} fake.")
    return labels.astype(int)


def cross_validated(model, values, labels, groups, seed: int, method: str) -> np.ndarray:
    """Out-of-fold scores, folds dividing no group and as alike in their share of fakes as can be."""
    codes = pd.factorize(np.asarray(groups))[0]
    num_folds = min(NUM_FOLDS, *(len(np.unique(codes[labels == label])) for label in (0, 1)))
    if num_folds < 2:
        raise ValueError("Expected at least 2 groups with real and 2 with fake pictures to cross-validate.")
    scores = np.empty(len(labels))
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    with threadpool_limits(1):  # these fits are so small that threads mostly wait, far longer on a busy machine
        for train, test in folds.split(values, labels, codes):
            out = getattr(model.fit(values[train], labels[train]), method)(values[test])
            scores[test] = out[:, 1] if out.ndim == 2 else out
    return scores
