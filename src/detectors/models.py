"""The detectors and the autoencoder: functions that return a `keras.Model`.

Every detector takes raw RGB pictures (`uint8`) and returns the probability of fake, `(N, 1)` `float32`. Scaling of
the pixels is part of the model, so a saved `.keras` file is all that scoring a picture needs.

A detector is a chain of two named parts: `extractor` (pixels to a feature vector) and `head` (feature vector to
probability). Where the extractor is frozen, `split_frozen` gives the parts, the head is trained on features
computed once, and the chain is saved whole.
"""

import keras
from keras import layers, ops

# Keras publishes DenseNet only as 121, 169 and 201; its builder with free block sizes is not part of the public API.
from keras.src.applications.densenet import DenseNet

from ..config import Autoencoder, Network
from ..pictures.spectrum import Spectrum
from .pretrained import (
    FILES,
    HED,
    HED_MEAN,
    LITE0,
    efficientnet_lite0,
    load_efficientnet_lite0,
    load_vgg16,
    weights_file,
)

VGG16_WIDTHS = (64, 128, 256, 512, 512)
VGG16_REPEATS = (2, 2, 3, 3, 3)
DENSENET121_BLOCKS = (6, 12, 24, 16)
WEIGHTS = {
    "vgg16": ("imagenet", HED, None),
    "densenet": ("imagenet", None),
    "efficientnet_lite0": (LITE0, None),
}
CAFFE_MEAN = (
    123.68,
    116.779,
    103.939,
)  # red, green, blue; `keras.applications.vgg16.preprocess_input`
TORCH_MEAN, TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # likewise of densenet


def build(network: Network, image_size: int) -> keras.Model:
    """A detector on pixels, or on spectra that were computed before and recorded as grey pictures.

    Args:
        network: Approach, backbone, head and scaling; see `Network`.
        image_size: Side `S` of the pictures in pixels.

    Returns:
        Model from RGB `(N, S, S, 3)` `uint8` (approach `"fourier"`: spectra `(N, S, S, 1)` `uint8`) to the probability
        of fake `(N, 1)` `float32`, not compiled. Its layers are `extractor` and `head`. `with_spectrum` turns a
        network on spectra into one on pictures.

    Raises:
        ValueError: If the backbone is unknown or cannot start from the weights asked for.
        RuntimeError: If Keras cannot fetch its ImageNet weights.
        ModuleNotFoundError: If the package that carries the weights is not installed.

    Example:
        >>> network = Network("tiny", "vgg16", False, None, 1e-4, 8, 1, weights=None, widths=(2, 2, 2, 2, 2))
        >>> build(network, 32).output.shape
        (None, 1)
    """
    return _detector(network, image_size, num_channels=1 if network.approach == "fourier" else 3)


def with_spectrum(model: keras.Model) -> keras.Model:
    """Put the spectrum in front of a Fourier detector, so that it takes pictures of any size.

    The picture goes the way of the recorded spectra: `Spectrum` rounded to grey levels, then resized bilinearly
    and rounded again. A resized level differs from the recorded one by 1 at most.

    Args:
        model: As `build` returns it; its weights are shared, not copied.

    Returns:
        Model from RGB `(N, H, W, 3)` `uint8` of any `H`, `W` to the probability of fake `(N, 1)` `float32`.
    """
    side = model.input.shape[1]
    image = layers.Input((None, None, 3), dtype="uint8", name="image")
    spectrum = ops.round(Spectrum(name="spectrum")(image))
    spectrum = layers.Resizing(
        side, side, interpolation="bilinear", dtype="float32", name="resize"
    )(spectrum)
    levels = ops.cast(ops.floor(spectrum + 0.5), "uint8")  # halves go up, as in OpenCV's resize
    return keras.Model(image, model(levels), name=f"{model.name}_on_pictures")


