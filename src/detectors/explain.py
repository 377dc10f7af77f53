"""Where a detector looks: Grad-CAM and occlusion on pictures, ring occlusion on spectra.

Maps show where evidence was found, not why it is evidence. The gradient through a detector's head
has a closed form, so no backend's automatic differentiation is needed.
"""

import cv2
import keras
import numpy as np
import pandas as pd
from keras import layers

from ..data.sources import altered_boxes
from ..evaluation import intervals
from ..evaluation.results import DETECTOR_KEYS, RESULT_COLUMNS, write_results
from ..files import progress
from .scoring import Pictures
from .training import read_card

BATCH_SIZE = 64  # Grad-CAM, whose maps take memory, has half of it


def grad_cam(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Grad-CAM for the class fake: where the last feature map speaks for it, enlarged bilinearly.

    `ReLU(sum_k a_k A_k)`, where `A_k` is a channel of the map and `a_k` the mean over all places of
    the gradient of fake's logit (Selvaraju et al., "Grad-CAM", ICCV 2017).

    Args:
        model: Of `models.build`, trained or loaded.
        pixels: `(N, H, W, C)` `uint8`, as the model takes them.

    Returns:
        `(N, H, W)` `float32`, at least 0, not normalised: pictures can be compared. All zero where
        no place speaks for fake, as is common for pictures called real.

    Raises:
        ValueError: If the model is no chain of extractor and head, or the pictures do not fit it.
    """
    extractor, dense = _parts(model)
    maps, averaged = _feature_maps(extractor)
    pixels, batch_size = _checked_pixels(model, pixels), BATCH_SIZE // 2
    heat = np.empty(pixels.shape[:3], np.float32)
    for start in progress(range(0, len(pixels), batch_size), "Grad-CAM", unit="batch"):
        rows = slice(start, start + batch_size)
        found = maps.predict_on_batch(pixels[rows])
        places, last = (np.asarray(array, np.float32) for array in found)
        features = last.mean(axis=(1, 2)) if averaged else last.reshape(len(last), -1)
        _, total = _logit_and_gradient(dense, features)
        if not averaged:
            total = total.reshape(len(last), -1, last.shape[-1]).sum(axis=1)  # over all places
        small = np.maximum(np.einsum("nhwk,nk->nhw", places, total / np.prod(places.shape[1:3])), 0)
        heat[rows] = [cv2.resize(picture, heat.shape[:0:-1]) for picture in small]
    return heat


def occlusion(model: keras.Model, pixels: np.ndarray, *, patch: int, stride: int) -> np.ndarray:
    """How much the logit of fake falls when a square is covered with the picture's mean colour.

    Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.

    Args:
        model: A chain of an extractor and a dense head.
        pixels: `(N, H, W, C)` `uint8`.
        patch: Side of the covered square in pixels.
        stride: Pixels from one square to the next; the last ones end with the picture.

    Returns:
        `(N, H, W)` `float32`: for each pixel the mean fall over the squares that cover it, in units
        of the logit. Negative where covering makes a picture look more fake.

    Raises:
        ValueError: If the model is no chain, or pictures, patch or stride do not fit.
    """
    extractor, dense = _parts(model)
    pixels = _checked_pixels(model, pixels)
    height, width = pixels.shape[1:3]
    if not 1 <= stride <= patch <= min(height, width):
        raise ValueError(
            f"Received patch={patch} and stride={stride} for pictures of {width} x {height}; "
            "expected 1 <= stride <= patch <= the picture's side: squares must cover every pixel."
        )
    tops, lefts = (
        np.append(np.arange(0, side - patch, stride), side - patch) for side in (height, width)
    )
    squares = [np.s_[:0, :0]]  # covers nothing: the picture as it is
    squares += [np.s_[top : top + patch, left : left + patch] for top in tops for left in lefts]
    colors = np.rint(pixels.mean(axis=(1, 2))).astype(np.uint8)
    jobs = [(picture, square) for picture in range(len(pixels)) for square in squares]
    logits = np.empty(len(jobs), np.float32)
    for start in progress(range(0, len(jobs), BATCH_SIZE), "Occlusion", unit="batch"):
        chunk = jobs[start : start + BATCH_SIZE]
        covered = pixels[[picture for picture, _ in chunk]]
        for image, (picture, square) in zip(covered, chunk):
            image[square] = colors[picture]
        features = np.asarray(extractor.predict_on_batch(covered), np.float32)
        logits[start : start + BATCH_SIZE], _ = _logit_and_gradient(dense, features)
    logits = logits.reshape(len(pixels), len(squares))
    heat, counts = np.zeros(pixels.shape[:3], np.float32), np.zeros((height, width), np.float32)
    for number, square in enumerate(squares):
        heat[(slice(None), *square)] += (logits[:, 0] - logits[:, number])[:, None, None]
        counts[square] += 1
    return heat / counts


def share_inside(heat: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Share of the heat that lies inside a box; pixels that the box cuts count by area.

    Args:
        heat: `(N, H, W)`, at least 0. Of `occlusion`, pass `np.maximum(heat, 0)`.
        boxes: `(N, 4)`, left, top, right, bottom as fractions of the picture, clipped to it.

    Returns:
        `(N,)` in `[0, 1]`; NaN where there is no heat or no box (NaN).

    Raises:
        ValueError: If the shapes do not fit, a box is inside out, or heat is negative or infinite.

    Example:
        >>> share_inside(np.ones((1, 2, 4)), np.array([[0.0, 0.0, 0.25, 0.75]])).tolist()
        [0.1875]
    """
    rows, columns = _covered(heat, boxes)
    return _share(heat, np.einsum("nhw,nh,nw->n", heat, rows, columns))


def share_elsewhere(heat: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Mean share of each picture's heat inside the other pictures' boxes; NaN where there is none.

    Faces lie in the middle: a detector that always looks there has more heat in the altered regions
    than their area without having found one. It has as much in the wrong boxes.
    """
    rows, columns = _covered(heat, boxes)
    num_others = np.isfinite(boxes).all(axis=1).sum() - 1
    all_boxes = np.nan_to_num(rows).T @ np.nan_to_num(columns)
    everywhere = _share(heat, np.einsum("nhw,hw->n", heat, all_boxes))
    return (everywhere - share_inside(heat, boxes)) / (num_others if num_others > 0 else np.nan)


def score_regions(pictures: Pictures, detectors: dict[str, keras.Model]) -> pd.DataFrame:
    """Whether each detector's heat lies in the altered regions; writes the result rows.

    Args:
        pictures: Those that the detectors were trained on and scored.
        detectors: Name, for example `"VGG16_V3"` → trained model, as `grad_cam` takes it.

    Returns:
        Rows of `results.csv` for each detector and test set of which at least two groups have heat
        and a known region: `cam_in_region`, `cam_in_region_chance` (the region's area),
        `cam_in_region_elsewhere` and `cam_in_region_excess` (inside − elsewhere: above 0 if the
        heat follows the region), with intervals of `intervals.mean`. None on real data.
    """
    study = pictures.study
    tested = pictures.table["task"].isin([*study.test_sets, *study.aligned])
    tested &= pictures.table["split"] == "test"
    table = pictures.table[tested].assign(place=range(tested.sum()))
    boxes, found = altered_boxes(study, table), []
    for name, model in detectors.items():
        card = read_card(study.models / pictures.model_id(name))
        for _, rows in table[np.isfinite(boxes).all(axis=1)].groupby("task", sort=False):
            heat, altered = grad_cam(model, pictures.pixels[rows["row"]]), boxes[rows["place"]]
            inside, elsewhere = share_inside(heat, altered), share_elsewhere(heat, altered)
            left, top, right, bottom = np.clip(altered, 0, 1).T
            shares = {
                "cam_in_region": inside,
                "cam_in_region_chance": (right - left) * (bottom - top),
                "cam_in_region_elsewhere": elsewhere,
                "cam_in_region_excess": inside - elsewhere,
            }
            used = rows.assign(**shares).dropna(subset=list(shares))
            if used["group"].nunique() < 2:
                continue
            same = {key: card[key] for key in DETECTOR_KEYS} | {"num_real": 0}
            same |= used.iloc[0][["test_set", "real_source"]].to_dict() | {"num_fake": len(used)}
            same |= {"num_groups": used["group"].nunique(), "num_seeds": 1}
            for metric in shares:
                share = intervals.mean(used[metric], used["group"])
                found.append({**same, "metric": metric, **share})
    found = pd.DataFrame(found, columns=RESULT_COLUMNS)
    if len(found):
        write_results(study, found)
    return found


def region_sentences(rows: pd.DataFrame) -> list[str]:
    """What `score_regions` found, one sentence a detector and test set."""
    sentences = []
    for row in rows[rows["metric"] == "cam_in_region_excess"].itertuples():
        found = "is not shown to follow the altered region"
        if row.ci_low > 0:
            found = "follows the altered region"
        elif row.ci_high < 0:
            found = "lies elsewhere"
        sentences.append(
            f"{row.model} on {row.test_set}: the heat {found} (share inside minus share in other "
            f"pictures' regions: {row.value:+.3f} [{row.ci_low:+.3f}, {row.ci_high:+.3f}])"
        )
    return sentences


def ring_occlusion(model: keras.Model, spectra, labels, groups, num_rings=16) -> pd.DataFrame:
    """Where in frequency a Fourier detector tells the classes apart: AUC without each ring.

    The ring is replaced by the mean of all given spectra. A drop says that this network, on these
    pictures, rests on that ring, not that generators leave their trace there; no drop does not say
    that the ring is empty, as its neighbours may tell the same.

    Args:
        model: Of `models.build`, trained.
        spectra: Recorded `(N, S, S, 1)` `uint8`, zero frequency at `[S // 2, S // 2]`.
        labels: `(N,)`, fake = 1.
        groups: `(N,)`, the unit of the bootstrap.
        num_rings: Rings of equal width up to 0.5 cycles per pixel; the corners beyond are one more.

    Returns:
        One row a ring: `low`, `high` (cycles per pixel), `auc` with the ring replaced, `drop` (AUC
        undisturbed minus `auc`), and its 95 % interval `ci_low`, `ci_high` (`metrics.compare`).

    Raises:
        ValueError: If the spectra do not fit the model, or as `metrics.compare`.
    """
    spectra = _checked_pixels(model, spectra)
    side = spectra.shape[1]
    if spectra.shape[1:] != (side, side, 1) or not 1 <= num_rings <= side // 2:
        raise ValueError(
            f"Received spectra of shape {spectra.shape} and num_rings={num_rings}; expected "
            "(N, S, S, 1) and 1 to S / 2."
        )
    frequency = (np.arange(side) - side // 2) / side
    radius = np.hypot(frequency[:, None], frequency[None, :])
    # Low < radius <= high; frequency zero is in the first ring.
    ring = np.clip(np.ceil(2 * num_rings * radius) - 1, 0, num_rings)
    mean = np.rint(spectra.mean(axis=0)).astype(np.uint8)

    def scores(chosen):
        batches = np.split(spectra, range(BATCH_SIZE, len(spectra), BATCH_SIZE))
        pieces = [model.predict_on_batch(np.where(chosen, mean, batch)) for batch in batches]
        return np.concatenate(pieces).ravel()

    undisturbed, rows = scores(np.False_), []
    edges = np.append(np.arange(num_rings + 1) / (2 * num_rings), np.sqrt(0.5))
    for number in progress(range(num_rings + 1), "Occluding rings", unit="ring"):
        replaced = scores((ring == number)[..., None])
        drop = intervals.compare(labels, undisturbed, replaced, groups).iloc[0]
        found = drop[["value_second", "value", "ci_low", "ci_high"]]
        rows.append((*edges[number : number + 2], *found))
    return pd.DataFrame(rows, columns=["low", "high", "auc", "drop", "ci_low", "ci_high"])


def _parts(model: keras.Model) -> tuple[keras.Model, list[list[np.ndarray]]]:
    """The extractor, and kernel and bias of each dense layer of the head."""
    parts = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if len(parts) != 2:
        raise _no_chain(model, f"it has {len(parts)} parts")
    extractor, head = parts
    dense = [layer for layer in head.layers if not isinstance(layer, layers.InputLayer)]
    wanted = [keras.activations.relu] * (len(dense) - 1) + [keras.activations.sigmoid]
    found = [getattr(layer, "activation", None) for layer in dense]
    if found != wanted or head.output.shape[1:] != (1,):
        raise _no_chain(model, f"its head is {[type(layer).__name__ for layer in dense]}")
    return extractor, [layer.get_weights() for layer in dense]


def _feature_maps(extractor: keras.Model) -> tuple[keras.Model, bool]:
    """A model from pixels to the map to explain and the pooled map; whether it is averaged."""
    *_, backbone, pooling = extractor.operations
    averaged = isinstance(pooling, layers.GlobalAveragePooling2D)
    if not (averaged or isinstance(pooling, layers.Flatten)) or len(pooling.input.shape) != 4:
        raise _no_chain(extractor, f"it ends with {type(pooling).__name__}")
    if isinstance(backbone, keras.Model) and isinstance(backbone.layers[-1], layers.MaxPooling2D):
        # As in the paper, the map of VGG16 is its last convolution's: max pooling passes each
        # gradient to one place. No layer is called again: that would change the detector.
        both = keras.Model(backbone.input, [backbone.layers[-1].input, backbone.output])
        return keras.Model(extractor.input, both(extractor.operations[-3].output)), averaged
    return keras.Model(extractor.input, [pooling.input, pooling.input]), averaged


def _no_chain(model: keras.Model, found: str) -> ValueError:
    return ValueError(
        f"{model.name} cannot be explained: {found}. Expected a chain, as of `models.build`: an "
        "extractor that ends with global average pooling or flattening of a feature map, and a "
        "head of dense layers (ReLU, at last one sigmoid unit)."
    )


def _logit_and_gradient(dense: list, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The logit of fake `(N,)`, and its gradient with respect to the features `(N, D)`."""
    values, (*hidden, (kernel, bias)) = [features], dense
    for matrix, offset in hidden:
        values.append(np.maximum(values[-1] @ matrix + offset, 0))
    gradient = np.broadcast_to(kernel[:, 0], values[-1].shape)
    for (matrix, _), value in zip(hidden[::-1], values[:0:-1]):
        gradient = (gradient * (value > 0)) @ matrix.T
    return values[-1] @ kernel[:, 0] + bias[0], gradient


def _checked_pixels(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """The pictures, if they are what the model takes."""
    pixels, expected = np.asarray(pixels), tuple(model.input.shape[1:])
    if pixels.dtype != np.uint8 or pixels.shape[1:] != expected or not len(pixels):
        raise ValueError(
            f"{model.name} takes uint8 pictures (N, {', '.join(map(str, expected))}), N > 0; "
            f"received {pixels.dtype}, {pixels.shape}. Prepare them by `scoring.prepare`."
        )
    return pixels


def _covered(heat: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much of each row `(N, H)` and column `(N, W)` the boxes cover."""
    if np.ndim(heat) != 3 or np.shape(boxes) != (len(heat), 4):
        raise ValueError(
            "Expected heat (N, H, W) and boxes (N, 4): left, top, right, bottom; received "
            f"{np.shape(heat)} and {np.shape(boxes)}."
        )
    if not np.isfinite(heat).all() or (heat < 0).any():
        raise ValueError(
            f"Expected finite heat of at least 0, received {heat.min()} to {heat.max()}. Of a "
            "signed map, pass np.maximum(heat, 0)."
        )
    wrong = (boxes[:, :2] > boxes[:, 2:]).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"Expected left <= right and top <= bottom; received {boxes[wrong][0].tolist()}."
        )

    def covered(low, high, num):
        pixel = np.arange(num)
        return np.clip(np.minimum(high * num, pixel + 1) - np.maximum(low * num, pixel), 0, 1)

    left, top, right, bottom = np.asarray(boxes, np.float64).T[..., None]
    return covered(top, bottom, heat.shape[1]), covered(left, right, heat.shape[2])


def _share(heat: np.ndarray, part: np.ndarray) -> np.ndarray:
    """`part` `(N,)` of each picture's heat; NaN where there is none."""
    total = heat.sum(axis=(1, 2), dtype=np.float64)
    return np.divide(part, total, out=np.full(len(heat), np.nan), where=total > 0)
