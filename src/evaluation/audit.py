"""Can something trivial tell real from fake? Traits of files and of pixels.

A trait is one number of a file (its size, its JPEG tables) or of its pixels (brightness,
sharpness). Where traits separate the classes, a detector may have learnt them instead of faces:
they are shortcuts.
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

from ..config import Study
from ..data import catalog
from ..data.faces import boxes_of
from ..pictures.decoding import UnreadableImage, decode, read, reason_of
from ..pictures.spectrum import magnitude_spectrum, radial_profile
from ..pictures.steps import apply, run
from .intervals import estimate
from .metrics import check_labels
from .results import OWN, score_baseline

ALL_TRAITS = "gradient boosting (all traits)"
NUM_FOLDS = 5
_FILE_TRAITS = ["width", "height", "aspect", "bytes_per_pixel", "channels", "exif"]
_FILE_TRAITS += ["luminance_table", "chrominance_table", "quality", "subsampling", "progressive"]
_PIXEL_TRAITS = ["brightness", "contrast", "saturation", "sharpness", "noise"]
_HIGH_PASS = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32) / 6  # white noise keeps its size
_NUM_THREADS = 2


def file_traits(files: Sequence[str | Path | bytes]) -> pd.DataFrame:
    """Traits that a file (or its bytes) shows before a pixel is decoded: only headers are read.

    A row a file: `width`, `height`, `aspect` (width / height), `bytes_per_pixel`, `channels`,
    `exif` (1 if there is any); and of JPEGs, NaN for others: `luminance_table` and
    `chrominance_table` (means of the quantisation tables; no chrominance in grey pictures),
    `quality` (of libjpeg's scale, the nearest luminance table), `subsampling` (of chrominance: 0
    none, 1 horizontal, 2 both ways, -1 other), `progressive`. A file that is no picture is an
    `UnreadableImage`.
    """
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return pd.DataFrame(pool.map(_header_traits, files), columns=_FILE_TRAITS, dtype=float)


def _header_traits(file: str | Path | bytes) -> dict[str, float]:
    """The row of `file_traits` for one file."""
    is_file = not isinstance(file, bytes)
    source = file if is_file else io.BytesIO(file)
    try:
        num_bytes = os.path.getsize(file) if is_file else len(file)
        with Image.open(source) as image:
            width, height = image.size
            traits = {"width": width, "height": height, "aspect": width / height}
            traits["bytes_per_pixel"] = num_bytes / (width * height)
            traits |= {"channels": len(image.getbands()), "exif": "exif" in image.info}
            if image.format == "JPEG":
                tables = image.quantization
                traits["luminance_table"] = np.mean(tables[0])
                traits["chrominance_table"] = np.mean(tables[1]) if 1 in tables else np.nan
                distance = np.abs(_luminance_tables() - np.array(tables[0])).sum(1)
                traits["quality"] = 100 - distance[::-1].argmin()  # of equal tables, the best
                traits["subsampling"] = JpegImagePlugin.get_sampling(image)
                traits["progressive"] = "progressive" in image.info
            return traits
    except Exception as error:  # damaged headers raise errors of many kinds
        name = file if is_file else f"<{len(file)} bytes>"
        raise UnreadableImage(name, reason_of(source, error)) from error


@lru_cache(maxsize=1)
def _luminance_tables() -> np.ndarray:
    """Libjpeg's luminance tables of the qualities 1 to 100, `(100, 64)`, as Pillow writes them."""
    tables = []
    for quality in range(1, 101):
        stream = io.BytesIO()
        Image.new("L", (8, 8)).save(stream, "JPEG", quality=quality)
        tables.append(Image.open(stream).quantization[0])
    return np.array(tables, dtype=int)


def replay(file: str | Path, steps: Sequence[str]) -> bytes:
    """The file that the picture would lie in after a protocol's steps, for `file_traits`.

    The steps must end in `jpeg:Q`, or change nothing, as for a square that has had its JPEGs: then
    its own bytes are returned. Other steps are a `ValueError`.
    """
    if steps and steps[-1].startswith("jpeg:"):
        return run(read(file), steps, None).fp.getvalue()  # what the last step wrote
    with Image.open(file) as image:
        width, height = image.size
    still = {"square", f"squash:{width}", f"resize:{width}"}
    if steps and not (width == height and still >= set(steps)):
        raise ValueError(f"{file}: the steps {steps} end in pixels, not a file. Add a 'jpeg:75'.")
    return Path(file).read_bytes()


