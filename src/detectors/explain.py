"""Where a detector looks: Grad-CAM and occlusion on pictures, ring occlusion on spectra.

Maps show where evidence was found, not why it is evidence. The gradient through a detector's head
has a closed form, so no backend's automatic differentiation is needed.
"""

from dataclasses import replace
from itertools import product

import cv2
import keras
import numpy as np
import pandas as pd
from keras import layers

from ..config import Network, Study
from ..data import catalog
from ..data.sources import altered_boxes
from ..evaluation import intervals
from ..evaluation.results import DETECTOR_KEYS, RESULT_COLUMNS, write_results
from ..files import progress
from ..pictures.batches import Batches
from . import models, scoring
from .training import BATCH_SIZE, read_card, shared


def grad_cam(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Grad-CAM for the class fake: where the last feature map speaks for it, enlarged bilinearly.

    `ReLU(sum_k a_k A_k)`, where `A_k` is a channel of the map and `a_k` the mean over all places of
    the gradient of fake's logit (Selvaraju et al., "Grad-CAM", ICCV 2017).

    Args:
        model: Of `models.build`, or another chain of an extractor that pools or flattens a feature
            map, and a head of dense layers: ReLU, then one sigmoid unit. Else a `ValueError`.
        pixels: `(N, H, W, C)` `uint8`, as the model takes them.

    Returns:
        `(N, H, W)` `float32`, at least 0, not normalised; all 0 if no place speaks for fake.
    """
    extractor, dense = _parts(model)
    maps, averaged = _feature_maps(extractor)
    batches = Batches(pixels, batch_size=BATCH_SIZE, shuffle=False)
    found = shared(maps).predict(batches.feed(), verbose=0)
    places, last = (np.asarray(each, np.float32) for each in found)
    features = last.mean(axis=(1, 2)) if averaged else last.reshape(len(last), -1)
    _, gradient = _logit_and_gradient(dense, features)
    if not averaged:
        gradient = gradient.reshape(len(last), -1, last.shape[-1]).sum(axis=1)  # over all places
    weights = gradient / np.prod(places.shape[1:3])
    heat = np.maximum(np.einsum("nhwk,nk->nhw", places, weights), 0)
    return np.array([cv2.resize(picture, pixels.shape[2:0:-1]) for picture in heat], np.float32)


def occlusion(model: keras.Model, pixels: np.ndarray, *, patch: int, stride: int) -> np.ndarray:
    """How much the logit of fake falls when a square is covered with the picture's mean colour.

    Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014. The squares
    have `patch` pixels a side and begin `stride` pixels apart; `stride` must not exceed `patch`.

    Returns:
        `(N, H, W)` `float32` for pixels `(N, H, W, C)` `uint8`: the mean fall, in units of the
        logit, over the squares that cover a pixel. Negative where covering raises the logit.
    """
    extractor, dense = _parts(model)
    extractor = shared(extractor)
    colors = np.rint(pixels.mean(axis=(1, 2), keepdims=True)).astype(np.uint8)
    tops, lefts = (  # the last squares end with the picture
        [*range(0, side - patch, stride), side - patch] for side in pixels.shape[1:3]
    )

    def logit(shown):
        features = np.asarray(extractor.predict_on_batch(shown), np.float32)
        return _logit_and_gradient(dense, features)[0]

    undisturbed, heat = logit(pixels), np.zeros(pixels.shape[:3], np.float32)
    counts = np.zeros_like(heat)
    for top, left in progress(list(product(tops, lefts)), "Occlusion", unit="square"):
        square, covered = np.s_[:, top : top + patch, left : left + patch], pixels.copy()
        covered[square] = colors
        heat[square] += (undisturbed - logit(covered))[:, None, None]
        counts[square] += 1
    return heat / counts


def share_inside(heat: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Share of the heat inside a box; pixels that the box cuts count by area.

    Args:
        heat: `(N, H, W)`, at least 0, else a `ValueError`; of `occlusion`, `np.maximum(heat, 0)`.
        boxes: `(N, 4)`, left, top, right, bottom as fractions of the picture, clipped to it.

    Returns:
        `(N,)` in `[0, 1]`; NaN where there is no heat or the box is NaN.

    Example:
        >>> share_inside(np.ones((1, 2, 4)), np.array([[0.0, 0.0, 0.25, 0.75]])).tolist()
        [0.1875]
    """
    rows, columns = _covered(heat, boxes)
    return _share(heat, np.einsum("nhw,nh,nw->n", heat, rows, columns))


def share_elsewhere(heat: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Mean share of each picture's heat in the other pictures' boxes; NaN where a share is NaN.

    Faces lie in the middle. A detector that always looks there has more heat in the altered regions
    than their area, without having found one; but it has as much in the other pictures' boxes.
    """
    rows, columns = _covered(heat, boxes)
    num_others = np.isfinite(boxes).all(axis=1).sum() - 1
    all_boxes = np.nan_to_num(rows).T @ np.nan_to_num(columns)
    everywhere = _share(heat, np.einsum("nhw,hw->n", heat, all_boxes))
    return (everywhere - share_inside(heat, boxes)) / (num_others if num_others > 0 else np.nan)


def altered_pictures(study: Study, records: pd.DataFrame, network: Network) -> scoring.Pictures:
    """The test fakes whose altered region is known, prepared under `controlled` for a network.

    One that averages over places can look at more than the middle that it was trained on: it gets
    whole pictures, at the same scale (see `models.resized`). If no region is known: six fakes of
    the training set.
    """
    size = study.image_size
    if network.view == "centre" and network.head is None:
        size = study.square_size
    last = scoring.last_steps(replace(study, image_size=size), network.approach, network.view)
    table = catalog.task_steps(study, records, "controlled", last)
    table = table[(table["split"] == "test") & (table["label"] == "fake")]
    table = table[table["task"].isin([*study.test_sets, *study.aligned])]
    known = np.isfinite(altered_boxes(study, table)).all(axis=1)
    if not known.any():
        table, known = table[table["task"].isin(study.train_sets)], slice(6)
    return scoring.prepared(study, "controlled", table[known])


def score_regions(pictures: scoring.Pictures, detectors: dict[str, keras.Model]) -> pd.DataFrame:
    """Whether each detector's heat lies in the altered regions; writes the result rows.

    `pictures` are `altered_pictures`. For each test set with heat and known regions, which are not
    the same in all pictures, in at least two groups: `cam_in_region`, `cam_in_region_chance` (the
    region's area), `cam_in_region_elsewhere` and `cam_in_region_excess` (inside − elsewhere: above
    0 if the heat follows the region).
    """
    study, table = pictures.study, pictures.table
    table, boxes, found = table.assign(place=range(len(table))), altered_boxes(study, table), []
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
            if used["group"].nunique() < 2 or np.ptp(boxes[used["place"]], axis=0).max() < 1e-6:
                continue  # of one region for all, nothing tells who follows it
            same = {key: card[key] for key in DETECTOR_KEYS}
            same |= used.iloc[0][["test_set", "real_source"]].to_dict()
            same |= {"num_real": 0, "num_fake": len(used), "num_seeds": 1}
            same["num_groups"] = used["group"].nunique()
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
    return sentences or ["No test set has altered regions that differ from picture to picture."]


def ring_occlusion(model: keras.Model, spectra, labels, groups, num_rings=16) -> pd.DataFrame:
    """Where in frequency a Fourier detector tells the classes apart: AUC without each ring.

    The ring is replaced by the mean of all given spectra. A drop shows that this network uses that
    ring on these pictures, not that generators leave their trace there. No drop does not show that
    the ring is empty: its neighbours may hold the same trace.

    Args:
        model: Of `models.build`.
        spectra: Recorded `(N, S, S, 1)` `uint8`, zero frequency at `[S // 2, S // 2]`.
        labels, groups: `(N,)`, fake = 1.
        num_rings: Of equal width up to 0.5 cycles per pixel; the corners beyond are one more.

    Returns:
        One row a ring: `low`, `high` (cycles per pixel), `auc` without it, `drop` (the AUC with all
        rings minus `auc`), and the drop's 95 % interval `ci_low`, `ci_high`.
    """
    side = spectra.shape[1]
    frequency = (np.arange(side) - side // 2) / side
    radius = np.hypot(frequency[:, None], frequency[None, :])
    # Low < radius <= high; frequency zero is in the first ring.
    ring = np.clip(np.ceil(2 * num_rings * radius) - 1, 0, num_rings)
    mean, copy = np.rint(spectra.mean(axis=0)).astype(np.uint8), shared(model)

    def scores(chosen):
        shown = np.where(chosen, mean, spectra)
        return copy.predict(Batches(shown, shuffle=False).feed(), verbose=0).ravel()

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
    extractor, head = models.parts(model)
    return extractor, [layer.get_weights() for layer in head.layers[1:]]


def _feature_maps(extractor: keras.Model) -> tuple[keras.Model, bool]:
    """A model from pixels to the map to explain and the pooled map; whether pooling averages."""
    *_, backbone, pooling = extractor.operations
    averaged = isinstance(pooling, layers.GlobalAveragePooling2D)
    if not (averaged or isinstance(pooling, layers.Flatten)):
        raise ValueError(
            f"Received an extractor that ends with {type(pooling).__name__}; expected one that "
            "averages or flattens a feature map, as of `models.build`."
        )
    if isinstance(backbone, keras.Model) and isinstance(backbone.layers[-1], layers.MaxPooling2D):
        # As in the paper, the map of VGG16 is its last convolution's: max pooling passes each
        # gradient to one place. No layer is called again: that would change the detector.
        both = keras.Model(backbone.input, [backbone.layers[-1].input, backbone.output])
        return keras.Model(extractor.input, both(extractor.operations[-3].output)), averaged
    return keras.Model(extractor.input, [pooling.input, pooling.input]), averaged


def _logit_and_gradient(dense: list, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The logit of fake `(N,)`, and its gradient with respect to the features `(N, D)`."""
    values, (*hidden, (kernel, bias)) = [features], dense
    for matrix, offset in hidden:
        values.append(np.maximum(values[-1] @ matrix + offset, 0))
    gradient = np.broadcast_to(kernel[:, 0], values[-1].shape)
    for (matrix, _), value in zip(hidden[::-1], values[:0:-1]):
        gradient = (gradient * (value > 0)) @ matrix.T
    return values[-1] @ kernel[:, 0] + bias[0], gradient


def _covered(heat: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much of each row `(N, H)` and column `(N, W)` the boxes cover."""
    if (heat < 0).any():
        raise ValueError("Expected heat of at least 0: of a signed map, pass np.maximum(heat, 0).")

    def covered(low, high, num):
        pixel = np.arange(num)
        return np.clip(np.minimum(high * num, pixel + 1) - np.maximum(low * num, pixel), 0, 1)

    left, top, right, bottom = np.asarray(boxes, np.float64).T[..., None]
    return covered(top, bottom, heat.shape[1]), covered(left, right, heat.shape[2])


def _share(heat: np.ndarray, part: np.ndarray) -> np.ndarray:
    """`part` `(N,)` of each picture's heat; NaN where there is none."""
    total = heat.sum(axis=(1, 2), dtype=np.float64)
    return part / np.where(total > 0, total, np.nan)
