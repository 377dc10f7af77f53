"""Does a split leak? Copies of pictures, and records whose counterpart lies in another split."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from sklearn.metrics import pairwise_distances_argmin_min

from ..config import SPLITS
from ..pictures.decoding import read_grey
from ..shards import map_files

# Faces aligned to one template resemble each other: of 2,200, 2 pairs differ in up to 4 bits, 66 in
# up to 8.
MAX_DISTANCE = 4


def perceptual_hash(grey: np.ndarray) -> np.uint64:
    """64 bits that survive resizing, squashing and JPEG compression ("pHash").

    The picture, `(height, width)` grey `uint8`, is reduced to 32×32; a bit tells whether one of the
    8×8 lowest coefficients of the cosine transform exceeds their median (C. Zauner, "Implementation
    and benchmarking of perceptual image hash functions", 2010).
    """
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8]
    return np.packbits(low > np.median(low)).view(">u8")[0].astype(np.uint64)


def perceptual_hashes(files: Sequence[str | Path]) -> np.ndarray:
    """`perceptual_hash` of every file, `(N,)`; JPEGs decoded at reduced size (a bit may differ)."""
    hashes = map_files(lambda file: perceptual_hash(read_grey(file, 64)), files, 2, "hashes")
    return np.array(hashes, dtype=np.uint64)


def near_duplicates(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which `uint64` hashes `(N,)` differ in at most `MAX_DISTANCE` bits from one of the others."""
    if not len(hashes) or not len(others):
        return np.zeros(len(hashes), bool)
    bits = (
        np.unpackbits(np.ascontiguousarray(part).view(np.uint8)).reshape(-1, 64).astype(np.float32)
        for part in (hashes, others)
    )
    _, num_different = pairwise_distances_argmin_min(*bits, metric="sqeuclidean")
    return num_different < MAX_DISTANCE + 0.5


def study_split(records: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The records with the column `split` as the study drew it, for demonstration only.

    Real and fake pictures are shuffled separately, so versions of one photograph can get into
    different splits: 80 % training, 10 % validation, 10 % test.
    """
    random, split = np.random.default_rng(seed), np.empty(len(records), dtype=object)
    for label in sorted(records["label"].unique()):
        rows = random.permutation(np.flatnonzero(records["label"] == label))
        cuts = np.round(np.array([0.8, 0.9]) * len(rows)).astype(int)
        for name, part in zip(SPLITS, np.split(rows, cuts)):
            split[part] = name
    return records.assign(split=split)


def leak_test(records: pd.DataFrame, hashes: np.ndarray) -> pd.DataFrame:
    """Share of the test records with a counterpart in training: `test_in_train` by its `kind`.

    Records need `split`, `group` and `person` (empty where unknown); `hashes` are their
    `perceptual_hashes`, to look for near-duplicates. In a split without leaks all are 0. Where no
    record has a person, the kind `"person"` is left out.
    """
    tested, trained = (records["split"].eq(split).to_numpy() for split in ("test", "train"))
    found = {}
    for kind in ("group", "person"):
        named = records[kind].mask(records[kind] == "")
        if named.notna().any():
            found[kind] = named[tested].isin(named[trained].dropna())
    found["near-duplicate"] = near_duplicates(hashes[tested], hashes[trained])
    shares = [part.mean() for part in found.values()]
    return pd.DataFrame({"kind": list(found), "test_in_train": shares})
