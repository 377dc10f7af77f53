"""The magnitude spectrum of a picture: with NumPy, and as a Keras layer equal to it.

Upsampling in a generator leaves regular traces, seen in the Fourier domain (Durall et al.,
"Watch your Up-Convolution", CVPR 2020).
"""

import cv2
import keras
import numpy as np
from keras import ops

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # red, green, blue; Rec. ITU-R BT.601
EPSILON = 1e-8
FLAT = 1e-3  # a spectrum that spans less counts as flat: the rest is rounding


def magnitude_spectrum(image: np.ndarray) -> np.ndarray:
    """Log-magnitude of the centred 2-D Fourier transform of the grey levels.

    Args:
        image: RGB `(H, W, 3)` or grey `(H, W)`, `uint8` or float, `0..255`.

    Returns:
        `(H, W)` `float32`, `20 ln(|F| + 1e-8)`; the zero frequency lies at `[H // 2, W // 2]`.

    Raises:
        ValueError: If the picture has another shape, or no pixel.

    Example:
        >>> magnitude_spectrum(np.full((4, 6), 10, "uint8"))[2, 3].round(2)  # 20 ln 240
        np.float32(109.61)
    """
    if not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3) or image.size == 0:
        raise ValueError(f"Expected pixels (H, W, 3) or (H, W). Received: shape {image.shape}.")
    return _centred(_half_spectrum(image), image.shape[1])


def spectrum_picture(image: np.ndarray) -> np.ndarray:
    """`to_uint8(magnitude_spectrum(image))`, `(H, W)` `uint8`, in less time."""
    return _centred(to_uint8(_half_spectrum(image)), image.shape[1])


def _half_spectrum(image: np.ndarray) -> np.ndarray:
    """The columns of frequency 0 to W // 2 of `magnitude_spectrum`, not centred."""
    grey = image.astype(np.float32, order="C")
    if grey.ndim == 3:
        grey = cv2.cvtColor(grey, cv2.COLOR_RGB2GRAY)  # with GREY_WEIGHTS, not rounded
    # The mean is so large that, in single precision, it would round the other frequencies.
    mean = cv2.mean(grey)[0]  # in double precision
    grey -= np.float32(mean)
    half = _half_magnitude(grey)
    half[0, 0] = mean * grey.size
    half += np.float32(EPSILON)
    np.log(half, out=half)
    half *= 20
    return half


def _centred(half: np.ndarray, width: int) -> np.ndarray:
    """A spectrum `(H, W)` from its columns of frequency 0 to W // 2: |F(-u, -v)| = |F(u, v)|."""
    height, left = len(half), width // 2
    rows = np.arange(height) - height // 2
    full = np.empty((height, width), half.dtype)
    np.take(half[:, : width - left], rows, axis=0, out=full[:, left:], mode="wrap")
    np.take(half[:, left:0:-1], -rows, axis=0, out=full[:, :left], mode="wrap")
    return full


