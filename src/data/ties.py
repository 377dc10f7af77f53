"""Which files belong together: face-swaps and the photograph behind them, files of one person."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from ..files import map_files
from ..pictures.decoding import read_grey
from .readers import BOX

GRID = 64  # side of the grey thumbnails in which backgrounds are compared
# True backgrounds: up to 0.3 where a face takes a tenth of the picture, 0.5 where it takes a third;
# other photographs seldom less than 0.55.
MAX_DISTANCE = 0.5
_CHUNK = 512  # swaps compared at a time


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
    known = np.stack([_descriptor(photograph) for photograph in photographs])
    best = np.zeros(len(swaps), np.int64)
    first, second = np.full((2, len(swaps)), 2.0)
    for start in range(0, len(swaps), _CHUNK):
        rows = slice(start, start + _CHUNK)
        distance = 1 - np.stack([_descriptor(swap) for swap in swaps[rows]]) @ known.T
        best[rows] = distance.argmin(1)
        first[rows] = distance.min(1)
        if len(photographs) > 1:
            np.put_along_axis(distance, best[rows, None], np.inf, axis=1)
            second[rows] = distance.min(1)
    return best, first, second


def _descriptor(thumbnail: np.ndarray) -> np.ndarray:
    """Fine structure of a thumbnail's outer zone: unit length, `(3 * size**2 / 4,)`."""
    grey = thumbnail.astype(np.float32)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), 1.5)
    contrast = np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), 1.5))
    detail /= contrast + 1  # + 1: a flat wall stays flat, noise stays small
    quarter, outside = len(grey) // 4, np.ones(grey.shape, bool)
    outside[quarter:-quarter, quarter:-quarter] = False  # where most faces lie
    values = detail[outside]
    return values / max(np.linalg.norm(values), 1e-6)


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


def tie_groups(
    groups: Iterable[str], ties: Iterable[tuple[str, str]], *, max_size: int | None = None
) -> np.ndarray:
    """Merges groups that ties connect, directly or through others.

    Chains grow large: they can join nearly the complete collection, which no split can divide.
    `max_size` gives up the few ties that hold the large ones together; `drop_torn_swaps` then
    leaves out the swaps that were torn.

    Args:
        groups: `(N,)`, the group of every record.
        ties: Pairs of groups.
        max_size: At most so many of the old groups in a new one; `None` sets no limit.

    Returns:
        `(N,)`: every record's new group, named after the first of the merged ones.

    Example:
        >>> tie_groups(["a", "b", "c", "d"], [("b", "c"), ("c", "a")]).tolist()
        ['a', 'a', 'a', 'd']
    """
    names, codes = np.unique(np.asarray(list(groups), dtype=object), return_inverse=True)
    pairs = np.array([tuple(tie) for tie in ties], dtype=object).reshape(-1, 2)
    if unknown := sorted(set(pairs.ravel()) - set(names)):
        raise ValueError(f"{len(unknown)} tied groups are not among the groups: {unknown[:3]}.")
    ends, num_nodes = np.searchsorted(names, pairs), len(names)
    graph = coo_array((np.ones(len(ends)), tuple(ends.T)), shape=(num_nodes, num_nodes))
    roots = np.unique(connected_components(graph, directed=False)[1], return_index=True)[1]
    # One more node holds the spanning trees of all components together.
    rows = np.concatenate([ends[:, 0], np.full(len(roots), num_nodes)])
    columns = np.concatenate([ends[:, 1], roots])
    shape = (num_nodes + 1, num_nodes + 1)
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=shape).tocsr()
    order, parent = breadth_first_order(graph, num_nodes, directed=False)
    size, joined = np.ones(num_nodes + 1, int), np.zeros(num_nodes + 1, bool)
    for node in order[:0:-1]:  # leaves first
        above = parent[node]
        fits = max_size is None or size[above] + size[node] <= max_size
        joined[node] = above != num_nodes and fits
        size[above] += size[node] * joined[node]
    part = np.arange(num_nodes + 1)
    for node in order[1:]:
        part[node] = part[parent[node]] if joined[node] else node
    _, first_member, member_of = np.unique(part[:-1], return_index=True, return_inverse=True)
    return names[first_member[member_of]][codes]


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
