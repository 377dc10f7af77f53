"""Which files belong together: face-swaps and the photograph behind them, files of one person."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import DisjointSet
from sklearn.neighbors import NearestNeighbors

from ..pictures.decoding import read_grey
from ..shards import map_files
from .readers import BOX

GRID = 64  # side of the grey thumbnails in which backgrounds are compared
# True backgrounds: up to 0.3 where a face takes a tenth of the picture, 0.5 where it takes a third;
# other photographs seldom less than 0.55.
MAX_DISTANCE = 0.5


def find_swap_ties(records: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Finds the photograph of `wiki` whose background each face-swap of `insight` carries.

    A swap of DeepFakeFace is a photograph squashed to a square with another person's face pasted
    in, so a photograph squashed likewise agrees with its swap in everything but the face.

    Returns:
        A row for each swap whose background was found: `path`, `background` (path of the
        photograph), `distance` (see `match_backgrounds`, at most `MAX_DISTANCE`) and `margin` (how
        much farther the second best is; near 0 where one photograph was delivered twice).
    """
    swaps = records.loc[records["generator"] == "insight", "path"].to_numpy()
    photographs = records.loc[records["dataset"] == "wiki", "path"].to_numpy()
    if not len(swaps) or not len(photographs):
        return pd.DataFrame(columns=["path", "background", "distance", "margin"])
    grids = (thumbnails([root / path for path in paths]) for paths in (swaps, photographs))
    best, distance, second = match_backgrounds(*grids)
    table = pd.DataFrame({"path": swaps, "background": photographs[best], "distance": distance})
    return table.assign(margin=second - distance)[distance <= MAX_DISTANCE]


def thumbnails(files: Sequence[Path]) -> np.ndarray:
    """Every file squashed to a grey square, `(N, GRID, GRID)` `uint8`."""

    def squash(file):
        return cv2.resize(read_grey(file, GRID), (GRID, GRID), interpolation=cv2.INTER_AREA)

    return np.stack(map_files(squash, files, 2, "thumbnails"))


def match_backgrounds(swaps: np.ndarray, photographs: np.ndarray) -> tuple[np.ndarray, ...]:
    """The photograph whose fine structure outside the middle resembles each swap's most.

    Brightness and large shapes are filtered out and contrast is evened out: two portraits before
    white walls agree in their grey levels, but no two photographs agree in their details.

    Args:
        swaps: `(N, size, size)`, `uint8`, from `thumbnails`.
        photographs: `(M, size, size)`, `uint8`, `M >= 1`.

    Returns:
        Position of the best photograph, its distance and the second best's, each `(N,)`. A distance
        is one minus the correlation: about 1 for unrelated pictures, 2 if there is no second.
    """
    known, sought = (np.stack([*map(_descriptor, found)]) for found in (photographs, swaps))
    known = NearestNeighbors(n_neighbors=min(2, len(known)), metric="cosine").fit(known)
    distances, positions = known.kneighbors(sought)
    second = distances[:, 1] if distances.shape[1] > 1 else np.full(len(swaps), 2.0)
    return positions[:, 0], distances[:, 0], second


def _descriptor(thumbnail: np.ndarray) -> np.ndarray:
    """Fine structure of a thumbnail's outer zone: `(3 * size**2 / 4,)`."""
    grey = thumbnail.astype(np.float32)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), 1.5)
    contrast = np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), 1.5))
    detail /= contrast + 1  # + 1: a flat wall stays flat, noise stays small
    quarter, outside = len(grey) // 4, np.ones(grey.shape, bool)
    outside[quarter:-quarter, quarter:-quarter] = False  # where most faces lie
    return detail[outside]


def swap_pairs(records: pd.DataFrame, ties: pd.DataFrame) -> pd.DataFrame:
    """Pairs of groups (columns `group`, `other`) that `find_swap_ties` tied."""
    group_of = records.set_index("path")["group"]
    ends = {"group": ties["path"].map(group_of), "other": ties["background"].map(group_of)}
    return pd.DataFrame(ends)


