"""Which pictures belong together: near-duplicates, leaks between splits, swaps and the photograph behind them.

A detector that has seen one version of a photograph in training knows the other. These functions find such
pairs in the pixels, count those that a split tears apart, and merge groups so that a split can keep them whole.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from .config import SPLITS
from .decoding import UnreadableImage, reason_of
from .progress import progress

GRID = 64  # side of the grey thumbnails in which backgrounds are compared


def _grey(file: str | Path, min_side: int) -> np.ndarray:
    """Grey levels as stored (EXIF rotation ignored), decoded at the least JPEG scale that keeps `min_side`."""
    try:
        with Image.open(file) as image:
            image.draft("L", (min_side, min_side))
            return np.asarray(image.convert("L"))
    except Exception as error:  # decoders meet damaged data with errors of many kinds
        raise UnreadableImage(file, reason_of(file, error)) from error


def _map_files(function, files: Sequence, num_threads: int, title: str) -> list:
    """The function's value for every file, in order, from a few threads."""
    with ThreadPoolExecutor(num_threads) as pool:
        return list(progress(pool.map(function, files), title, len(files), disable=len(files) < 1000))


# ------------------------------------------------------------------------------------------- near-duplicates


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
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.ndim == 3 and image.shape[2] != 3:
        raise ValueError(f"Expected uint8 (height, width[, 3]), received {image.dtype} {image.shape}.")
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8]
    return np.packbits(low > np.median(low)).view(">u8")[0].astype(np.uint64)


def perceptual_hashes(files: Sequence[str | Path], *, num_threads: int = 2) -> np.ndarray:
    """`perceptual_hash` of every file, `(N,)` `uint64`; JPEGs are decoded at reduced size (a bit may differ)."""
    hashes = _map_files(lambda file: perceptual_hash(_grey(file, 64)), files, num_threads, "hashes")
    return np.array(hashes, dtype=np.uint64)


def _count_bits(values: np.ndarray) -> np.ndarray:
    """Number of set bits of each `uint64`."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(values)
    table = np.unpackbits(np.arange(65536, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(1)
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
        raise ValueError(f"Expected uint64 hashes of shape (N,), received {hashes.dtype} {hashes.shape}.")
    found = []
    for start in range(0, len(hashes), chunk):
        distance = _count_bits(hashes[start : start + chunk, None] ^ hashes[None, start:])
        first, second = np.nonzero(distance <= max_distance)
        keep = first < second
        first, second = first[keep], second[keep]
        found.append(np.stack([first + start, second + start, distance[first, second]]).astype(np.int64))
    pairs = np.concatenate(found, axis=1) if found else np.zeros((3, 0), np.int64)
    return pd.DataFrame(pairs.T, columns=["first", "second", "distance"])


# ------------------------------------------------------------------------------------------------------ leaks


def study_split(records: pd.DataFrame, seed: int, fractions: Sequence[float] = (0.8, 0.1, 0.1)) -> pd.DataFrame:
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
            raise ValueError(f"Expected one digest a record ({len(records)}), received {len(keys)}.")
        found[kind] = _pairs_by_key(keys, splits)
    if hashes is not None:
        if len(hashes) != len(records):
            raise ValueError(f"Expected one hash a record ({len(records)}), received {len(hashes)}.")
        pairs = near_duplicates(hashes, max_distance)[["first", "second"]].to_numpy()
        pairs = pairs[splits[pairs[:, 0]] != splits[pairs[:, 1]]]
        found["near-duplicate"] = np.concatenate([pairs, pairs[:, ::-1]])
    num_test = max((splits == "test").sum(), 1)
    rows = []
    for kind, pairs in found.items():
        leaking = np.unique(pairs[:, 0])
        tested = pairs[(splits[pairs[:, 0]] == "test") & (splits[pairs[:, 1]] == "train")]
        seen_in_training = len(np.unique(tested[:, 0])) / num_test
        examples = [(paths[a], paths[b]) for a, b in (tested if len(tested) else pairs)[:num_examples]]
        rows.append((kind, len(leaking), len(leaking) / len(records), seen_in_training, examples))
    return pd.DataFrame(rows, columns=["kind", "count", "share", "test_in_train", "examples"])


# ------------------------------------------------------------------------------------------------------ swaps


def thumbnails(files: Sequence[str | Path], *, size: int = GRID, num_threads: int = 2) -> np.ndarray:
    """Every file squashed to a grey square, `(N, size, size)` `uint8`."""

    def squash(file):
        return cv2.resize(_grey(file, size), (size, size), interpolation=cv2.INTER_AREA)

    squashed = _map_files(squash, files, num_threads, "thumbnails")
    return np.stack(squashed) if squashed else np.zeros((0, size, size), np.uint8)


def _descriptor(thumbnail: np.ndarray) -> np.ndarray:
    """Fine structure of a thumbnail's outer zone, evened out over the picture: unit length, `(3 * size**2 / 4,)`."""
    grey = thumbnail.astype(np.float32)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), 1.5)
    detail /= np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), 1.5)) + 1  # + 1: a flat wall stays flat, noise stays small
    quarter = len(grey) // 4
    outside = np.ones(grey.shape, bool)
    outside[quarter:-quarter, quarter:-quarter] = False  # where most faces lie, and so most of what was swapped
    values = detail[outside]
    return values / max(np.linalg.norm(values), 1e-6)


