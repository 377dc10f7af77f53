"""The direct and the Fourier detectors: functions that return a `keras.Model`.

Every detector takes raw pictures (`uint8`) and returns the probability of fake, `(N, 1)` `float32`.
Scaling the pixels is part of the model, so a saved `.keras` file is all that scoring needs.

A detector is a chain of two named models: `extractor` (pixels to a feature vector) and `head`
(feature vector to probability). Where the extractor is frozen, `split_frozen` gives the two, the
head is trained on features computed once, and the full model is saved.
"""

import keras
from keras import layers, ops

from ..config import Network
from ..pictures.spectrum import Spectrum
from . import pretrained
from .autoencoder import build_embedding_classifier
from .pretrained import HED, LITE0

VGG16_WIDTHS = (64, 128, 256, 512, 512)
VGG16_REPEATS = (2, 2, 3, 3, 3)
DENSENET121_BLOCKS = (6, 12, 24, 16)
WEIGHTS = {  # what each backbone may start from
    "vgg16": ("imagenet", HED, None),
    "densenet": ("imagenet", None),
    "efficientnet_lite0": (LITE0, None),
}
# Red, green, blue: `preprocess_input` of `keras.applications.vgg16` and of `densenet`.
CAFFE_MEAN = (123.68, 116.779, 103.939)
TORCH_MEAN, TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(network: Network, image_size: int) -> keras.Model:
    """A detector on pixels, or on spectra that were computed before and recorded as grey pictures.

    Args:
        network: Approach, backbone, head and scaling; see `Network`.
        image_size: Side `S` of the pictures in pixels.

    Returns:
        Model from RGB `(N, S, S, 3)` `uint8` (approach `"fourier"`: spectra `(N, S, S, 1)` `uint8`)
        to the probability of fake `(N, 1)` `float32`, not compiled. Its layers are `extractor` and
        `head`. `with_spectrum` turns a network on spectra into one on pictures.

    Raises:
        ValueError: If the backbone is unknown or cannot start from the weights asked for.
        RuntimeError: If Keras cannot fetch its ImageNet weights.
        ModuleNotFoundError: If the package that carries the weights is not installed.

    Example:
        >>> widths = (2, 2, 2, 2, 2)
        >>> network = Network("x", "vgg16", False, None, 1e-4, 8, 1, weights=None, widths=widths)
        >>> build(network, 32).output.shape
        (None, 1)
    """
    if network.backbone not in WEIGHTS:
        expected = ", ".join(WEIGHTS)
        raise ValueError(f"Received backbone {network.backbone!r}; expected one of {expected}.")
    if network.weights not in WEIGHTS[network.backbone]:
        raise ValueError(
            f"{network.backbone} cannot start from {network.weights!r}; expected one of "
            f"{', '.join(map(repr, WEIGHTS[network.backbone]))}."
        )
    if network.weights in pretrained.FILES:  # a missing package: before a large network is built
        pretrained.weights_file(network.weights)
    num_channels = 1 if network.approach == "fourier" else 3
    image = layers.Input((image_size, image_size, num_channels), dtype="uint8", name="image")
    x = image if num_channels == 3 else ops.repeat(image, 3, axis=-1)
    if network.side is not None:
        x = ops.image.resize(ops.cast(x, "float32"), (network.side, network.side), antialias=True)
    backbone = _backbone(network, network.side or image_size)
    backbone.trainable = not network.frozen  # if not, batch normalisation keeps its averages, too
    x = backbone(_scale(x, network))
    x = layers.GlobalAveragePooling2D()(x) if network.head is None else layers.Flatten()(x)
    extractor = keras.Model(image, x, name="extractor")
    hidden = () if network.head is None else (network.head,)
    return _chain(extractor, build_embedding_classifier(x.shape[-1], hidden), network.name)