def build_autoencoder(config: Autoencoder, face_size: int) -> keras.Model:
    """The study's autoencoder.

    Args:
        config: Filters of the encoder and length of the latent vector.
        face_size: Side `S` of the faces in pixels.

    Returns:
        Model from RGB faces `(N, S, S, 3)` `uint8` to reconstructions `(N, S, S, 3)` `float32` in `[0, 1]`. Its
        layers `encoder` (faces `uint8` → `(N, latent)`) and `decoder` are models themselves.

    Raises:
        ValueError: If the faces cannot be halved once for every convolution.
    """
    if face_size % 2 ** len(config.filters):
        expected = f"a multiple of {2 ** len(config.filters)}"
        raise ValueError(
            f"Received face_size={face_size}; {len(config.filters)} halvings need {expected}."
        )

    def activate(x):
        return layers.BatchNormalization()(layers.LeakyReLU(negative_slope=0.2)(x))

    face = layers.Input((face_size, face_size, 3), dtype="uint8", name="face")
    x = layers.Rescaling(1 / 255)(face)
    for filters in config.filters:
        x = activate(layers.Conv2D(filters, 3, strides=2, padding="same")(x))
    grid = x.shape[1:]
    latent = layers.Dense(config.latent, name="latent")(layers.Flatten()(x))
    encoder = keras.Model(face, latent, name="encoder")

    code = layers.Input((config.latent,), name="code")
    x = layers.Reshape(grid)(layers.Dense(grid[0] * grid[1] * grid[2])(code))
    for filters in reversed(config.filters):
        x = activate(layers.Conv2DTranspose(filters, 3, strides=2, padding="same")(x))
    x = layers.Conv2DTranspose(3, 3, padding="same")(x)
    decoder = keras.Model(code, layers.Activation("sigmoid", dtype="float32")(x), name="decoder")

    face = layers.Input((face_size, face_size, 3), dtype="uint8", name="face")
    return keras.Model(face, decoder(encoder(face)), name="autoencoder")


def build_embedding_classifier(latent: int, hidden: tuple[int, ...] = (1024, 64)) -> keras.Model:
    """A classifier on embeddings: dense layers, then one sigmoid unit.

    Args:
        latent: Length of an embedding.
        hidden: Units of the dense layers; `()` is the single unit of the study's report, the default its notebook.

    Returns:
        Model named `head` from `(N, latent)` `float32` to the probability of fake `(N, 1)` `float32`.

    Example:
        >>> build_embedding_classifier(2048).count_params()
        2163841
    """
    features = layers.Input((latent,), name="features")
    x = features
    for units in hidden:
        x = layers.Dense(units, activation="relu")(x)
    # Under mixed precision, too, a probability near 1 needs single precision.
    return keras.Model(
        features, layers.Dense(1, activation="sigmoid", dtype="float32")(x), name="head"
    )


def join(frozen_part: keras.Model, head: keras.Model, name: str = "detector") -> keras.Model:
    """Chain a frozen feature extractor and a head into one model.

    Args:
        frozen_part: From `uint8` pictures to features, for example the autoencoder's `encoder`. It is copied: the
            autoencoder itself stays as it is, and trainable.
        head: From features to the probability of fake.
        name: Name of the model.

    Returns:
        Model from the pictures to the probability of fake.
    """
    extractor = keras.models.clone_model(frozen_part)
    extractor.set_weights(frozen_part.get_weights())
    extractor.trainable = False
    return _chain(extractor, head, name)