def person_ties(records: pd.DataFrame) -> pd.DataFrame:
    """Pairs of groups (columns `group`, `other`) of the same person, by the source's names."""
    named = records.loc[records["person"] != "", ["person", "group"]].drop_duplicates()
    first = named.groupby("person")["group"].transform("first")
    return pd.DataFrame({"group": named["group"], "other": first}).query("group != other")


def tie_groups(groups: Iterable[str], ties: Iterable[tuple[str, str]], max_size: int) -> np.ndarray:
    """Merges groups that ties connect, directly or through others.

    Chains grow large: they can join nearly the complete collection, which no split can divide. So
    a tie is given up where more than `max_size` of the old groups would become one;
    `drop_torn_swaps` then leaves out the swaps that were torn.

    Returns:
        `(N,)`: every record's new group, named after the first of the merged ones.

    Example:
        >>> tie_groups(["a", "b", "c", "d"], [("b", "c"), ("c", "a")], max_size=3).tolist()
        ['a', 'a', 'a', 'd']
    """
    merged = DisjointSet(groups)
    for first, second in ties:
        if len(merged.subset(first) | merged.subset(second)) <= max_size:
            merged.merge(first, second)
    name_of = {name: min(subset) for subset in merged.subsets() for name in subset}
    return np.array([name_of[group] for group in groups], dtype=object)


def add_swap_boxes(records: pd.DataFrame, ties: pd.DataFrame) -> pd.DataFrame:
    """Gives every face-swap the face box of its photograph; squashing leaves fractions alone."""
    boxes, background = records.set_index("path")[BOX], ties.set_index("path")["background"]
    is_tied = records["path"].isin(background.index)
    photographs = records.loc[is_tied, "path"].map(background)
    records = records.copy()
    records.loc[is_tied, BOX] = boxes.reindex(photographs).to_numpy()
    return records


def tie_quality(ties: pd.DataFrame, records: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """How far the ties of `find_swap_ties` can be trusted.

    Args:
        ties: From `find_swap_ties`.
        records: What the ties were looked for in.
        truth: From `sources.truth`: `path` and `background`; no rows where it is unknown.

    Returns:
        The spread of `distance` and `margin`; `mutual`, the share of ties that go both ways (all
        where faces were exchanged in pairs, as in DeepFakeFace's `prompt/wiki.py`); with a truth
        `recall`, of the swaps whose photograph is among the records, and `precision`.
    """
    swaps, values = records.loc[records["generator"] == "insight", "path"], {}
    if len(ties):
        spread = ties[["distance", "margin"]].agg(["min", "median", "max"]).unstack()
        values |= {f"{name}, {part}": value for (name, part), value in spread.items()}
        ends = [ties[name].str.split("/").str[-2:].str.join("/") for name in ("path", "background")]
        pairs = set(zip(*ends))
        values["mutual"] = np.mean([(background, swap) in pairs for swap, background in pairs])
    known = truth[truth["path"].isin(swaps) & truth["background"].isin(records["path"])]
    if len(known):
        num_right = len(known.merge(ties, on=["path", "background"]))
        values |= {"recall": num_right / len(known), "precision": num_right / max(len(ties), 1)}
    return pd.Series(values, dtype=float)


def drop_torn_swaps(records: pd.DataFrame, ties: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leaves out the face-swaps whose background photograph lies in another split.

    Returns:
        The records that stay, and the others with columns `path`, `label`, `reason`.
    """
    split_of = records.set_index("path")["split"]
    torn = ties.loc[ties["path"].map(split_of) != ties["background"].map(split_of), "path"]
    is_lost, reason = records["path"].isin(torn), "its background photograph lies in another split"
    lost = records.loc[is_lost, ["path", "label"]].assign(reason=reason)
    return records[~is_lost].reset_index(drop=True), lost
