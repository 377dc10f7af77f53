"""The magnitude spectrum of a picture: with NumPy, and as a Keras layer equal to it.

Upsampling in a generator leaves regular traces that are plain in the Fourier domain (Durall et al.,
"Watch your Up-Convolution", CVPR 2020). `magnitude_spectrum` and the layer `Spectrum` compute `20
ln(|F| + 1e-8)` of the grey levels with the zero frequency in the centre.

A real picture has `F(-u, -v) = conj F(u, v)`, so only half of the frequencies are computed; the
other half is a mirror. The mean is taken out before the transform and put back as `F(0, 0)`: single
precision then spends its digits on the frequencies instead of on the brightness.
"""

import cv2
import keras
import numpy as np
from keras import ops

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # red, green, blue; Rec. ITU-R BT.601
EPSILON = 1e-8
FLAT = 1e-3  # a spectrum that spans less than this is flat: the rest is rounding


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
    half, width = _half_spectrum(image)
    return _mirrored(half, width)


def uint8_spectrum(image: np.ndarray) -> np.ndarray:
    """`to_uint8(magnitude_spectrum(image))`, the picture of a spectrum, with fewer bytes to mirror.

    Args:
        image: RGB `(H, W, 3)` or grey `(H, W)`, `uint8` or float, `0..255`.

    Returns:
        `(H, W)` `uint8`.

    Raises:
        ValueError: If the picture has another shape, or no pixel, or values that are not finite.

    Example:
        >>> int(uint8_spectrum(np.eye(4, dtype="uint8"))[2, 2])
        255
    """
    half, width = _half_spectrum(image)
    return _mirrored(to_uint8(half), width)


