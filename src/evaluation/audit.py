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

from ..config import SPLITS, Study
from ..data import catalog, readers
from ..files import map_files
from ..pictures.decoding import UnreadableImage, decode, read, read_grey, reason_of
from ..pictures.spectrum import magnitude_spectrum, radial_profile
from ..pictures.steps import apply, run
from .metrics import estimate
from .results import score_baseline

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
                traits["quality"] = (
                    100 - distance[::-1].argmin()
                )  # of equal tables, the best quality
                traits["subsampling"] = JpegImagePlugin.get_sampling(image)
                traits["progressive"] = "progressive" in image.info
            return traits
    except Exception as error:  # damaged headers raise errors of many kinds
        name = f"<{len(file)} bytes>" if isinstance(file, bytes) else file
        reason = (
            "not a picture in a known format" if isinstance(file, bytes) else reason_of(file, error)
        )
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
        return run(
            read(file), steps, None
        ).fp.getvalue()  # the JPEG that the last step wrote and nobody decoded
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
        raise ValueError(
            f"Expected uint8 pixels (N, height, width, 3), received {pixels.dtype} {pixels.shape}."
        )
    with ThreadPoolExecutor(num_threads) as pool:
        columns = ["brightness", "contrast", "saturation", "sharpness", "noise"]
        return pd.DataFrame(pool.map(_picture_traits, pixels), columns=columns, dtype=float)


_HIGH_PASS = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32) / 6  # of unit gain for white noise


def _picture_traits(image: np.ndarray) -> tuple[float, ...]:
    """The row of `pixel_traits` for one picture."""
    image = np.ascontiguousarray(image)
    grey = cv2.cvtColor(
        image.astype(np.float32), cv2.COLOR_RGB2GRAY
    )  # rounded grey levels would hide weak noise
    saturation = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)[..., 1]
    noise = np.median(np.abs(cv2.filter2D(grey, -1, _HIGH_PASS)[1:-1, 1:-1])) / 0.6745
    return grey.mean(), grey.std(), saturation.mean() / 255, cv2.Laplacian(grey, -1).var(), noise