def match_backgrounds(
    swaps: np.ndarray, photographs: np.ndarray, *, chunk: int = 512
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The photograph whose fine structure outside the middle resembles each swap's most.

    Brightness and large shapes are filtered out and contrast is evened out: two portraits before white walls agree
    in their grey levels, but no two photographs agree in their details. A swapped face that lies beside the middle
    only lowers the agreement. All pairs are compared by matrix products, in `12 * M * size**2` bytes for the
    photographs and `8 * chunk * M` bytes beside.

    Args:
        swaps: `(N, size, size)`, `uint8`, from `thumbnails`.
        photographs: `(M, size, size)`, `uint8`, `M >= 1`.

    Returns:
        Position of the best photograph, its distance and the second best's, each `(N,)`. A distance is one minus the
        correlation: 0 to 2, about 1 for unrelated pictures. The second is 2 where there is only one photograph.
    """
    if not len(photographs):
        raise ValueError("Expected at least one photograph to compare with, received none.")
    known = np.stack([_descriptor(photograph) for photograph in photographs])
    best = np.zeros(len(swaps), np.int64)
    first, second = np.full(len(swaps), 2.0), np.full(len(swaps), 2.0)
    for start in range(0, len(swaps), chunk):
        rows = slice(start, start + chunk)
        distance = 1 - np.stack([_descriptor(swap) for swap in swaps[rows]]) @ known.T
        best[rows] = distance.argmin(1)
        first[rows] = distance.min(1)
        if len(photographs) > 1:
            np.put_along_axis(distance, best[rows, None], np.inf, axis=1)
            second[rows] = distance.min(1)
    return best, first, second


def swap_ties(
    insight_files: Sequence[str | Path],
    photograph_files: Sequence[str | Path],
    *,
    max_distance: float = 0.5,
    num_threads: int = 2,
) -> pd.DataFrame:
    """Finds the photograph whose background each face-swap carries.

    Swaps of DeepFakeFace are a photograph squashed to a square with another person's face pasted in, so a
    photograph squashed likewise agrees with its swap in everything but the face.

    Args:
        insight_files: The face-swaps.
        photograph_files: Photographs of any size, the candidates.
        max_distance: One minus the correlation of details, see `match_backgrounds`; nothing is tied beyond it. True
            backgrounds measured up to 0.3 where a face takes a tenth of the picture, 0.5 where it takes a third;
            other photographs seldom less than 0.55.

    Returns:
        One row a swap, in order: `insight`, `background` (both as given; `None` if nothing is near enough),
        `distance` and `margin` (how much farther the second best is). A margin near 0 means that one
        photograph was delivered twice: `near_duplicates` finds such pairs.
    """
    swaps = thumbnails(insight_files, num_threads=num_threads)
    photographs = thumbnails(photograph_files, num_threads=num_threads)
    best, distance, second = match_backgrounds(swaps, photographs)
    found = [photograph_files[b] if d <= max_distance else None for b, d in zip(best, distance, strict=True)]
    columns = {"insight": list(insight_files), "background": pd.Series(found, dtype=object)}
    return pd.DataFrame({**columns, "distance": distance, "margin": second - distance})


def find_swap_ties(records: pd.DataFrame, root: Path) -> pd.DataFrame:
    """`swap_ties` for records: which face-swap of `insight` carries the background of which photograph of `wiki`.

    Args:
        records: With columns `path`, `generator`, `dataset`.
        root: The folder that the paths are relative to.

    Returns:
        Columns `path` (of the swap), `background` (path of the photograph), `distance` and `margin`; a row for each
        swap whose background was found. Empty where either dataset is missing.
    """
    swaps = records.loc[records["generator"] == "insight", "path"].tolist()
    photographs = records.loc[records["dataset"] == "wiki", "path"].tolist()
    if not swaps or not photographs:
        return pd.DataFrame(columns=["path", "background", "distance", "margin"])
    found = swap_ties([root / path for path in swaps], [root / path for path in photographs])
    path_of = {root / path: path for path in photographs}
    found = found.assign(path=swaps, background=found["background"].map(path_of))
    return found.loc[found["background"].notna(), ["path", "background", "distance", "margin"]]


def tie_groups(groups: Iterable[str], ties: Iterable[tuple[str, str]], *, max_size: int | None = None) -> np.ndarray:
    """Merges groups that ties connect, directly or through others.

    Mind what chains do. If every photograph lends its background to a swap at random, the chains join nearly the
    whole collection into two or three groups, which no split can divide. `max_size` gives up the few ties that hold
    the large ones together; `catalog.drop_torn_swaps` then leaves out the swaps that were torn.

    Args:
        groups: `(N,)`, the group of every record.
        ties: Pairs of groups.
        max_size: At most so many of the old groups in a new one; `None` sets no limit.

    Returns:
        `(N,)`: every record's new group, named after the first of the merged groups in sorted order.

    Example:
        >>> tie_groups(["a", "b", "c", "d"], [("b", "c"), ("c", "a")]).tolist()
        ['a', 'a', 'a', 'd']
    """
    names, codes = np.unique(np.asarray(list(groups), dtype=object), return_inverse=True)
    pairs = np.array([tuple(tie) for tie in ties], dtype=object).reshape(-1, 2)
    known = set(names)
    unknown = [name for name in pairs.ravel() if name not in known]
    if unknown:
        raise ValueError(f"{len(unknown)} tied groups are not among the groups, such as {unknown[:3]}.")
    size, ends = len(names), np.searchsorted(names, pairs)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(size, size))
    merged = connected_components(graph, directed=False)[1]
    if max_size is not None:
        merged = _cut_components(ends, merged, max_size)
    first_member = np.unique(merged, return_index=True)[1]
    return names[first_member[np.unique(merged, return_inverse=True)[1]]][codes]


def _cut_components(ends: np.ndarray, component: np.ndarray, max_size: int) -> np.ndarray:
    """Parts of at most `max_size` nodes, cut greedily from the leaves of a spanning tree of every component."""
    num_nodes = len(component)
    roots = np.unique(component, return_index=True)[1]
    rows = np.concatenate([ends[:, 0], np.full(len(roots), num_nodes)])  # one more node holds all trees together
    columns = np.concatenate([ends[:, 1], roots])
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(num_nodes + 1, num_nodes + 1)).tocsr()
    order, parent = breadth_first_order(graph, num_nodes, directed=False)
    size, joined = np.ones(num_nodes + 1, int), np.zeros(num_nodes + 1, bool)
    for node in order[:0:-1]:  # leaves first
        above = parent[node]
        joined[node] = above != num_nodes and size[above] + size[node] <= max_size
        size[above] += size[node] * joined[node]
    part = np.arange(num_nodes + 1)
    for node in order[1:]:
        part[node] = part[parent[node]] if joined[node] else node
    return part[:num_nodes]