def to_uint8(spectrum: np.ndarray) -> np.ndarray:
    """Scale a spectrum to a grey picture: its lowest value becomes 0, its highest 255.

    Args:
        spectrum: `(H, W)` float.

    Returns:
        `(H, W)` `uint8`, rounded. A flat spectrum (a span below 1e-3) becomes all 0.

    Raises:
        ValueError: If a value is not finite.

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
    """Mean of a centred spectrum over all directions, by distance from the zero frequency.

    The azimuthal average of Durall et al. (CVPR 2020). Distances are frequencies, so a picture that
    is not square is averaged over ellipses of equal frequency.

    Args:
        spectrum: `(H, W)`, zero frequency at `[H // 2, W // 2]`, as `magnitude_spectrum` returns
            it.

    Returns:
        `(num_radii,)` `float64` with `num_radii = min(H, W) // 2 + 1`: from frequency 0 to half a
        cycle per pixel.

    Raises:
        ValueError: If the spectrum is not 2-D.

    Example:
        >>> radial_profile(np.ones((8, 8)))
        array([1., 1., 1., 1., 1.])
    """
    spectrum = np.asarray(spectrum, np.float64)
    if spectrum.ndim != 2 or spectrum.size == 0:
        raise ValueError(
            f"Received a spectrum of shape {spectrum.shape}; expected (H, W), not empty."
        )
    height, width = spectrum.shape
    rows = (np.arange(height) - height // 2)[:, None] / height
    columns = (np.arange(width) - width // 2)[None, :] / width
    radii = np.rint(np.hypot(rows, columns) * min(height, width)).astype(int)
    num_radii = min(height, width) // 2 + 1
    sums = np.bincount(radii.ravel(), spectrum.ravel())[:num_radii]
    counts = np.bincount(radii.ravel())[:num_radii]
    return sums / counts


def _half_spectrum(image: np.ndarray) -> tuple[np.ndarray, int]:
    """`20 ln(|F| + 1e-8)`, `(H, W // 2 + 1)`: horizontal frequencies from 0; and W."""
    image = np.asarray(image)
    if not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3) or image.size == 0:
        raise ValueError(
            f"Received a picture of shape {image.shape}; expected (H, W, 3) or (H, W), not empty."
        )
    grey = image.astype(np.float32, order="C")
    if grey.ndim == 3:
        grey = cv2.cvtColor(grey, cv2.COLOR_RGB2GRAY)  # with GREY_WEIGHTS, not rounded
    mean = cv2.mean(grey)[0]  # in double precision
    grey -= np.float32(mean)
    half = _half_magnitude(grey)
    half[0, 0] = mean * grey.size
    half += np.float32(EPSILON)
    np.log(half, out=half)
    half *= 20
    return half, grey.shape[1]


def _mirrored(half: np.ndarray, width: int) -> np.ndarray:
    """The whole plane `(H, W)` from its half; the zero frequency at `[H // 2, W // 2]`."""
    height, middle = len(half), width // 2
    first = 1 - height % 2  # of an even height, the first row mirrors itself
    centred = np.roll(half, height // 2, axis=0)
    full = np.empty((height, width), half.dtype)
    full[:, middle:] = centred[:, : width - middle]
    full[first:, :middle] = centred[first:][::-1, middle:0:-1]  # |F(-u, -v)| = |F(u, v)|
    full[:first, :middle] = centred[:first, middle:0:-1]
    return full


def _half_magnitude(grey: np.ndarray) -> np.ndarray:
    """`|F|` as `(H, W // 2 + 1)`, equal to that of `scipy.fft.rfft2`, in half its time.

    OpenCV packs the transform into `(H, W)` (`cv2.dft`, "CCS"): real and imaginary parts side by
    side. The columns of frequency 0 and, if W is even, W / 2 are transforms of real columns, and
    packed the same way from top to bottom.
    """
    height, width = grey.shape
    packed = cv2.dft(grey)
    half = np.empty((height, width // 2 + 1), np.float32)
    half[:, 1 : (width + 1) // 2] = np.abs(packed[:, 1 : width - 1 + width % 2].view(np.complex64))
    for column in (0,) if width % 2 else (0, -1):
        parts = np.insert(
            packed[:, column], [1] if height % 2 else [1, height], 0
        )  # imaginary parts that are zero
        down = np.abs(parts.view(np.complex64))
        half[:, column] = np.concatenate([down, down[(height - 1) // 2 : 0 : -1]])
    return half


@keras.saving.register_keras_serializable(package="true_or_fake")
class Spectrum(keras.layers.Layer):
    """Pictures of any size to their magnitude spectra, scaled to `0..255` picture by picture.

    The layer equals `magnitude_spectrum` followed by the scaling of `to_uint8`, without the
    rounding. It always computes in `float32`: half precision cannot hold the sums.

    Call arguments:
        images: RGB pictures `(N, H, W, 3)`, `uint8` or float, `0..255`.

    Returns:
        `(N, H, W, 1)` `float32`, `0..255`.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, images):
        """The layer's computation; see the class."""
        grey = ops.sum(
            ops.cast(images, "float32") * ops.convert_to_tensor(GREY_WEIGHTS, "float32"), axis=-1
        )
        height, width = ops.shape(grey)[1:]
        mean = ops.mean(grey, axis=(1, 2), keepdims=True)
        rows = ops.rfft(grey - mean)
        columns = ops.fft(tuple(ops.transpose(part, (0, 2, 1)) for part in rows))
        real, imaginary = (ops.transpose(part, (0, 2, 1)) for part in columns)
        half = ops.sqrt(ops.square(real) + ops.square(imaginary))
        # What is left at the zero frequency is rounding: the sum of the grey levels belongs there.
        brightness = mean * ops.cast(height, "float32") * ops.cast(width, "float32")
        first_row = ops.concatenate([brightness, half[:, :1, 1:]], axis=2)
        half = 20 * ops.log(ops.concatenate([first_row, half[:, 1:]], axis=1) + EPSILON)
        mirrored = ops.roll(ops.flip(half, axis=(1, 2)), 1, axis=1)
        full = ops.concatenate(
            [mirrored[:, :, : width // 2], half[:, :, : (width + 1) // 2]], axis=2
        )
        # The same as rolling by H // 2, also where the height is known only at run time.
        full = ops.concatenate([full[:, (height + 1) // 2 :], full[:, : (height + 1) // 2]], axis=1)
        low = ops.min(full, axis=(1, 2), keepdims=True)
        span = ops.max(full, axis=(1, 2), keepdims=True) - low
        scaled = ops.where(span < FLAT, 0.0, (full - low) * (255 / ops.maximum(span, FLAT)))
        return ops.expand_dims(scaled, -1)

    def compute_output_shape(self, input_shape):
        """One channel instead of three."""
        return (*input_shape[:-1], 1)