def _half_magnitude(grey: np.ndarray) -> np.ndarray:
    """`np.abs(scipy.fft.rfft2(grey))`, `(H, W // 2 + 1)`, in half its time.

    OpenCV packs real and imaginary parts side by side (`cv2.dft`, "CCS"). The columns of frequency
    0 and, if W is even, W / 2 are transforms of real columns, packed from top to bottom.
    """
    height, width = grey.shape
    packed = cv2.dft(grey)
    half = np.empty((height, width // 2 + 1), np.float32)
    half[:, 1 : (width + 1) // 2] = np.abs(packed[:, 1 : width - 1 + width % 2].view(np.complex64))
    zeros = [1] if height % 2 else [1, height]  # where imaginary parts that are zero belong
    for column in (0,) if width % 2 else (0, -1):
        down = np.abs(np.insert(packed[:, column], zeros, 0).view(np.complex64))
        half[:, column] = np.concatenate([down, down[(height - 1) // 2 : 0 : -1]])
    return half


def to_uint8(spectrum: np.ndarray) -> np.ndarray:
    """Scales a spectrum to a grey picture, `uint8`: its lowest value becomes 0, its highest 255.

    A flat spectrum (a span below 1e-3) becomes all 0; `ValueError` if a value is not finite.

    Example:
        >>> to_uint8(np.array([[-1.0, 0.0, 1.0]]))
        array([[  0, 128, 255]], dtype=uint8)
    """
    low, high = float(np.min(spectrum)), float(np.max(spectrum))
    if not np.isfinite(high - low):
        raise ValueError(f"Received a spectrum from {low} to {high}; expected finite values.")
    if high - low < FLAT:
        return np.zeros(np.shape(spectrum), np.uint8)
    scale = 255 / (high - low)
    return cv2.convertScaleAbs(np.asarray(spectrum, np.float32), alpha=scale, beta=-low * scale)


def radial_profile(spectrum: np.ndarray) -> np.ndarray:
    """Mean of a centred spectrum by distance from the zero frequency (Durall et al., CVPR 2020).

    Distances are frequencies: a picture that is not square is averaged over ellipses.

    Args:
        spectrum: `(H, W)`, as `magnitude_spectrum` returns it.

    Returns:
        `(min(H, W) // 2 + 1,)` `float64`: from frequency 0 to half a cycle per pixel.

    Example:
        >>> radial_profile(np.ones((8, 8)))
        array([1., 1., 1., 1., 1.])
    """
    height, width = np.shape(spectrum)
    rows = (np.arange(height) - height // 2)[:, None] / height
    columns = (np.arange(width) - width // 2)[None, :] / width
    radii = np.rint(np.hypot(rows, columns) * min(height, width)).astype(int).ravel()
    num_radii = min(height, width) // 2 + 1
    sums = np.bincount(radii, np.asarray(spectrum, np.float64).ravel())
    return sums[:num_radii] / np.bincount(radii)[:num_radii]


def spectral_peaks(pixels: np.ndarray) -> np.ndarray:
    """How far each spectrum stands out where up-sampling leaves replicas: `(N,)` `float64`.

    Replicas (Zhang et al., "Detecting and simulating artifacts in GAN fake images", 2019) lie at a
    quarter and a half of the sampling rate, in both directions; each is measured against the median
    of the 5 × 5 frequencies around it. `pixels` are `(N, S, S, 3)` `uint8`, `S` a multiple of 4, in
    their own resolution: shrinking moves the replicas. One number needs no `_own` baseline: a fit
    on the test set could only change its sign, and an AUC below 0.5 shows that already.
    """
    side = pixels.shape[1]
    if pixels.shape[1:] != (side, side, 3) or side % 4:
        raise ValueError(f"Expected (N, S, S, 3), S a multiple of 4. Received: {pixels.shape}.")
    replicas, peaks = np.ix_(*2 * [np.array([0, side // 4, 3 * side // 4])]), []
    for image in pixels:
        spectrum = magnitude_spectrum(image)
        peaks.append((spectrum - cv2.medianBlur(spectrum, 5))[replicas].mean())
    return np.array(peaks, float)


@keras.saving.register_keras_serializable(package="true_or_fake")
class Spectrum(keras.layers.Layer):
    """Pictures of any size to their spectra, `0..255`, as `magnitude_spectrum` and `to_uint8` do.

    `(N, H, W, 3)`, `0..255`, becomes `(N, H, W, 1)` `float32`, not rounded. It always computes in
    `float32`: half precision cannot hold the sums.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, images):
        """See the class."""
        weights = ops.convert_to_tensor(GREY_WEIGHTS, "float32")
        grey = ops.sum(ops.cast(images, "float32") * weights, axis=-1)
        height, width = ops.shape(grey)[1:]
        mean = ops.mean(grey, axis=(1, 2), keepdims=True)
        rows = ops.rfft(grey - mean)
        columns = ops.fft(tuple(ops.transpose(part, (0, 2, 1)) for part in rows))
        real, imaginary = (ops.transpose(part, (0, 2, 1)) for part in columns)
        half = ops.sqrt(ops.square(real) + ops.square(imaginary))
        # The zero frequency, left out so far, is the sum of the grey levels.
        brightness = mean * ops.cast(height, "float32") * ops.cast(width, "float32")
        first_row = ops.concatenate([brightness, half[:, :1, 1:]], axis=2)
        half = 20 * ops.log(ops.concatenate([first_row, half[:, 1:]], axis=1) + EPSILON)
        mirrored = ops.roll(ops.flip(ops.flip(half, 1), 2), 1, axis=1)
        right, down = (width + 1) // 2, (height + 1) // 2
        full = ops.concatenate([mirrored[:, :, : width // 2], half[:, :, :right]], axis=2)
        # Rolls by H // 2, also where the height is known only at run time.
        full = ops.concatenate([full[:, down:], full[:, :down]], axis=1)
        low = ops.min(full, axis=(1, 2), keepdims=True)
        span = ops.max(full, axis=(1, 2), keepdims=True) - low
        scaled = ops.where(span < FLAT, 0.0, (full - low) * (255 / ops.maximum(span, FLAT)))
        return ops.expand_dims(scaled, -1)

    def compute_output_shape(self, input_shape):
        """One channel instead of three."""
        return (*input_shape[:-1], 1)