def traits_after_steps(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """`file_traits` after their steps, a row for each of `catalog.task_steps` (no last steps)."""
    keys = ["path", "steps"]
    once = table.drop_duplicates(keys)
    files = [
        replay(file, steps.split()) if steps else file
        for file, steps in zip(catalog.files(study, once), once["steps"])
    ]
    traits = file_traits(files).assign(**once[keys].reset_index(drop=True))
    return table[keys].merge(traits, on=keys, how="left").drop(columns=keys)


def pixel_traits(pixels: np.ndarray) -> pd.DataFrame:
    """Traits of what a network sees, a row for each picture of `(N, H, W, 3)` RGB `uint8` pixels.

    `brightness` (mean grey level), `contrast` (its standard deviation), `saturation` (mean, 0 to
    1), `sharpness` (variance of the Laplacian), `noise` (standard deviation of the noise in grey
    levels, from the median absolute value after the filter of J. Immerkær, "Fast noise variance
    estimation", 1996, which removes constant and linear structure).
    """
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return pd.DataFrame(pool.map(_picture_traits, pixels), columns=_PIXEL_TRAITS, dtype=float)


def _picture_traits(image: np.ndarray) -> tuple[float, ...]:
    """The row of `pixel_traits` for one picture."""
    image = np.ascontiguousarray(image)
    grey = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY)  # rounding hides weak noise
    saturation = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)[..., 1]
    noise = np.median(np.abs(cv2.filter2D(grey, -1, _HIGH_PASS)[1:-1, 1:-1])) / 0.6745
    return grey.mean(), grey.std(), saturation.mean() / 255, cv2.Laplacian(grey, -1).var(), noise


def radial_profiles(study: Study, table: pd.DataFrame) -> np.ndarray:
    """Radial profile of the spectrum of every row of `catalog.task_steps`, `(num_rows, num_radii)`.

    All pictures are squashed to one square after their steps, so that the profiles share an axis.
    """
    square, profiles = f"squash:{study.square_size}", []
    for file, steps in zip(catalog.files(study, table), table["steps"]):
        pixels = apply(decode(file), (*steps.split(), square))
        profiles.append(radial_profile(magnitude_spectrum(pixels)))
    return np.array(profiles)


def trait_table(traits: pd.DataFrame, labels, groups, num_resamples: int) -> pd.DataFrame:
    """How well each trait alone, and all together, tell fake from real.

    Args:
        traits: `(N, T)`; a missing value counts as smaller than any other.
        labels: `(N,)`, 1 for fake.
        groups: `(N,)`; groups are resampled whole, and no fold of the joint model divides one.

    Returns:
        Columns `trait`, `auc`, `ci_low`, `ci_high`: the area under the ROC curve of the trait
        itself. Above 0.5 fakes have the larger values, below 0.5 the smaller (a direction chosen
        after the fact would lift every useless trait above 0.5). The last row, gradient boosting on
        all traits scored out of fold, also finds traits that are large *and* small in one class.
        The other rows are sorted by distance from 0.5.
    """
    labels = check_labels(labels, traits)
    scores = {name: rankdata(traits[name].fillna(-np.inf)) / len(traits) for name in traits}
    values = traits.to_numpy(float)
    scores[ALL_TRAITS] = cross_validated(values, labels, groups, seed=0)
    options = {"num_resamples": num_resamples, "names": ("auc",)}
    rows = [estimate(labels, scores[name], groups, **options) for name in scores]
    table = pd.concat(rows).rename(columns={"value": "auc"}).assign(trait=list(scores))
    strength = (table["auc"] - 0.5).abs().where(table["trait"] != ALL_TRAITS, -1)
    table = table.iloc[np.argsort(-strength.to_numpy(), kind="stable")].reset_index(drop=True)
    return table[["trait", "auc", "ci_low", "ci_high"]]