def with_spectrum(model: keras.Model) -> keras.Model:
    """Put the spectrum in front of a Fourier detector, so that it takes pictures of any size.

    The picture goes the way of the recorded spectra: `Spectrum` rounded to grey levels, then
    resized bilinearly and rounded again. A level differs from the recorded one by 1 at most.

    Args:
        model: As `build` returns it; its weights are shared, not copied.

    Returns:
        Model from RGB `(N, H, W, 3)` `uint8` of any `H`, `W` to the probability of fake `(N, 1)`.
    """
    side = model.input.shape[1]
    image = layers.Input((None, None, 3), dtype="uint8", name="image")
    spectrum = ops.round(Spectrum(name="spectrum")(image))
    resize = layers.Resizing(side, side, interpolation="bilinear", dtype="float32", name="resize")
    # Halves go up, as in OpenCV's resize.
    levels = ops.cast(ops.floor(resize(spectrum) + 0.5), "uint8")
    return keras.Model(image, model(levels), name=f"{model.name}_on_pictures")


def join(encoder: keras.Model, head: keras.Model, name: str = "detector") -> keras.Model:
    """Chain a frozen feature extractor and a head into one model.

    Args:
        encoder: From `uint8` pictures to features. It is copied: the autoencoder that it belongs to
            stays as it is, and trainable.
        head: From features to the probability of fake.
        name: Name of the model.

    Returns:
        Model from the pictures to the probability of fake.
    """
    extractor = keras.models.clone_model(encoder)
    extractor.set_weights(encoder.get_weights())
    extractor.trainable = False
    return _chain(extractor, head, name)


