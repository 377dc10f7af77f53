"""Trained detectors beyond the study's: other ways to learn, other views, several as one.

Notebook 7 trains them under `controlled`. `python -m src.detectors.variants` trains them under
`report`, too, and the notebook then shows both.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pandas as pd
from keras import layers, ops
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from src import setup

from ..config import Network, Study
from ..data import catalog
from ..evaluation import comparisons, metrics, results
from ..pictures.spectrum import Spectrum
from . import beyond, extended, models, scoring, training

DELIVERED, KEPT, BRANCHES = "Beyond_delivered", "Beyond_kept", "Beyond_two_branches"
CROPS = "Beyond_crops"
NEIGHBOURS, SPECTRUM = f"{CROPS}_neighbours", f"{CROPS}_spectrum"
FUSION = "Beyond_fusion"
_KEPT_SHARE = 0.9  # of the singular directions of a layer


class KeepLeading(keras.constraints.Constraint):
    """Holds a kernel's leading singular directions at their start; only the others are trained.

    After Yan et al., "Orthogonal subspace decomposition for generalizable AI-generated image
    detection", ICML 2025: the leading directions hold what a network knows about pictures.
    """

    def __init__(self, kernel: np.ndarray, share: float = _KEPT_SHARE):
        self.start = kernel.reshape(-1, kernel.shape[-1])
        left, values, right = np.linalg.svd(self.start, full_matrices=False)
        number = round(share * len(values))
        self.left, self.right = left[:, :number], right[:number]

    def __eq__(self, other):
        is_one = isinstance(other, KeepLeading) and self.left.shape == other.left.shape
        return is_one and np.array_equal(self.start, other.start)

    def __hash__(self):
        return hash(self.start.tobytes())

    def __call__(self, kernel):
        """The kernel without its changes along the leading directions."""
        change = ops.reshape(kernel, self.start.shape) - self.start
        change -= ops.matmul(self.left, ops.matmul(self.left.T, change))
        change -= ops.matmul(ops.matmul(change, self.right.T), self.right)
        return ops.reshape(self.start + change, kernel.shape)


def build_kept(network: Network, image_size: int) -> keras.Model:
    """As `models.build`, with `KeepLeading` on convolutions; depthwise ones are frozen."""
    model = models.build(network, image_size)
    for layer in models.parts(model)[0].get_layer(network.backbone).layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            layer.trainable = False
        elif isinstance(layer, layers.Conv2D):
            layer.kernel.constraint = KeepLeading(ops.convert_to_numpy(layer.kernel))
    return model


def half_delivered(
    study: Study, records: pd.DataFrame, protocol: str, network: Network
) -> scoring.Pictures:
    """The pictures under a protocol; half of those trained on, drawn by path, were delivered.

    Delivered pictures are blurred before `beyond.delivery`, as in Wang et al., CVPR 2020.
    """
    last = scoring.last_steps(study, network.approach, network.view)

    def delivered(path: str) -> tuple[str, ...]:
        blur = 1 + 2 * int(9 * catalog.unit_interval(f"blur of {path}"))  # kernels of 1 to 17
        return f"blur:{blur}", *beyond.delivery(path, study.detail_size), *last

    of = study, records, protocol
    plain, varied = catalog.task_steps(*of, last), catalog.task_steps(*of, delivered)
    learnt = (plain["split"] == "train") & plain["task"].isin(study.train_sets)
    drawn = plain["path"].map(catalog.unit_interval) < 0.5
    steps = plain["steps"].mask(learnt & drawn, varied["steps"])
    return scoring.prepared(study, protocol, plain.assign(steps=steps))


def neighbours(image):
    """Differences of neighbouring pixels: 128 + 4 × (pixel − the first of its 2 × 2), clipped.

    After Tan et al., "Rethinking the up-sampling operations in CNN-based generative network for
    generalizable deepfake detection", CVPR 2024. Height and width must be even.
    """
    pixels = ops.cast(image, "float32")
    first = ops.repeat(ops.repeat(pixels[:, ::2, ::2], 2, axis=1), 2, axis=2)
    return ops.clip(128 + 4 * (pixels - first), 0, 255)


def spectrum(image):
    """The picture's spectrum in place of each colour."""
    return ops.repeat(ops.round(Spectrum(name="transform")(image)), 3, axis=-1)


def build_on_crops(network: Network, image_size: int, change=None) -> keras.Model:
    """As `models.build`, on crops of half the size, perhaps changed; scored by `on_quarters`."""
    size = image_size // 2
    model = models.build(network, size)
    if change:
        extractor, head = models.parts(model)
        image = layers.Input(extractor.input.shape[1:], dtype="uint8", name="image")
        changed = keras.Model(image, extractor(ops.cast(change(image), "uint8")), name="extractor")
        model = models.chain(changed, head, network.name)
    return models.on_quarters(model)


def build_two_branches(network: Network, fourier: Network, image_size: int) -> keras.Model:
    """One detector that sees pixels with one network, their spectrum with another."""
    image = layers.Input((image_size, image_size, 3), dtype="uint8", name="image")
    transformed = ops.cast(ops.round(Spectrum(name="transform")(image)), "uint8")
    shown = {"pixels": image, "spectrum": transformed}
    features = []
    for name, each in zip(shown, (network, fourier)):
        branch = models.parts(models.build(each, image_size))[0]
        features.append(keras.Model(branch.input, branch.output, name=name)(shown[name]))
    both = layers.Concatenate()(features)
    head = models.build_embedding_classifier(both.shape[-1], ())
    return models.chain(keras.Model(image, both, name="extractor"), head, network.name)