def split_frozen(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The frozen extractor and the head of a detector; both share their weights with it.

    Args:
        model: Of `build` or `build` with a frozen network, or of `join`.

    Returns:
        Extractor (pictures `uint8` → features `(N, D)` `float32`) and head (features → probability of fake).

    Raises:
        ValueError: If the model is not a chain of these two, or its extractor is trained.

    Example:
        >>> network = Network("tiny", "vgg16", True, 4, 1e-3, 8, 1, weights=None, widths=(2, 2, 2, 2, 2))
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
    if extractor.trainable_variables:
        count = len(extractor.trainable_variables)
        raise ValueError(
            f"The extractor of {model.name} is trained ({count} weight arrays): its features change with every "
            "step and cannot be computed once. Train the whole model, or build it with frozen=True."
        )
    return extractor, head


def _detector(network: Network, image_size: int, num_channels: int) -> keras.Model:
    """Scaling, backbone and pooling as `extractor`, then the dense layers as `head`."""
    if network.backbone not in WEIGHTS:
        raise ValueError(
            f"Received backbone {network.backbone!r}; expected one of {', '.join(WEIGHTS)}."
        )
    if network.weights not in WEIGHTS[network.backbone]:
        expected = ", ".join(map(repr, WEIGHTS[network.backbone]))
        raise ValueError(
            f"{network.backbone} cannot start from {network.weights!r}; expected one of {expected}."
        )
    if network.weights in FILES:
        weights_file(network.weights)  # if it is missing, say so before a large network is built
    image = layers.Input((image_size, image_size, num_channels), dtype="uint8", name="image")
    x = image if num_channels == 3 else ops.repeat(image, 3, axis=-1)
    if network.side is not None:
        x = ops.image.resize(ops.cast(x, "float32"), (network.side, network.side), antialias=True)
    backbone = _backbone(network, network.side or image_size)
    backbone.trainable = (
        not network.frozen
    )  # not trainable: batch normalisation keeps its averages, too
    x = backbone(_scale(x, network))
    x = layers.GlobalAveragePooling2D()(x) if network.head is None else layers.Flatten()(x)
    extractor = keras.Model(image, x, name="extractor")
    hidden = () if network.head is None else (network.head,)
    return _chain(extractor, build_embedding_classifier(x.shape[-1], hidden), network.name)


def _chain(extractor: keras.Model, head: keras.Model, name: str) -> keras.Model:
    """One model of two."""
    image = layers.Input(extractor.input.shape[1:], dtype=extractor.input.dtype, name="image")
    return keras.Model(image, head(extractor(image)), name=name)


def _scale(x, network: Network):
    """Pixels to what the backbone is fed: [0, 1] as in the study, or what its weights were trained on."""
    if network.scaling == "unit":
        return layers.Rescaling(1 / 255)(x)
    if network.scaling != "imagenet":
        raise ValueError(f"Received scaling {network.scaling!r}; expected 'unit' or 'imagenet'.")
    if network.backbone == "vgg16":  # BGR, each channel centred, not scaled
        mean = HED_MEAN if network.weights == HED else CAFFE_MEAN
        return ops.flip(layers.Rescaling(1.0, offset=[-value for value in mean])(x), axis=-1)
    if network.backbone == "densenet":
        scale = [1 / (255 * deviation) for deviation in TORCH_DEVIATION]
        return layers.Rescaling(
            scale, offset=[-m / d for m, d in zip(TORCH_MEAN, TORCH_DEVIATION)]
        )(x)
    return layers.Rescaling(1 / 128, offset=-127 / 128)(x)


def _backbone(network: Network, image_size: int) -> keras.Model:
    """The backbone with its initial weights, without top."""
    if network.backbone == "vgg16":
        backbone = _vgg16(
            network.widths, image_size, normalise=network.batch_norm_momentum is not None
        )
        if network.weights == HED:
            load_vgg16(backbone)
        elif network.weights == "imagenet":
            _require(network.widths, VGG16_WIDTHS, "widths")
            backbone.set_weights(_fetch(keras.applications.VGG16).get_weights())
    elif network.backbone == "densenet":
        shape = (image_size, image_size, 3)
        backbone = DenseNet(
            list(network.blocks), include_top=False, weights=None, input_shape=shape
        )
        if network.weights == "imagenet":
            _require(network.blocks, DENSENET121_BLOCKS, "blocks")
            backbone.set_weights(_fetch(keras.applications.DenseNet121).get_weights())
    else:
        backbone = efficientnet_lite0(image_size)
        if network.weights == LITE0:
            load_efficientnet_lite0(backbone)
    if network.batch_norm_momentum is not None:
        for layer in backbone.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.momentum = network.batch_norm_momentum
    return backbone


def _vgg16(widths: tuple[int, ...], image_size: int, normalise: bool) -> keras.Model:
    """VGG16's convolutions (Simonyan & Zisserman, ICLR 2015) with free widths, named as Keras names them, perhaps
    with batch normalisation after each."""
    image = layers.Input((image_size, image_size, 3), name="pixels")
    x = image
    for block, (filters, num_repeats) in enumerate(
        zip(widths, VGG16_REPEATS, strict=True), start=1
    ):
        for repeat in range(1, num_repeats + 1):
            name = f"block{block}_conv{repeat}"
            options = {"padding": "same", "kernel_initializer": "he_normal", "name": name}
            x = layers.Conv2D(filters, 3, activation=None if normalise else "relu", **options)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x)) if normalise else x
        x = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    return keras.Model(image, x, name="vgg16")


def _require(received: tuple[int, ...], expected: tuple[int, ...], field: str) -> None:
    """Pretrained weights fit one size of network only."""
    if tuple(received) != expected:
        raise ValueError(
            f"ImageNet weights fit {field}={expected}; received {tuple(received)}. Use weights=None."
        )


def _fetch(application) -> keras.Model:
    """A Keras application with its ImageNet weights, or an error that says how to get them."""
    try:
        return application(weights="imagenet", include_top=False)
    except Exception as error:  # Keras raises a bare Exception when the address cannot be reached
        raise RuntimeError(
            f"Keras could not fetch the ImageNet weights of {application.__name__}: {error}\n"
            "With a connection they are fetched once and kept in ~/.keras/models; a copy of that folder from another "
            f"machine does as well. Without one, take a network whose weights come from a package: {HED!r} for "
            f"vgg16, {LITE0!r} for efficientnet_lite0."
        ) from error
