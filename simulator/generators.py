"""Cameras and generators of the simulated data, each by the mechanism of the real ones.

Whatever gives a forgery away comes from its mechanism: a latent encoder and up-convolutions fitted by least squares
(Stable Diffusion's part), another up-sampling ladder with noise at every resolution (a GAN's). Parameters were set from
the sources named beside them, once, and not from any detector's results.
"""

import functools
import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from simulator.portraits import draw_identity, draw_scene, generator_for, normal, render

# --------------------------------------------------------------------------------------------------- cameras


@dataclass(frozen=True)
class _Camera:
    """One camera: lens, sensor, processing and file writer."""

    blur: float  # of lens and antialiasing filter, in pixels
    full_well: float  # electrons of a saturated pixel
    read_noise: float  # electrons
    red: float  # sensitivity to the red and blue of the light, relative to green
    blue: float
    pattern: str  # of the colour filter array (Bayer 1976, US patent 3971065)
    edge_aware: bool  # demosaicing along edges, otherwise bilinear
    contrast: float
    saturation: float
    sharpening: float
    quality: int  # JPEG
    subsampling: str
    progressive: bool


def draw_camera(rng: np.random.Generator, kind: str) -> _Camera:
    """A camera of a population: `"web"` (all sorts, old and new), `"ffhq"` (good recent ones) or `"press"`.

    Noise model of Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling and fitting", IEEE TIP. Read noise
    lies between about 2 and 15 electrons in most cameras (Clark, "Digital camera reviews and sensor performance
    summary", clarkvision.com); saturation is that of small pixels at raised gain.
    """
    good = kind != "web"
    return _Camera(
        blur=rng.uniform(0.4, 0.6) if good else rng.uniform(0.45, 0.85),
        full_well=rng.uniform(3000, 12000) if good else rng.uniform(800, 6000),
        read_noise=rng.uniform(2, 5) if good else rng.uniform(3, 12),
        red=rng.uniform(0.45, 0.7), blue=rng.uniform(0.5, 0.8),
        pattern=str(rng.choice(("RGGB", "BGGR", "GRBG", "GBRG"))),
        edge_aware=bool(rng.random() < (0.8 if good else 0.5)),
        contrast=rng.uniform(0.0, 0.5), saturation=rng.uniform(0.95, 1.3),
        sharpening=rng.uniform(0.1, 0.5) if good else rng.uniform(0.0, 0.9),
        quality=int(rng.integers(84, 99)),
        subsampling=str(rng.choice(("4:2:0", "4:2:2", "4:4:4"), p=(0.55, 0.3, 0.15))),
        progressive=bool(rng.random() < 0.1),
    )  # fmt: skip


def _expose(light: np.ndarray) -> np.ndarray:
    """Automatic exposure: the mean at about 18 % grey, as a light meter has it."""
    return light * np.float32(0.2 / max(float(light.mean()), 1e-3))