def split_frozen(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The frozen extractor and the head of a detector; both share their weights with it.

    Args:
        model: Of `build` with a frozen network, or of `join`.

    Returns:
        Extractor (pictures `uint8` → features `(N, D)`) and head (features → probability of fake).

    Raises:
        ValueError: If the model is not a chain of these two, or its extractor is trained.

    Example:
        >>> network = Network("a", "vgg16", True, 4, 1e-3, 8, 1, None, widths=(2, 2, 2, 2, 2))
        >>> extractor, head = split_frozen(build(network, 64))
        >>> extractor.output.shape, head.count_params()
        ((None, 8), 41)
    """
    parts = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if len(parts) != 2:
        raise ValueError(
            f"Received {model.name} with {len(parts)} parts; expected an extractor and a head."
        )
    extractor, head = parts
    if count := len(extractor.trainable_variables):
        raise ValueError(
            f"The extractor of {model.name} is trained ({count} weight arrays): its features "
            "change with every step and cannot be computed once. Train the full model, or build it "
            "with frozen=True."
        )
    return extractor, head


def _chain(extractor: keras.Model, head: keras.Model, name: str) -> keras.Model:
    """One model of two."""
    image = layers.Input(extractor.input.shape[1:], dtype=extractor.input.dtype, name="image")
    return keras.Model(image, head(extractor(image)), name=name)


def _scale(x, network: Network):
    """Pixels as the backbone expects them: in [0, 1] as in the study, or as in its pretraining."""
    if network.scaling == "unit":
        return layers.Rescaling(1 / 255)(x)
    if network.scaling != "imagenet":
        raise ValueError(f"Received scaling {network.scaling!r}; expected 'unit' or 'imagenet'.")
    if network.backbone == "vgg16":  # BGR, each channel centred, not scaled
        mean = pretrained.HED_MEAN if network.weights == HED else CAFFE_MEAN
        return ops.flip(layers.Rescaling(1.0, offset=[-value for value in mean])(x), axis=-1)
    if network.backbone == "densenet":
        scale = [1 / (255 * deviation) for deviation in TORCH_DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(TORCH_MEAN, TORCH_DEVIATION)]
        return layers.Rescaling(scale, offset=offset)(x)
    return layers.Rescaling(1 / 128, offset=-127 / 128)(x)


def _backbone(network: Network, image_size: int) -> keras.Model:
    """The backbone with its initial weights, without top."""
    if network.backbone == "vgg16":
        normalise = network.batch_norm_momentum is not None
        backbone = _vgg16(network.widths, image_size, normalise)
        if network.weights == HED:
            pretrained.load_vgg16(backbone)
        elif network.weights == "imagenet":
            _require(network.widths, VGG16_WIDTHS, "widths")
            backbone.set_weights(_fetch(keras.applications.VGG16).get_weights())
    elif network.backbone == "densenet":
        backbone = _densenet(network.blocks, image_size)
        if network.weights == "imagenet":
            _require(network.blocks, DENSENET121_BLOCKS, "blocks")
            backbone.set_weights(_fetch(keras.applications.DenseNet121).get_weights())
    else:
        backbone = pretrained.efficientnet_lite0(image_size)
        if network.weights == LITE0:
            pretrained.load_efficientnet_lite0(backbone)
    if network.batch_norm_momentum is not None:
        for layer in backbone.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.momentum = network.batch_norm_momentum
    return backbone


def _vgg16(widths: tuple[int, ...], image_size: int, normalise: bool) -> keras.Model:
    """VGG16's convolutions (Simonyan & Zisserman, ICLR 2015), with free widths, named as in Keras.

    Batch normalisation follows each of them if `normalise`.
    """
    image = layers.Input((image_size, image_size, 3), name="pixels")
    x, activation = image, None if normalise else "relu"
    options = {"padding": "same", "activation": activation, "kernel_initializer": "he_normal"}
    for block, (filters, num) in enumerate(zip(widths, VGG16_REPEATS, strict=True), start=1):
        for repeat in range(1, num + 1):
            x = layers.Conv2D(filters, 3, **options, name=f"block{block}_conv{repeat}")(x)
            x = layers.ReLU()(layers.BatchNormalization()(x)) if normalise else x
        x = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    return keras.Model(image, x, name="vgg16")


def _densenet(blocks: tuple[int, ...], image_size: int) -> keras.Model:
    """DenseNet (Huang et al., CVPR 2017) with free block sizes.

    Layers and their names are those of `keras.applications.DenseNet121`: its weights fit in order.
    """

    def activate(x, name):
        x = layers.BatchNormalization(epsilon=1.001e-5, name=f"{name}bn")(x)
        return layers.Activation("relu", name=f"{name}relu")(x)

    def convolve(x, filters, size, name, **options):
        return layers.Conv2D(filters, size, use_bias=False, name=f"{name}conv", **options)(x)

    image = layers.Input((image_size, image_size, 3), name="pixels")
    x = convolve(layers.ZeroPadding2D(3)(image), 64, 7, "conv1_", strides=2)
    x = layers.ZeroPadding2D(1)(activate(x, "conv1_"))
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for stage, num_layers in enumerate(blocks, start=2):
        if stage > 2:
            name = f"pool{stage - 1}_"
            x = convolve(activate(x, name), x.shape[-1] // 2, 1, name)
            x = layers.AveragePooling2D(2, strides=2, name=f"{name}pool")(x)
        for number in range(1, num_layers + 1):
            name = f"conv{stage}_block{number}_"
            new = convolve(activate(x, f"{name}0_"), 128, 1, f"{name}1_")
            new = convolve(activate(new, f"{name}1_"), 32, 3, f"{name}2_", padding="same")
            x = layers.Concatenate(name=f"{name}concat")([x, new])
    return keras.Model(image, activate(x, ""), name="densenet")


def _require(received: tuple[int, ...], expected: tuple[int, ...], field: str) -> None:
    """Pretrained weights fit one size of network only."""
    if tuple(received) != expected:
        raise ValueError(
            f"ImageNet weights fit {field}={expected}; received {tuple(received)}. "
            "Use weights=None."
        )


def _fetch(application) -> keras.Model:
    """A Keras application with its ImageNet weights, or an error that says how to get them."""
    try:
        return application(weights="imagenet", include_top=False)
    except Exception as error:  # Keras raises a bare Exception when the address cannot be reached
        raise RuntimeError(
            f"Keras could not fetch the ImageNet weights of {application.__name__}: {error}\n"
            "With a connection they are fetched once and kept in ~/.keras/models; a copy of that "
            "folder from another machine does as well. Without one, take a network whose weights "
            f"come from a package: {HED!r} for vgg16, {LITE0!r} for efficientnet_lite0."
        ) from error
