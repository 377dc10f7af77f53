"""Does a split leak? Copies of pictures, and records whose counterpart lies in another split."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ..config import SPLITS
from ..files import map_files
from ..pictures.decoding import read_grey

_CHUNK = 512  # hashes compared with all others at once


def perceptual_hash(image: np.ndarray) -> np.uint64:
    """64 bits that survive resizing, squashing and JPEG compression ("pHash").

    The picture, `(height, width[, 3])` RGB or grey `uint8`, is reduced to 32×32 grey levels; a bit
    tells whether one of the 8×8 lowest coefficients of the cosine transform exceeds their median
    (C. Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010).
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 2 and image.shape[2:] != (3,):
        received = f"{image.dtype} {image.shape}"
        raise ValueError(f"Expected uint8 (height, width[, 3]), received {received}.")
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8]
    return np.packbits(low > np.median(low)).view(">u8")[0].astype(np.uint64)


def perceptual_hashes(files: Sequence[str | Path]) -> np.ndarray:
    """`perceptual_hash` of every file, `(N,)`; JPEGs decoded at reduced size (a bit may differ)."""
    hashes = map_files(lambda file: perceptual_hash(read_grey(file, 64)), files, 2, "hashes")
    return np.array(hashes, dtype=np.uint64)


def near_duplicates(hashes: np.ndarray, max_distance: int = 4) -> pd.DataFrame:
    """All pairs of hashes that differ in few bits.

    Args:
        hashes: `(N,)`, `uint64`.
        max_distance: Bits that may differ, 0 to 64. Faces aligned to one template resemble each
            other: of 2,200, 2 pairs differ in up to 4 bits, 66 in up to 8.

    Returns:
        Columns `first`, `second` (positions, `first < second`) and `distance`.
    """
    hashes = np.ascontiguousarray(hashes)
    if hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise ValueError(f"Expected uint64 hashes (N,), received {hashes.dtype} {hashes.shape}.")
    bits = np.unpackbits(hashes.view(np.uint8)).reshape(-1, 64)
    signs = 2 * bits.astype(np.float32) - 1  # their inner product: equal bits less others
    found = [np.zeros((3, 0), int)]
    for start in range(0, len(hashes), _CHUNK):
        distance = 32 - signs[start : start + _CHUNK] @ signs[start:].T / 2
        first, second = np.nonzero(np.triu(distance <= max_distance, 1))
        found.append(np.stack([first + start, second + start, distance[first, second].astype(int)]))
    return pd.DataFrame(np.concatenate(found, axis=1).T, columns=["first", "second", "distance"])


def study_split(records: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The records with the column `split` as the study drew it, for demonstration only.

    Real and fake pictures are shuffled separately, so that the versions of one photograph part
    ways: 80 % training, 10 % validation, 10 % test.
    """
    random, split = np.random.default_rng(seed), np.empty(len(records), dtype=object)
    for label in sorted(records["label"].unique()):
        rows = random.permutation(np.flatnonzero(records["label"] == label))
        cuts = np.round(np.array([0.8, 0.9]) * len(rows)).astype(int)
        for name, part in zip(SPLITS, np.split(rows, cuts)):
            split[part] = name
    return records.assign(split=split)


def leak_test(records: pd.DataFrame, hashes: np.ndarray) -> pd.DataFrame:
    """Counts the records whose counterpart lies in another split; none does in a sound one.

    Args:
        records: With columns `path`, `split`, `group` and `person` (empty where unknown).
        hashes: `perceptual_hashes` of the records, to look for near-duplicates.

    Returns:
        One row a kind of leak: `kind`, `count` (records with a counterpart in another split),
        `share` (of all records), `test_in_train` (share of the test records with a counterpart in
        training) and `examples` (up to three pairs of paths).
    """
    if not len(records) or len(hashes) != len(records):
        raise ValueError(f"Expected a hash for each of {len(records)} records, not {len(hashes)}.")
    splits, paths = records["split"].to_numpy(), records["path"].to_numpy()
    found = {kind: _pairs_by_key(records[kind], splits) for kind in ("group", "person")}
    pairs = near_duplicates(hashes)[["first", "second"]].to_numpy()
    pairs = pairs[splits[pairs[:, 0]] != splits[pairs[:, 1]]]
    found["near-duplicate"] = np.concatenate([pairs, pairs[:, ::-1]])
    rows = []
    for kind, pairs in found.items():
        count = len(np.unique(pairs[:, 0]))
        tested = pairs[(splits[pairs[:, 0]] == "test") & (splits[pairs[:, 1]] == "train")]
        in_train = len(np.unique(tested[:, 0])) / max((splits == "test").sum(), 1)
        examples = [tuple(paths[pair]) for pair in (tested if len(tested) else pairs)[:3]]
        rows.append((kind, count, count / len(records), in_train, examples))
    return pd.DataFrame(rows, columns=["kind", "count", "share", "test_in_train", "examples"])


def _pairs_by_key(keys: pd.Series, splits: np.ndarray) -> np.ndarray:
    """Positions `(M, 2)`: each record, and the first record with its key in each other split."""
    frame = pd.DataFrame({"key": keys.to_numpy(), "split": splits, "row": np.arange(len(keys))})
    frame = frame[frame["key"].notna() & (frame["key"] != "")]
    heads = frame.drop_duplicates(["key", "split"])
    pairs = frame.merge(heads, on="key", suffixes=("", "_other"))
    return pairs.loc[pairs["split"] != pairs["split_other"], ["row", "row_other"]].to_numpy()