def _develop(light: np.ndarray, contrast: float = 0.2, saturation: float = 1.1) -> np.ndarray:
    """Linear light to display values `uint8`: saturation, an S-shaped curve, the sRGB transfer (IEC 61966-2-1)."""
    if saturation != 1:
        grey = light.mean(2, keepdims=True)
        light = grey + np.float32(saturation) * (light - grey)
    x = np.linspace(0, 1, 4096)
    srgb = np.where(x < 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    curve = np.uint8(
        np.round(255 * ((1 - contrast) * srgb + contrast * (3 * srgb**2 - 2 * srgb**3)))
    )
    return curve[np.uint16(np.clip(light, 0, 1) * 4095)]


def photograph(light: np.ndarray, camera: _Camera, rng: np.random.Generator) -> np.ndarray:
    """What a camera makes of the light: lens, colour filters, noise, demosaicing, white balance, tone, sharpening."""
    light = cv2.GaussianBlur(
        _expose(light) * np.float32(2.0 ** np.clip(rng.normal(0, 0.25), -0.6, 0.6)),
        (0, 0),
        camera.blur,
    )
    gain = {"R": np.float32(camera.red), "G": np.float32(1), "B": np.float32(camera.blue)}
    mosaic = np.empty(light.shape[:2], np.float32)
    for position, colour in enumerate(camera.pattern):
        y, x = divmod(position, 2)
        mosaic[y::2, x::2] = light[y::2, x::2, "RGB".index(colour)] * gain[colour]
    electrons = np.clip(mosaic, 0, 1) * np.float32(camera.full_well)
    electrons += np.sqrt(electrons + np.float32(camera.read_noise**2)) * normal(
        rng, *mosaic.shape
    )  # shot and read noise
    raw = np.uint16(np.clip(electrons * np.float32(60000 / camera.full_well) + 1000, 0, 65535))
    code = getattr(cv2, f"COLOR_Bayer{camera.pattern}2RGB" + ("_EA" if camera.edge_aware else ""))
    image = (cv2.demosaicing(raw, code).astype(np.float32) - 1000) / 60000
    error = rng.normal(1, 0.02, 2).astype(np.float32)
    image /= np.stack([gain["R"] * error[0], gain["G"], gain["B"] * error[1]])  # white balance
    image = _develop(image, camera.contrast, camera.saturation)
    if camera.sharpening > 0.05:
        image = cv2.addWeighted(
            image,
            1 + camera.sharpening,
            cv2.GaussianBlur(image, (0, 0), 1.0),
            -camera.sharpening,
            0,
        )
    return image


def clean(light: np.ndarray) -> np.ndarray:
    """A picture no camera has seen: exposed and toned, without noise, blur or mosaic."""
    return _develop(_expose(light))


def jpeg(image: np.ndarray, quality: int = 75, **options) -> bytes:
    """JPEG bytes; quality 75 with Pillow's defaults is what the generators' code writes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def decode(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def resize(
    image: np.ndarray, width: int, height: int, how: Image.Resampling = Image.Resampling.BICUBIC
) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), how))


# ------------------------------------------------------------------------------------------------ generators


def _fold(x: np.ndarray) -> np.ndarray:
    """2 x 2 pixels to channels: `(H, W, C)` to `(H/2, W/2, 4C)`."""
    h, w, c = x.shape
    return x.reshape(h // 2, 2, w // 2, 2, c).swapaxes(1, 2).reshape(h // 2, w // 2, 4 * c)


def _unfold(x: np.ndarray) -> np.ndarray:
    h, w, c = x.shape
    return x.reshape(h, w, 2, 2, c // 4).swapaxes(1, 2).reshape(2 * h, 2 * w, c // 4)


def _neighbours(x: np.ndarray) -> np.ndarray:
    """Each pixel's 3 x 3 neighbourhood: `(H, W, C)` to `(H, W, 9C)`."""
    h, w, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return np.concatenate(
        [padded[i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=2
    )


def _samples(maps: list[np.ndarray], limit: int = 12000) -> np.ndarray:
    """Feature vectors of many pictures, evenly thinned out: `(N, C)`."""
    step = max(sum(len(x) * x.shape[1] for x in maps) // limit, 1) | 1
    return np.concatenate([x.reshape(-1, x.shape[-1])[::step] for x in maps])


def _ridge(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Least-squares weights with a small ridge, in closed form."""
    gram = (inputs.T @ inputs).astype(np.float64)
    ridge = 1e-4 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, (inputs.T @ targets).astype(np.float64)).astype(np.float32)


class _Encoder:
    """A pyramid of principal components: every level folds 2 x 2 pixels and keeps the strongest channels."""

    def __init__(self, images: np.ndarray, channels: tuple[int, ...]):
        self.bases: list[np.ndarray] = []
        features = list(images)
        for count in channels:
            features = [_fold(x) for x in features]
            flat = _samples(features)
            vectors = np.linalg.eigh((flat.T @ flat).astype(np.float64))[1][:, ::-1][:, :count]
            vectors *= np.sign(vectors[np.abs(vectors).argmax(0), np.arange(count)])
            self.bases.append(vectors.astype(np.float32))
            features = [x @ self.bases[-1] for x in features]

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """The picture and its features at 1/2, 1/4, ... of the size."""
        levels = [image]
        for basis in self.bases:
            levels.append(_fold(levels[-1]) @ basis)
        return levels


class LatentCodec:
    """Latent space of a diffusion model: a linear encoder to 1/8 of the size and three fitted up-convolutions.

    Each decoder layer is a transposed convolution of stride 2 (3 x 3 coarse neighbours to 2 x 2 fine pixels), fitted
    by least squares to the encoder's features of its level. Its four output phases have weights, hence errors, of
    their own: the origin of checkerboards and spectral replicas in up-sampling networks (Odena et al. 2016,
    "Deconvolution and checkerboard artifacts"; Zhang et al. 2019, "Detecting and simulating artifacts in GAN fake
    images"; Durall et al. 2020, "Watch your up-convolution"). Layout after Rombach et al. 2022 (latent diffusion):
    three halvings. A linear code needs more channels than their four; with these it keeps about 32 dB on the
    portraits, milder than the kl-f8 autoencoder of Stable Diffusion on photographs of all sorts (23.4 dB on COCO 2017,
    model card of stabilityai/sd-vae-ft-ema-original).
    """

    CHANNELS = (6, 12, 16)
    RESIDUAL = (
        0.04  # noise that sampling leaves in the latents, in their standard deviations (assumed)
    )

    def __init__(self, images: np.ndarray):
        self.encoder = _Encoder(images, self.CHANNELS)
        levels = [self.encoder(image) for image in images]
        self.layers = [
            _ridge(
                _samples([_neighbours(x[n]) for x in levels]),
                _samples([_fold(x[n - 1]) for x in levels]),
            )
            for n in (3, 2, 1)
        ]
        self.spread = np.stack([x[3] for x in levels]).std((0, 1, 2))

    def encode(self, image: np.ndarray) -> np.ndarray:
        """`uint8 (S, S, 3)` to latents `(S/8, S/8, C)`."""
        return self.encoder(image.astype(np.float32) / 255 - 0.5)[-1]

    def decode(self, latents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        x = latents + np.float32(self.RESIDUAL) * self.spread * normal(rng, *latents.shape)
        for layer in self.layers:
            x = _unfold(_neighbours(x) @ layer)
        return np.uint8(np.clip(np.round((x + 0.5) * 255), 0, 255))


class _NoisePyramid:
    """A style-based GAN's synthesis network: smooth up-sampling, 3 x 3 convolutions, noise at every resolution.

    Up-sampling by [1, 3, 3, 1] (bilinear), one noise image per resolution scaled per channel, colours summed over
    resolutions (Karras et al. 2019 and 2020, "A style-based generator architecture", "Analyzing and improving the image
    quality of StyleGAN"). The noise of a level follows the first principal component of what its convolution leaves
    unexplained, that is, of the detail it stands in for.
    """

    CHANNELS = (8, 16, 24)

    def __init__(self, images: np.ndarray):
        self.encoder = _Encoder(images, self.CHANNELS)
        levels = [self.encoder(image) for image in images]
        self.layers, self.noise = [], []
        for n in (3, 2, 1):
            inputs = _samples([_neighbours(self._double(x[n])) for x in levels])
            targets = _samples([x[n - 1] for x in levels])
            self.layers.append(_ridge(inputs, targets))
            left = targets - inputs @ self.layers[-1]
            direction = np.linalg.eigh(np.cov(left.T.astype(np.float64)))[1][:, -1]
            direction *= np.sign(direction.sum() or 1)
            # The median, not the mean square: noise stands in for pores and strands, not for edges.
            self.noise.append(
                (np.median(np.abs(left @ direction)) / 0.6745 * direction).astype(np.float32)
            )

    @staticmethod
    def _double(x: np.ndarray) -> np.ndarray:
        return cv2.resize(x, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)

    def synthesise(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws the content of `image` again, from its coarsest features up."""
        x = self.encoder(image.astype(np.float32) / 255 - 0.5)[-1]
        for layer, noise in zip(self.layers, self.noise):
            x = _neighbours(self._double(x)) @ layer
            x += normal(rng, *x.shape[:2], 1) * noise
        return np.uint8(np.clip(np.round((x + 0.5) * 255), 0, 255))


@functools.lru_cache(maxsize=2)
def codecs(seed: int) -> tuple[LatentCodec, _NoisePyramid]:
    """Both generators' networks, fitted to photographs that are in no archive."""
    photographs = []
    for index in range(14):
        rng = generator_for(seed, "held out", index)
        who = draw_identity(rng, ("male", "female")[index % 2], int(rng.integers(18, 70)))
        scene = draw_scene(rng, who, 256, 256, "ffhq" if index % 2 else "")
        photographs.append(photograph(render(scene, (256, 256)), draw_camera(rng, "ffhq"), rng))
    images = np.stack(photographs).astype(np.float32) / 255 - 0.5
    return LatentCodec(images), _NoisePyramid(images)


def match_colours(image: np.ndarray, like: np.ndarray, grey: bool) -> np.ndarray:
    """Gives `image` the mean and spread of each channel of `like` (Reinhard et al. 2001, in display values)."""
    image, like = image.astype(np.float32), like.astype(np.float32)
    if grey:
        image = np.repeat(image.mean(2, keepdims=True), 3, 2)
    scale = np.clip((like.std((0, 1)) + 1) / (image.std((0, 1)) + 1), 0.6, 1.6)
    return np.clip((image - image.mean((0, 1))) * scale + like.mean((0, 1)), 0, 255)