def traits_by_task(table: pd.DataFrame, traits: pd.DataFrame, num_resamples: int) -> pd.DataFrame:
    """`trait_table` of every task (column `generator`), one under the other.

    `table` is from `catalog.task_steps` or `Pictures.table`; `traits` has a row for each of its.
    """
    tables = []
    for generator, rows in table.reset_index(drop=True).groupby("task", sort=False):
        arrays = traits.iloc[rows.index], rows["label"] == "fake", rows["group"]
        tables.append(trait_table(*arrays, num_resamples).assign(generator=generator))
    return pd.concat(tables, ignore_index=True)


def score_boxes(
    study: Study, table: pd.DataFrame, protocol: str, boxes: pd.DataFrame
) -> pd.DataFrame:
    """Scores `Face_box`, place and shape of the face, by the `boxes` that crops were cut by."""
    left, top, right, bottom = boxes_of(table, boxes).T
    traits = {"x": left + right, "y": top + bottom, "width": right - left, "height": bottom - top}
    traits = pd.DataFrame(traits).assign(aspect=traits["width"] / traits["height"])
    return score_traits(study, table, traits, "geometry", "Face_box", protocol)


def score_metadata(study: Study, records: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Scores `Metadata`: headers, without bytes per pixel, which depend on the content, too."""
    table = catalog.task_steps(study, records, protocol)
    traits = traits_after_steps(study, table).drop(columns="bytes_per_pixel")
    return score_traits(study, table, traits, "metadata", "Metadata", protocol)


def score_traits(
    study: Study, table: pd.DataFrame, traits: pd.DataFrame, approach: str, name: str, protocol: str
) -> pd.DataFrame:
    """Writes scores and results of two baselines of gradient boosting on traits; returns the rows.

    `name` is fitted on the training split of the training tasks, as a network is, and transferred.
    `<name>_own` is fitted on each test set itself, out of fold: what a network could exploit there,
    had it seen that generator. `table` and `traits` are as for `traits_by_task`.
    """
    table, values = table.reset_index(drop=True), traits.to_numpy(float)
    labels = (table["label"] == "fake").to_numpy(int)
    train = ((table["split"] == "train") & table["task"].isin(study.train_sets)).to_numpy()
    with threadpool_limits(1):  # in fits so small, threads mostly wait for each other
        model = _boosting(study.seed).fit(values[train], check_labels(labels[train], values[train]))
        transferred = model.predict_proba(values)[:, 1]
    own = np.full(len(table), np.nan)
    for _, rows in table.groupby("task"):
        part = rows.index.to_numpy()
        if rows["label"].nunique() == 2:
            own[part] = cross_validated(values[part], labels[part], rows["group"], study.seed)
    own[table["split"] != "test"] = np.nan
    who = {"approach": approach, "protocol": protocol}
    scored = {name: transferred, name + OWN: own}
    rows = [score_baseline(study, table, scored[each], name=each, **who) for each in scored]
    return pd.concat(rows, ignore_index=True)


def _boosting(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=seed)


def cross_validated(values, labels, groups, seed: int) -> np.ndarray:
    """Out-of-fold ranks `(N,)` of boosting; no fold divides a group, shares of fakes are alike.

    Ranks are within a fold. Probabilities of different folds cannot be compared: with more fakes
    in a fold there are fewer in its training, so its probabilities are lower.
    """
    codes = pd.factorize(np.asarray(groups))[0]
    num_folds = min(NUM_FOLDS, *(len(np.unique(codes[labels == label])) for label in (0, 1)))
    if num_folds < 2:
        raise ValueError("Expected at least 2 groups with real and 2 with fake pictures.")
    folds, ranks = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed), labels * 0.5
    model = _boosting(seed)
    with threadpool_limits(1):  # in fits so small, threads mostly wait for each other
        for train, test in folds.split(values, labels, codes):
            scores = model.fit(values[train], labels[train]).predict_proba(values[test])[:, 1]
            ranks[test] = (rankdata(scores.round(12)) - 0.5) / len(test)
    return ranks
