"""Where a detector looks: Grad-CAM and occlusion on pictures, ring occlusion on spectra.

Detectors are chains of an extractor, which ends by averaging or flattening its last feature map,
and a small dense head (see `models`). The gradient of the logit with respect to that map then has a
closed form, and no backend's automatic differentiation is needed. Maps show where evidence was
found, not why it is evidence.
"""

from collections.abc import Sequence

import cv2
import keras
import numpy as np
import pandas as pd
from keras import layers

from ..config import Study
from ..data.sources import altered_boxes
from ..evaluation.metrics import compare, compute
from ..evaluation.results import RESULT_COLUMNS, write_results
from ..files import progress
from .scoring import Pictures
from .training import read_card


def grad_cam(model: keras.Model, pixels: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
    """Grad-CAM for the class fake: where the last feature map speaks for it.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", ICCV 2017: `ReLU(sum_k a_k A_k)`, where `A_k` is a channel of the map and `a_k`
    the mean over all places of the gradient of fake's logit; with average pooling and a single unit
    this is the CAM of Zhou et al. (CVPR 2016). Where a backbone ends with max pooling (VGG16), `A`
    is the last convolution's output, as in the paper: max pooling passes each gradient to one
    place, so the sum over all places is the same before and after it.

    The map is coarse (a cell of it covers 16 or 32 pixels of what the backbone is given), and is
    enlarged bilinearly. Where the head takes the flattened map, it weighs every place by itself;
    the mean over all places keeps little of it.

    Args:
        model: Of `models.build` or `build_fourier`, trained or loaded.
        pixels: `(N, H, W, C)` `uint8`, as the model takes them.
        batch_size: Pictures per step.

    Returns:
        `(N, H, W)` `float32`, at least 0, not normalised: pictures can be compared. All zero where
        no place speaks for fake, as is common for pictures called real; `share_inside` then gives
        NaN.

    Raises:
        ValueError: If the model is no such chain, or the pictures do not fit it.
    """
    extractor, dense = _parts(model)
    maps, averaged = _feature_maps(extractor)
    pixels = _checked_pixels(model, pixels)
    heat = np.empty(pixels.shape[:3], np.float32)
    for start in progress(range(0, len(pixels), batch_size), "Grad-CAM", unit="batch"):
        rows = slice(start, start + batch_size)
        places, last = (
            np.asarray(array, np.float32) for array in maps.predict_on_batch(pixels[rows])
        )
        features = last.mean(axis=(1, 2)) if averaged else last.reshape(len(last), -1)
        gradient = _gradient(dense, _activations(dense, features)[0])
        total = (
            gradient if averaged else gradient.reshape(len(last), -1, last.shape[-1]).sum(axis=1)
        )  # over all places
        small = np.maximum(np.einsum("nhwk,nk->nhw", places, total / np.prod(places.shape[1:3])), 0)
        heat[rows] = [
            cv2.resize(picture, heat.shape[:0:-1], interpolation=cv2.INTER_LINEAR)
            for picture in small
        ]
    return heat


def occlusion(
    model: keras.Model,
    pixels: np.ndarray,
    *,
    patch: int,
    stride: int,
    fill: Sequence[float] | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """How much the logit of fake falls when a place is covered: no gradient is needed.

    Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014. A patch has
    edges and a colour of its own, so a change may also be the patch's doing; what needs two places
    at once does not show.

    Args:
        model: A chain of an extractor and a dense head.
        pixels: `(N, H, W, C)` `uint8`.
        patch: Side of the covered square in pixels.
        stride: Pixels from one square to the next, at most `patch`; the last ones end with the
            picture.
        fill: The square's colour, `(C,)` in `0..255`; `None` takes each picture's mean colour.
        batch_size: Covered pictures per step; there are N times the number of squares.

    Returns:
        `(N, H, W)` `float32`: for each pixel the mean fall over the squares that cover it, in units
        of the logit. Negative where covering makes a picture look more fake.

    Raises:
        ValueError: If the model is no chain, or pictures, patch, stride or fill do not fit.
    """
    extractor, dense = _parts(model)
    pixels = _checked_pixels(model, pixels)
    num_pictures, height, width, num_channels = pixels.shape
    if not 1 <= stride <= patch <= min(height, width):
        raise ValueError(
            f"Received patch={patch} and stride={stride} for pictures of {width} x {height} "
            "pixels; expected "
            "1 <= stride <= patch <= the picture's side, so that squares cover every pixel."
        )
    tops, lefts = (
        np.append(np.arange(0, side - patch, stride), side - patch) for side in (height, width)
    )
    squares = [np.s_[top : top + patch, left : left + patch] for top in tops for left in lefts]
    colors = (
        pixels.mean(axis=(1, 2))
        if fill is None
        else np.broadcast_to(fill, (num_pictures, num_channels))
    )
    if np.min(colors) < 0 or np.max(colors) > 255:
        raise ValueError(f"Expected fill in 0..255, one value a channel, received {fill}.")
    colors = np.rint(colors).astype(np.uint8)
    # Every picture as it is (place -1), then under each of its squares.
    jobs = [
        (picture, place) for picture in range(num_pictures) for place in range(-1, len(squares))
    ]
    found = np.empty(len(jobs), np.float32)
    for start in progress(range(0, len(jobs), batch_size), "Occlusion", unit="batch"):
        chunk = jobs[start : start + batch_size]
        covered = pixels[[picture for picture, _ in chunk]]
        for image, (picture, place) in zip(covered, chunk):
            if place >= 0:
                image[squares[place]] = colors[picture]
        features = np.asarray(extractor.predict_on_batch(covered), np.float32)
        found[start : start + batch_size] = _activations(dense, features)[1]
    found = found.reshape(num_pictures, 1 + len(squares))
    heat, counts = (
        np.zeros((num_pictures, height, width), np.float32),
        np.zeros((height, width), np.float32),
    )
    for place, square in enumerate(squares):
        heat[(slice(None), *square)] += (found[:, 0] - found[:, 1 + place])[:, None, None]
        counts[square] += 1
    return heat / counts


def share_inside(heat: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Share of the heat that lies inside a box; pixels that the box cuts count by area.

    Args:
        heat: `(N, H, W)`, at least 0. Of `occlusion`, pass `np.maximum(heat, 0)`.
        boxes: `(N, 4)`, left, top, right, bottom as fractions of the picture; what lies outside it
            is cut off.

    Returns:
        `(N,)` in `[0, 1]`; NaN where there is no heat or no box (NaN).

    Raises:
        ValueError: If the shapes do not fit, a box is inside out, or heat is negative or not
            finite.

    Example:
        >>> share_inside(np.ones((1, 2, 4)), np.array([[0.0, 0.0, 0.25, 0.75]])).tolist()
        [0.1875]
    """
    heat, rows, columns = _checked_heat(heat, boxes)
    inside, total = (
        np.einsum("nhw,nh,nw->n", heat, rows, columns),
        heat.sum(axis=(1, 2), dtype=np.float64),
    )
    return np.divide(inside, total, out=np.full(len(heat), np.nan), where=total > 0)


def share_elsewhere(heat: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Share of each picture's heat that lies inside the other pictures' boxes, on average.

    Faces, and with them altered regions, lie in the middle. A detector that looks at the middle of
    every picture has more heat in the regions than their area without having found a single one; it
    has as much in the wrong boxes. These overlap the right one, so the difference stays small even
    for heat that follows the regions.

    Args:
        heat: `(N, H, W)`, as for `share_inside`.
        boxes: `(N, 4)`, as for `share_inside`; at least two.

    Returns:
        `(N,)` in `[0, 1]`; NaN where there is no heat or no box.

    Raises:
        ValueError: As `share_inside`, or if there are fewer than two boxes.

    Example:
        >>> left, right = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]
        >>> heat = np.array([[[3.0, 1.0]], [[3.0, 1.0]]])
        >>> share_elsewhere(heat, np.array([left, right])).tolist()
        [0.25, 0.75]
    """
    heat, rows, columns = _checked_heat(heat, boxes)
    num_boxes = int(np.isfinite(boxes).all(axis=1).sum())
    if num_boxes < 2:
        raise ValueError(
            f"Expected at least two boxes, received {num_boxes}: there is no other to compare with."
        )
    inside, total = share_inside(heat, boxes), heat.sum(axis=(1, 2), dtype=np.float64)
    everywhere = np.einsum(
        "nhw,hw->n", heat, np.nan_to_num(rows).T @ np.nan_to_num(columns)
    )  # in all boxes, added up
    everywhere = np.divide(everywhere, total, out=np.full(len(heat), np.nan), where=total > 0)
    return (everywhere - inside) / (num_boxes - 1)


def area_of(boxes: np.ndarray) -> np.ndarray:
    """Share of the picture inside each box: what `share_inside` is where heat is even.

    Args:
        boxes: `(N, 4)`, as for `share_inside`.

    Returns:
        `(N,)` in `[0, 1]`; NaN where there is no box.

    Example:
        >>> area_of(np.array([[-0.5, 0.0, 0.5, 0.5]])).tolist()
        [0.25]
    """
    left, top, right, bottom = np.clip(_checked_boxes(boxes), 0, 1).T
    return (right - left) * (bottom - top)


def score_regions(pictures: Pictures, detectors: dict[str, keras.Model]) -> pd.DataFrame:
    """Whether each detector's heat lies in the altered regions; writes the result rows.

    Args:
        pictures: Those that the detectors were trained on and scored.
        detectors: Name, for example `"VGG16_V3"` → trained model, as `grad_cam` takes it.

    Returns:
        The rows of `region_rows` for every detector and test set of the study; none where no
        altered region is known, as in real data.
    """
    study = pictures.study
    tested = pictures.table["split"].eq("test") & pictures.table["task"].isin(study.test_sets)
    table = pictures.table[tested].assign(place=range(tested.sum()))
    boxes = altered_boxes(study, table)
    tables = [pd.DataFrame(columns=RESULT_COLUMNS)]
    for name, model in detectors.items():
        card = read_card(study.models / pictures.model_id(name))
        for _, rows in table[np.isfinite(boxes).all(axis=1)].groupby("task", sort=False):
            if len(rows) < 2:
                continue  # no other picture's region to compare with
            heat, altered = grad_cam(model, pictures.pixels[rows["row"]]), boxes[rows["place"]]
            shares = share_inside(heat, altered), area_of(altered)
            tables.append(region_rows(study, rows, *shares, card, share_elsewhere(heat, altered)))
    found = pd.concat(tables, ignore_index=True)
    if len(found):
        write_results(study, found)
    return found


def region_sentences(rows: pd.DataFrame) -> list[str]:
    """What `score_regions` found, one sentence a detector and test set."""
    sentences = []
    for row in rows[rows["metric"] == "cam_in_region_excess"].itertuples():
        found = "does not follow the altered region"
        if row.ci_low > 0:
            found = "follows the altered region"
        elif row.ci_high < 0:
            found = "lies elsewhere"
        sentences.append(
            f"{row.model} on {row.test_set}: the heat {found} (share inside minus share in other "
            f"pictures' regions: {row.value:+.3f} [{row.ci_low:+.3f}, {row.ci_high:+.3f}])"
        )
    return sentences


def region_rows(
    study: Study,
    table: pd.DataFrame,
    inside: np.ndarray,
    chance: np.ndarray,
    card: dict,
    elsewhere: np.ndarray | None = None,
) -> pd.DataFrame:
    """Rows of `results.csv`: mean share of heat in the altered region, and its comparisons.

    The intervals (95 %) are from a bootstrap that draws whole groups, the same ones for all
    metrics.

    Args:
        study: Gives its name, `num_resamples` and the seed of the resamples.
        table: `(N,)` fakes with `group`, `test_set`, `real_source`: rows of `Pictures.table`.
        inside: `(N,)`, from `share_inside`. Pictures with NaN are left out of all metrics;
            `num_fake` counts the rest.
        chance: `(N,)`, from `area_of`.
        card: The detector's: `approach, model, protocol, train_set, seed`.
        elsewhere: `(N,)`, from `share_elsewhere`, if the table holds one test set.

    Returns:
        A table with the columns `RESULT_COLUMNS`: metrics `cam_in_region`, `cam_in_region_chance`
        and, with `elsewhere`, `cam_in_region_elsewhere` and `cam_in_region_excess` (inside −
        elsewhere: above 0 if the heat follows the region). A test set of which fewer than two
        groups have heat has no rows.

    Raises:
        ValueError: If the lengths differ, or the card lacks a key.
    """
    shares = {"cam_in_region": inside, "cam_in_region_chance": chance}
    if elsewhere is not None:
        shares |= {
            "cam_in_region_elsewhere": elsewhere,
            "cam_in_region_excess": np.subtract(inside, elsewhere),
        }
    if any(len(values) != len(table) for values in shares.values()):
        received = {name: len(values) for name, values in shares.items()}
        raise ValueError(
            f"Expected a value for each of the {len(table)} rows of the table, received {received}."
        )
    same = {"study": study.name, "num_real": 0}
    for name in ("approach", "model", "protocol", "train_set", "seed"):
        if name not in card:
            raise ValueError(
                f"The card lacks {name!r}; it has {sorted(card)}. `training.read_card` reads a "
                "detector's."
            )
        same[name] = card[name]
    used = table[["group", "test_set", "real_source"]].assign(**shares).dropna(subset=list(shares))
    rows = []
    for (test_set, real_source), part in used.groupby(["test_set", "real_source"], sort=False):
        index, groups = pd.factorize(part["group"])
        if len(groups) < 2:
            continue
        random = np.random.default_rng(study.seed)
        drawn = random.integers(len(groups), size=(study.num_resamples, len(groups)))
        num_drawn = np.bincount(index)[drawn].sum(axis=1)
        for metric in shares:
            low, high = np.quantile(
                np.bincount(index, part[metric])[drawn].sum(axis=1) / num_drawn, (0.025, 0.975)
            )
            found = {"metric": metric, "value": part[metric].mean(), "ci_low": low, "ci_high": high}
            rows.append(
                {
                    **same,
                    "test_set": test_set,
                    "real_source": real_source,
                    **found,
                    "num_fake": len(part),
                }
            )
    return pd.DataFrame(rows, columns=RESULT_COLUMNS)


def ring_occlusion(
    model: keras.Model,
    spectra: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    num_rings: int = 16,
    num_resamples: int = 2000,
    batch_size: int = 64,
) -> pd.DataFrame:
    """Where in frequency a Fourier detector tells the classes apart: AUC without each ring.

    The ring is replaced by the mean of all given spectra, both classes pooled, so that nothing in
    it differs between pictures. A drop says that *this network, on these pictures,* rests on that
    ring. It does not say that the ring is where generators leave their trace: a smooth ring is also
    something no network was trained on, and may confuse it. No drop does not say that the ring is
    empty: its neighbours may tell the same. And since each recorded spectrum is scaled to its own
    range, what raises one ring lowers all others a little.

    Args:
        model: Of `models.build`, trained.
        spectra: Recorded `(N, S, S, 1)` `uint8`, zero frequency at `[S // 2, S // 2]`.
        labels: `(N,)`, fake = 1.
        groups: `(N,)`, the unit of the bootstrap.
        num_rings: Rings of equal width up to 0.5 cycles per pixel; the corners beyond are one more.
        num_resamples: Behind each interval.
        batch_size: Spectra per step.

    Returns:
        One row a ring: `low`, `high` (cycles per pixel), `auc` with the ring replaced, `drop` (AUC
        undisturbed minus `auc`), and its 95 % interval `ci_low`, `ci_high` (`metrics.compare`,
        paired, by group).

    Raises:
        ValueError: If the spectra do not fit the model, or as `metrics.compare`.
    """
    spectra = _checked_pixels(model, spectra)
    side = spectra.shape[1]
    if spectra.shape[1:] != (side, side, 1) or not 1 <= num_rings <= side // 2:
        raise ValueError(
            f"Received spectra of shape {spectra.shape} and num_rings={num_rings}; expected (N, "
            "S, S, 1) and 1 to S / 2."
        )
    frequency = (np.arange(side) - side // 2) / side
    radius = np.hypot(frequency[:, None], frequency[None, :])
    ring = np.clip(
        np.ceil(2 * num_rings * radius) - 1, 0, num_rings
    )  # low < radius <= high; zero is in the first
    mean = np.rint(spectra.mean(axis=0)).astype(np.uint8)

    def scores(chosen):
        pieces = []
        for start in range(0, len(spectra), batch_size):
            pieces.append(
                model.predict_on_batch(np.where(chosen, mean, spectra[start : start + batch_size]))
            )
        return np.concatenate(pieces).ravel()

    undisturbed, rows = scores(np.False_), []
    edges = np.append(np.arange(num_rings + 1) / (2 * num_rings), np.sqrt(0.5))
    for number in progress(range(num_rings + 1), "Occluding rings", unit="ring"):
        replaced = scores((ring == number)[..., None])
        drop = compare(labels, undisturbed, replaced, groups, num_resamples=num_resamples).iloc[0]
        rows.append(
            (
                *edges[number : number + 2],
                compute(labels, replaced)["auc"],
                *drop[["value", "ci_low", "ci_high"]],
            )
        )
    return pd.DataFrame(rows, columns=["low", "high", "auc", "drop", "ci_low", "ci_high"])


def _parts(model: keras.Model) -> tuple[keras.Model, list[tuple[np.ndarray, np.ndarray]]]:
    """The extractor, and kernel and bias of each dense layer of the head."""
    parts = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if len(parts) != 2:
        raise _no_chain(model, f"it has {len(parts)} parts")
    extractor, head = parts
    dense = [layer for layer in head.layers if not isinstance(layer, layers.InputLayer)]
    wanted = [keras.activations.relu] * (len(dense) - 1) + [keras.activations.sigmoid]
    if [getattr(layer, "activation", None) for layer in dense] != wanted or dense[-1].output.shape[
        1:
    ] != (1,):
        raise _no_chain(model, f"its head is {[type(layer).__name__ for layer in dense]}")
    return extractor, [
        tuple(np.asarray(array, np.float32) for array in layer.get_weights()) for layer in dense
    ]


def _feature_maps(extractor: keras.Model) -> tuple[keras.Model, bool]:
    """A model from pixels to the map to explain and the pooled map; whether it is averaged.

    The two differ where the backbone ends with max pooling. No layer is called again: that would
    change the detector.
    """
    *_, backbone, pooling = extractor.operations
    if (
        not isinstance(pooling, (layers.GlobalAveragePooling2D, layers.Flatten))
        or len(pooling.input.shape) != 4
    ):
        raise _no_chain(extractor, f"it ends with {type(pooling).__name__}")
    averaged = isinstance(pooling, layers.GlobalAveragePooling2D)
    if isinstance(backbone, keras.Model) and isinstance(backbone.layers[-1], layers.MaxPooling2D):
        both = keras.Model(backbone.input, [backbone.layers[-1].input, backbone.output])
        return keras.Model(extractor.input, both(extractor.operations[-3].output)), averaged
    return keras.Model(extractor.input, [pooling.input, pooling.input]), averaged


def _no_chain(model: keras.Model, found: str) -> ValueError:
    return ValueError(
        f"{model.name} cannot be explained: {found}. Expected a chain of an extractor, which "
        "ends with global average "
        "pooling or flattening of a feature map, and a head of dense layers (ReLU, at last one "
        "sigmoid unit), as "
        "`models.build` and `models.build` return it."
    )


def _activations(dense: list, features: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Features and what each hidden layer makes of them, and the logit of fake `(N,)`."""
    values, (*hidden, (kernel, bias)) = [features], dense
    for matrix, offset in hidden:
        values.append(np.maximum(values[-1] @ matrix + offset, 0))
    return values, values[-1] @ kernel[:, 0] + bias[0]


def _gradient(dense: list, values: list[np.ndarray]) -> np.ndarray:
    """Gradient of the logit with respect to the features, `(N, D)`, backwards through the ReLUs."""
    gradient = np.broadcast_to(dense[-1][0][:, 0], values[-1].shape)
    for (kernel, _), value in zip(dense[-2::-1], values[:0:-1]):
        gradient = (gradient * (value > 0)) @ kernel.T
    return gradient


def _checked_pixels(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """The pictures, if they are what the model takes."""
    pixels, expected = np.asarray(pixels), tuple(model.input.shape[1:])
    if pixels.dtype != np.uint8 or pixels.shape[1:] != expected or not len(pixels):
        raise ValueError(
            f"{model.name} takes uint8 pictures (N, {', '.join(map(str, expected))}), N > 0; "
            f"received {pixels.dtype}, "
            f"{pixels.shape}. Prepare them as for training (`scoring.prepare`)."
        )
    return pixels


def _checked_heat(heat: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The heat, and how much of each row `(N, H)` and column `(N, W)` the boxes cover."""
    heat, boxes = np.asarray(heat), _checked_boxes(boxes)
    if heat.ndim != 3 or len(heat) != len(boxes):
        raise ValueError(
            f"Expected heat (N, H, W) and boxes (N, 4), received {heat.shape} and {boxes.shape}."
        )
    if not np.isfinite(heat).all() or (heat < 0).any():
        raise ValueError(
            f"Expected finite heat of at least 0, received {heat.min()} to {heat.max()}. The "
            "share of a signed map "
            "inside a box means nothing: pass np.maximum(heat, 0)."
        )
    left, top, right, bottom = boxes.T[..., None]
    rows, columns = (np.arange(side) for side in heat.shape[1:])
    return (
        heat,
        np.clip(np.minimum(bottom * len(rows), rows + 1) - np.maximum(top * len(rows), rows), 0, 1),
        np.clip(
            np.minimum(right * len(columns), columns + 1)
            - np.maximum(left * len(columns), columns),
            0,
            1,
        ),
    )


def _checked_boxes(boxes: np.ndarray) -> np.ndarray:
    """Boxes `(N, 4)` whose sides are in order."""
    boxes = np.asarray(boxes, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"Expected boxes (N, 4): left, top, right, bottom; received {boxes.shape}."
        )
    wrong = (boxes[:, :2] > boxes[:, 2:]).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"Expected left <= right and top <= bottom; received {boxes[wrong][0].tolist()}."
        )
    return boxes