def plain_networks(study: Study) -> dict[str, Network]:
    """The variants of `train_variants`, and what each is a variant of."""
    dense = next(each for each in study.direct if each.backbone == "densenet")
    on_crops = dict.fromkeys((NEIGHBOURS, SPECTRUM), replace(dense, name=CROPS, view="crops"))
    return dict.fromkeys((DELIVERED, KEPT, BRANCHES), study.direct[-1]) | {CROPS: dense} | on_crops


def train_variants(
    study: Study, records: pd.DataFrame, protocol: str = "controlled"
) -> pd.DataFrame:
    """Trains variants of two of the study's networks with all of its seeds, for its `test_sets`.

    Of the last of `study.direct`: `Beyond_delivered` learns from `half_delivered`, `Beyond_kept`
    only what `build_kept` leaves free, `Beyond_two_branches` sees the spectrum, too. Of its first
    DenseNet, on random crops (view `"crops"`): `Beyond_crops` sees pixels,
    `Beyond_crops_neighbours` the differences of `neighbours`, `Beyond_crops_spectrum` spectra.
    Writes scores and rows of `results.csv`; returns the means over the seeds, as
    `results.write_seed_means`.
    """
    builders = {
        KEPT: build_kept,
        BRANCHES: lambda network, size: build_two_branches(network, study.fourier, size),
        CROPS: build_on_crops,
        NEIGHBOURS: partial(build_on_crops, change=neighbours),
        SPECTRUM: partial(build_on_crops, change=spectrum),
    }
    study, rows = catalog.without_other_tests(study), []
    for name, network in plain_networks(study).items():
        if name == CROPS:
            network = replace(network, view="crops")
        if name == DELIVERED:
            pictures = half_delivered(study, records, protocol, network)
        else:
            way = study, records, protocol, network.approach
            pictures = scoring.prepare(*way, view=network.view)
        way = replace(network, name=name), pictures, records, builders.get(name, models.build)
        rows.append(extended.train_all_seeds(*way))
    return pd.concat(rows, ignore_index=True)


def fuse(study: Study, names: Sequence[str], protocol: str) -> pd.DataFrame:
    """Several detectors as one: a logistic regression on their logits, fitted on validation.

    Writes the scores of `Beyond_fusion`, and its rows of `results.csv`. Returns, as
    `comparisons.differences`, how far it is above the one with the highest AUC on validation.
    """
    frames = [results.read_scores(study, results.model_id(name, protocol)) for name in names]
    keys = [name for name in results.SCORE_COLUMNS if name != "score"]
    scores = [frame.set_index(keys)["score"] for frame in frames]
    table = pd.concat(scores, axis=1, join="inner", keys=names).reset_index()
    x = logit(table[[*names]].clip(metrics.CLIP, 1 - metrics.CLIP))
    valid = results.validation_rows(table, study.train_set)
    model = LogisticRegression(C=np.inf).fit(x.loc[valid.index], valid["label"])
    best = max(names, key=lambda name: roc_auc_score(valid["label"], valid[name]))
    told = table.assign(label=np.where(table["label"] == 1, "fake", "real"))
    results.score_baseline(study, told, model.predict_proba(x)[:, 1], "fusion", FUSION, protocol)
    pair = [results.model_id(name, protocol) for name in (FUSION, best)]
    return comparisons.differences(study, [pair])


def costs(study: Study, names: Sequence[str]) -> pd.DataFrame:
    """What views and trained detectors cost: a row for each.

    `parameters`; `images_per_second`, the median of three runs over 64 blank pictures; and
    `minutes_of_training`, of one training under `controlled` (0 for a view: nothing in it learns).
    """
    ways = {view: (beyond.build_extractor(study, [view]), 0.0) for view in beyond.VIEWS}
    for name in names:
        stem = study.models / results.model_id(name, "controlled")
        seconds = pd.read_csv(f"{stem}.history.csv")["seconds"].sum()
        ways[name] = keras.models.load_model(f"{stem}.keras", compile=False), seconds / 60
    rows = {}
    for name, (model, minutes) in ways.items():
        copy = training.shared(model)
        sample, times = np.zeros((64, *model.input.shape[1:]), np.uint8), []
        for _ in range(4):  # the first also compiles
            start = time.perf_counter()
            for part in np.split(sample, 4):
                copy.predict_on_batch(part)
            times.append(time.perf_counter() - start)
        rows[name] = model.count_params(), len(sample) / np.median(times[1:]), minutes
    columns = ["parameters", "images_per_second", "minutes_of_training"]
    return pd.DataFrame.from_dict(rows, "index", columns=columns)


def main() -> None:
    """Trains and scores under `report` what is not done yet, for the study named in `STUDY`."""
    study = setup()
    train_variants(study, catalog.load(study), "report")
    print("Done. Notebook 07 shows it.")


if __name__ == "__main__":
    main()