def trait_table(
    traits: pd.DataFrame,
    labels: np.ndarray,
    groups: Sequence,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
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
    rows = [
        estimate(labels, values, groups, **options).assign(trait=name)
        for name, values in scores.items()
    ]
    table = pd.concat(rows).rename(columns={"value": "auc"})[["trait", "auc", "ci_low", "ci_high"]]
    strength = (table["auc"] - 0.5).abs().where(table["trait"] != ALL_TRAITS, -1)
    return table.iloc[np.argsort(-strength.to_numpy(), kind="stable")].reset_index(drop=True)


def traits_by_task(
    table: pd.DataFrame, traits: pd.DataFrame, num_resamples: int = 1000
) -> pd.DataFrame:
    """`trait_table` of every task, one under the other.

    Args:
        table: From `task_steps`, or `Pictures.table`.
        traits: One row for each row of `table`.
        num_resamples: Of the bootstrap behind the intervals.

    Returns:
        As `trait_table`, with the column `generator`: the task.
    """
    tables = []
    for generator, rows in table.reset_index(drop=True).groupby("task", sort=False):
        values = traits.iloc[rows.index]
        scored = trait_table(
            values, rows["label"] == "fake", rows["group"], num_resamples=num_resamples
        )
        tables.append(scored.assign(generator=generator))
    return pd.concat(tables, ignore_index=True)


def out_of_fold_scores(
    traits: pd.DataFrame, labels: np.ndarray, groups: Sequence, *, seed: int = 0
) -> np.ndarray:
    """Probability of fake from all traits, `(N,)`: gradient boosting, each record scored by a model that knew no
    member of its group."""
    labels = check_classes(traits, labels, groups)
    return cross_validated(
        _boosting(seed), traits.to_numpy(float), labels, groups, seed, "predict_proba"
    )


def metadata_scores(
    train_traits: pd.DataFrame,
    train_labels: np.ndarray,
    test_traits: pd.DataFrame,
    *,
    seed: int = 0,
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
        raise ValueError(
            f"Expected the traits {list(train_traits)} in both sets, received {list(test_traits)}."
        )
    with threadpool_limits(1):
        model = _boosting(seed).fit(train_traits.to_numpy(float), labels)
        return model.predict_proba(test_traits.to_numpy(float))[:, 1]


def _boosting(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=seed)


def check_classes(values, labels, groups) -> np.ndarray:
    """Labels as integers; raises if arrays differ in length or a class is missing."""
    labels = np.asarray(labels)
    if not len(values) == len(labels) == len(groups):
        raise ValueError(
            f"Expected a label and a group a row; received {len(values)}, {len(labels)}, {len(groups)}."
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"Expected labels 0 (real) and 1 (fake), received {pd.unique(labels)[:5].tolist()}."
        )
    num_fake = int(labels.sum())
    if not 0 < num_fake < len(labels):
        raise ValueError(
            f"Both classes are needed; received {len(labels) - num_fake} real and {num_fake} fake."
        )
    return labels.astype(int)


def cross_validated(model, values, labels, groups, seed: int, method: str) -> np.ndarray:
    """Out-of-fold scores, folds dividing no group and as alike in their share of fakes as can be."""
    codes = pd.factorize(np.asarray(groups))[0]
    num_folds = min(NUM_FOLDS, *(len(np.unique(codes[labels == label])) for label in (0, 1)))
    if num_folds < 2:
        raise ValueError(
            "Expected at least 2 groups with real and 2 with fake pictures to cross-validate."
        )
    scores = np.empty(len(labels))
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    with threadpool_limits(
        1
    ):  # these fits are so small that threads mostly wait, far longer on a busy machine
        for train, test in folds.split(values, labels, codes):
            out = getattr(model.fit(values[train], labels[train]), method)(values[test])
            scores[test] = out[:, 1] if out.ndim == 2 else out
    return scores


def perceptual_hash(image: np.ndarray) -> np.uint64:
    """64 bits that survive resizing, squashing and JPEG compression ("pHash").

    The picture is reduced to 32×32 grey levels; a bit tells whether one of the 8×8 lowest coefficients of the
    cosine transform exceeds their median. A flat picture has no structure to hash: all flat pictures agree.

    Args:
        image: `(height, width, 3)` RGB or `(height, width)` grey, `uint8`.

    Returns:
        The hash, `uint64`. Two pictures are compared by the number of bits in which they differ.

    Source: C. Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010.

    Example:
        >>> ramp = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
        >>> perceptual_hash(ramp) == perceptual_hash(ramp[::2])
        np.True_
    """
    image = np.asarray(image)
    if (
        image.dtype != np.uint8
        or image.ndim not in (2, 3)
        or image.ndim == 3
        and image.shape[2] != 3
    ):
        raise ValueError(
            f"Expected uint8 (height, width[, 3]), received {image.dtype} {image.shape}."
        )
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8]
    return np.packbits(low > np.median(low)).view(">u8")[0].astype(np.uint64)


def perceptual_hashes(files: Sequence[str | Path], *, num_threads: int = 2) -> np.ndarray:
    """`perceptual_hash` of every file, `(N,)` `uint64`; JPEGs are decoded at reduced size (a bit may differ)."""
    hashes = map_files(
        lambda file: perceptual_hash(read_grey(file, 64)), files, num_threads, "hashes"
    )
    return np.array(hashes, dtype=np.uint64)


def _count_bits(values: np.ndarray) -> np.ndarray:
    """Number of set bits of each `uint64`."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(values)
    table = np.unpackbits(
        np.arange(65536, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1
    ).sum(1)
    words = np.ascontiguousarray(values).view(np.uint16).reshape(*values.shape, 4)
    return table.astype(np.uint8)[words].sum(-1, dtype=np.uint8)


def near_duplicates(hashes: np.ndarray, max_distance: int = 4, *, chunk: int = 512) -> pd.DataFrame:
    """All pairs of hashes that differ in few bits.

    Every pair is compared, `chunk` rows at a time, in about `10 * chunk * N` bytes beside the pairs found.

    Args:
        hashes: `(N,)`, `uint64`.
        max_distance: Bits that may differ, 0 to 64. Faces aligned to one template resemble each other:
            among 2,200 faces of FFHQ and StyleGAN, 2 pairs differ in up to 4 bits, 66 in up to 8.

    Returns:
        Columns `first`, `second` (positions, `first < second`) and `distance`.
    """
    hashes = np.asarray(hashes)
    if hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise ValueError(
            f"Expected uint64 hashes of shape (N,), received {hashes.dtype} {hashes.shape}."
        )
    found = []
    for start in range(0, len(hashes), chunk):
        distance = _count_bits(hashes[start : start + chunk, None] ^ hashes[None, start:])
        first, second = np.nonzero(distance <= max_distance)
        keep = first < second
        first, second = first[keep], second[keep]
        found.append(
            np.stack([first + start, second + start, distance[first, second]]).astype(np.int64)
        )
    pairs = np.concatenate(found, axis=1) if found else np.zeros((3, 0), np.int64)
    return pd.DataFrame(pairs.T, columns=["first", "second", "distance"])


def study_split(
    records: pd.DataFrame, seed: int, fractions: Sequence[float] = (0.8, 0.1, 0.1)
) -> pd.DataFrame:
    """The records split as the study did it, for demonstration only.

    Real and fake pictures are shuffled separately, so that the versions of one photograph part ways.

    Args:
        records: With the column `label`.
        fractions: Of training, validation and test.

    Returns:
        A copy of `records` with a new column `split`.
    """
    random = np.random.default_rng(seed)
    split = np.empty(len(records), dtype=object)
    for label in sorted(records["label"].unique()):
        rows = random.permutation(np.flatnonzero(records["label"] == label))
        cuts = np.round(np.cumsum(fractions)[:-1] * len(rows)).astype(int)
        for name, part in zip(SPLITS, np.split(rows, cuts), strict=True):
            split[part] = name
    return records.assign(split=split)


def _pairs_by_key(keys: pd.Series, splits: np.ndarray) -> np.ndarray:
    """Positions `(M, 2)`: each record, and the first record of each other split that has its key (if it has one)."""
    frame = pd.DataFrame({"key": keys.to_numpy(), "split": splits, "row": np.arange(len(keys))})
    frame = frame[frame["key"].notna() & (frame["key"] != "")]
    heads = frame.drop_duplicates(["key", "split"])[["key", "split", "row"]]
    pairs = frame.merge(heads, on="key", suffixes=("", "_other"))
    return pairs.loc[pairs["split"] != pairs["split_other"], ["row", "row_other"]].to_numpy()


def leak_test(
    records: pd.DataFrame,
    hashes: np.ndarray | None = None,
    digests: Sequence[str] | None = None,
    *,
    max_distance: int = 4,
    num_examples: int = 3,
) -> pd.DataFrame:
    """Counts the records whose counterpart lies in another split.

    Args:
        records: With columns `path`, `split`, `group` and, if persons are known, `person` (empty where unknown).
        hashes: `perceptual_hashes` of the records, to look for near-duplicates.
        digests: A digest of every file's bytes, to look for identical files.
        max_distance: Bits in which near-duplicates may differ.

    Returns:
        One row a kind of leak: `kind`, `count` (records with a counterpart in another split), `share` (of all
        records), `test_in_train` (share of the test records with a counterpart in training) and `examples`
        (up to `num_examples` pairs of paths). All counts are zero for a sound split.
    """
    missing = {"path", "split", "group"} - set(records.columns)
    if missing or not len(records):
        raise ValueError(
            f"Expected records with path, split and group; missing {sorted(missing)}, {len(records)} rows."
        )
    splits, paths = records["split"].to_numpy(), records["path"].to_numpy()
    kinds = {"group": records["group"]}
    if "person" in records:
        kinds["person"] = records["person"]
    if digests is not None:
        kinds["identical file"] = pd.Series(digests)
    found = {}
    for kind, keys in kinds.items():
        if len(keys) != len(records):
            raise ValueError(
                f"Expected one digest a record ({len(records)}), received {len(keys)}."
            )
        found[kind] = _pairs_by_key(keys, splits)
    if hashes is not None:
        if len(hashes) != len(records):
            raise ValueError(
                f"Expected one hash a record ({len(records)}), received {len(hashes)}."
            )
        pairs = near_duplicates(hashes, max_distance)[["first", "second"]].to_numpy()
        pairs = pairs[splits[pairs[:, 0]] != splits[pairs[:, 1]]]
        found["near-duplicate"] = np.concatenate([pairs, pairs[:, ::-1]])
    num_test = max((splits == "test").sum(), 1)
    rows = []
    for kind, pairs in found.items():
        leaking = np.unique(pairs[:, 0])
        tested = pairs[(splits[pairs[:, 0]] == "test") & (splits[pairs[:, 1]] == "train")]
        seen_in_training = len(np.unique(tested[:, 0])) / num_test
        examples = [
            (paths[a], paths[b]) for a, b in (tested if len(tested) else pairs)[:num_examples]
        ]
        rows.append((kind, len(leaking), len(leaking) / len(records), seen_in_training, examples))
    return pd.DataFrame(rows, columns=["kind", "count", "share", "test_in_train", "examples"])


def traits_after_steps(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """`audit.file_traits` of the files that the pictures lie in after their steps, one row for each row of `table`.

    Args:
        study: Whose pictures.
        table: From `task_steps`, without last steps.
    """
    once = table.drop_duplicates(["path", "steps"])
    files = [
        replay(file, tuple(steps.split())) if steps else file
        for file, steps in zip(catalog.files(study, once), once["steps"])
    ]
    traits = file_traits(files).set_index(pd.MultiIndex.from_frame(once[["path", "steps"]]))
    return traits.loc[pd.MultiIndex.from_frame(table[["path", "steps"]])].reset_index(drop=True)


def radial_profiles(study: Study, table: pd.DataFrame) -> np.ndarray:
    """Radial profile of the spectrum of every row of `task_steps`, `(num_rows, num_radii)`.

    All pictures are squashed to one square after their steps, so that the profiles share their axis.
    """
    square = (f"squash:{study.square_size}",)
    return np.array(
        [
            radial_profile(magnitude_spectrum(apply(decode(file), (*steps.split(), *square))))
            for file, steps in zip(catalog.files(study, table), table["steps"])
        ]
    )


def score_boxes(
    study: Study, table: pd.DataFrame, protocol: str, boxes: pd.DataFrame
) -> pd.DataFrame:
    """Writes scores and results of the baseline `Face_box`: what the place and shape of the face alone tell.

    Args:
        study: Whose tasks.
        table: Of the crops, `Pictures.table`.
        protocol: That they were prepared under.
        boxes: The table that they were cut by.

    Returns:
        Its rows of `results.csv`.
    """
    corners = (
        boxes.drop_duplicates("path").set_index("path")[readers.BOX].loc[table["path"]].to_numpy()
    )
    left, top, right, bottom = corners.T
    traits = pd.DataFrame(
        {"x": left + right, "y": top + bottom, "width": right - left, "height": bottom - top}
    )
    traits["aspect"] = traits["width"] / traits["height"]
    return _score_traits(study, table, traits, "Face_box", protocol)


def score_metadata(study: Study, records: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Writes scores and results of the baseline `Metadata`: what the headers of the files alone tell.

    The size of the file is left out; it depends on what the picture shows.

    Args:
        study: Whose tasks.
        records: From `catalog.load`.
        protocol: `"report"` or `"controlled"`.

    Returns:
        Its rows of `results.csv`.
    """
    table = catalog.task_steps(study, records, protocol)
    traits = traits_after_steps(study, table).drop(columns="bytes_per_pixel")
    return _score_traits(study, table, traits, "Metadata", protocol)


def _score_traits(study, table, traits, name: str, protocol: str) -> pd.DataFrame:
    """Fits gradient boosting on the training task and scores every row of `table`."""
    train = ((table["split"] == "train") & table["task"].isin(study.train_sets)).to_numpy()
    scores = metadata_scores(
        traits[train], table.loc[train, "label"] == "fake", traits, seed=study.seed
    )
    return score_baseline(study, table, scores, approach="metadata", name=name, protocol=protocol)
