"""Generators of fakes, each by the mechanism of the real one.

Parameters come from the sources named here and from traits of real files that were measured
(`benchmarks/traits.py`), never from a detector's results.
"""

import functools
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.random import Generator

from simulator import people
from simulator.cameras import clean, decode, draw_camera, jpeg, photograph, resize
from simulator.people import Scene, draw_scene, draw_somebody, generator_for, normal
from simulator.portraits import render


def _fold(x: np.ndarray) -> np.ndarray:
    """2 x 2 pixels to channels: `(H, W, C)` to `(H/2, W/2, 4C)`."""
    return np.concatenate([x[i::2, j::2] for i, j in np.ndindex(2, 2)], 2)


def _unfold(x: np.ndarray) -> np.ndarray:
    h, w, c = x.shape
    return x.reshape(h, w, 2, 2, c // 4).swapaxes(1, 2).reshape(2 * h, 2 * w, c // 4)


def _neighbours(x: np.ndarray, kernel: int) -> np.ndarray:
    """Each pixel's neighbourhood, `kernel` wide: `(H, W, C)` to `(H, W, kernel * kernel * C)`."""
    margin = kernel // 2
    padded = np.pad(x, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    windows = sliding_window_view(padded, (kernel, kernel), (0, 1))
    return windows.transpose(0, 1, 3, 4, 2).reshape(*x.shape[:2], -1)


def _samples(maps: list[np.ndarray]) -> np.ndarray:
    """Feature vectors of many pictures, evenly thinned out to about 6,000: `(N, C)`."""
    step = max(sum(len(x) * x.shape[1] for x in maps) // 6000, 1) | 1
    return np.concatenate([x.reshape(-1, x.shape[-1])[::step] for x in maps])


def _components(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances and principal components (columns), the weakest first."""
    return np.linalg.eigh((flat.T @ flat).astype(np.float64) / len(flat))


class Network:
    """An encoder and a decoder, both linear and fitted; every level halves or doubles the size.

    The encoder folds 2 x 2 pixels and keeps the strongest principal components. A layer of the
    decoder is a transposed convolution, from coarse neighbours to 2 x 2 fine pixels, as in latent
    diffusion (Rombach et al. 2022) and in StyleGAN's fused up-sampling (Karras et al. 2019). For
    detail that it cannot restore, a layer draws noise of the same covariance, strong where detail
    was lost. Small errors of the weights, as after training, make the 2 x 2 phases differ:
    checkerboards and spectral replicas (Odena et al. 2016; Durall et al. 2020).
    """

    def __init__(self, images: list[np.ndarray], rng: Generator, levels: int):
        self.size, self.kernel = 2**levels, int(rng.choice((3, 5)))
        # The grid of the latents need not start in the picture's corner.
        self.margins = [(n, -n % self.size) for n in rng.integers(self.size, size=2).tolist()]
        self.bases, self.layers, maps = [], [], [[image] for image in images]
        for low, high in ((6, 9), (10, 17), (14, 25))[:levels]:
            flat = _samples([_fold(x[-1]) for x in maps])
            vectors = _components(flat)[1][:, : -rng.integers(low, high) - 1 : -1]
            vectors *= np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
            self.bases.append(vectors.astype(np.float32))
            for x in maps:
                x.append(_fold(x[-1]) @ self.bases[-1])
        ridge, error = 10 ** rng.uniform(-5, -3), ERROR * 2 ** rng.uniform(-1, 1) / levels**2
        for n in range(levels, 0, -1):
            inputs = _samples([_neighbours(x[n], self.kernel) for x in maps])
            targets = _samples([_fold(x[n - 1]) for x in maps])
            gram = (inputs.T @ inputs).astype(np.float64)
            gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
            layer = np.linalg.solve(gram, inputs.T @ targets).astype(np.float32)
            variances, vectors = _components(targets - inputs @ layer)
            root = np.float32(np.sqrt(np.maximum(variances, 0))[:, None] * vectors.T)
            off = layer * (1 + np.float32(error) * normal(rng, 1, layer.shape[1]))
            self.layers.append((layer, root, off))

    def pad(self, image: np.ndarray) -> np.ndarray:
        """Continues the edges of a picture or of a map to whole latents."""
        return np.pad(image, self.margins + [(0, 0)] * (image.ndim - 2), mode="edge")

    def encode(self, image: np.ndarray) -> np.ndarray:
        """`(S, S, 3)`, 0..255, to latents: the code, then the strength of the detail lost."""
        maps = [cv2.GaussianBlur(np.float32(self.pad(image)), (0, 0), SOFT) / 255 - 0.5]
        for basis in self.bases:
            maps.append(_fold(maps[-1]) @ basis)
        latents = [maps[-1]]
        for n, (layer, root, _) in zip(range(len(self.bases), 0, -1), self.layers):
            lost = _fold(maps[n - 1]) - _neighbours(maps[n], self.kernel) @ layer
            energy = (lost**2).mean(2) / np.float32((root**2).sum(0).mean())
            size = maps[-1].shape[1::-1]
            energy = cv2.resize(energy, size, interpolation=cv2.INTER_AREA)
            latents.append(np.sqrt(energy)[..., None])
        return np.concatenate(latents, 2)

    def decode(self, latents: np.ndarray, rng: Generator, detail: float) -> np.ndarray:
        """The picture `(S, S, 3)` `uint8` of latents; `detail` scales the detail that is drawn."""
        x, strengths = np.split(latents, [-len(self.layers)], 2)
        for position, (_, root, layer) in enumerate(self.layers):
            strength = cv2.resize(strengths[..., position], x.shape[1::-1])[..., None]
            lost = np.float32(detail) * strength * (normal(rng, *x.shape[:2], len(root)) @ root)
            x = _unfold(_neighbours(x, self.kernel) @ layer + lost)
        (top, bottom), (left, right) = self.margins
        x = x[top : len(x) - bottom, left : x.shape[1] - right]
        return np.uint8(np.clip(np.round((x + 0.5) * 255), 0, 255))


ERROR = 0.25  # of the weights of a decoder, relative: the strength of the trace
SOFT = 0.45  # sigma, in pixels, of the blur before encoding: the finest detail is lost
# Strength of the detail that a decoder draws, relative to what was lost. Both as measured on real
# decodings: noise and sharpness of FLUX.2's, of Stable Diffusion 2.1's and of StyleGAN's.
DETAIL = {"inpainting": 0.35, "text2img": 1.6, "gan140k": 0.45}
INPAINTING, TEXT2IMG, GAN = range(14), range(14, 20), range(20, 23)  # members of the family


@functools.lru_cache(maxsize=2)
def _held_out(seed: int) -> np.ndarray:
    """20 photographs `(20, 256, 256, 3)`, from -0.5 to 0.5, that are in no archive."""
    photographs = []
    for index in range(20):
        rng = generator_for(seed, "held out", index)
        who = draw_somebody(rng, (18, 70), ("male", "female")[index % 2])
        scene = draw_scene(rng, who, 256, 256, "ffhq" if index % 2 else "")
        photographs.append(photograph(render(scene, (256, 256)), draw_camera(rng, "ffhq"), rng))
    return np.stack(photographs).astype(np.float32) / 255 - 0.5


@functools.lru_cache(maxsize=64)
def network(seed: int, member: int) -> Network:
    """A member of the family, fitted to ten of the photographs that are in no archive."""
    rng = generator_for(seed, "network", member)
    images = _held_out(seed)[rng.choice(20, 10, replace=False)]
    # The autoencoders of latent diffusion reduce a side to a quarter or an eighth.
    return Network(list(images), rng, 3 if member in GAN else int(rng.choice((2, 3))))


# A forgery is a picture, the scene it shows and the altered box, in fractions of the picture.
def inpaint(scene: Scene, content: bytes, side: int, codec: Network, rng: Generator) -> tuple:
    """Another face in the box, in latent space (Rombach et al. 2022; Lugmayr et al. 2022)."""
    shown, kept = scene.people[-1].who, "skin hair style volume"
    who = people.draw_identity(rng, shown.gender, shown.age)
    image, face, window, altered, box = _recast(scene, content, side, who, kept, margin=0.12)
    filled, mask = image.copy(), np.zeros((side, side), np.float32)
    filled[window], mask[window] = np.uint8(_match_colours(face, image[window])), 1
    old, new = codec.encode(image), codec.encode(filled)
    mask = cv2.resize(codec.pad(mask), old.shape[1::-1], interpolation=cv2.INTER_AREA)[..., None]
    latents = (1 - mask) * old + mask * new
    return codec.decode(latents, rng, DETAIL["inpainting"]), altered, box


def imagine(gender: str, side: int, codec: Network, rng: Generator) -> tuple:
    """A new picture of the same gender: text2img takes only the name from a photograph."""
    scene = draw_scene(rng, draw_somebody(rng, (20, 70), gender), side, side)
    size = 2 * (int(2 ** rng.uniform(np.log2(160), np.log2(300))),)  # of what it was trained on
    image = resize(photograph(render(scene, size), draw_camera(rng, "web"), rng), side)
    image = np.clip(0.93 * image + 13, 0, 255)  # brighter, flatter: as measured on SD 2.1
    latents = codec.encode(image)
    lost = slice(-len(codec.layers), None)  # drawn alike everywhere, in flat areas, too
    latents[..., lost] = latents[..., lost].mean((0, 1))
    return codec.decode(latents, rng, DETAIL["text2img"]), scene, (0, 0, 1, 1)


def swap(scene: Scene, content: bytes, side: int, who: SimpleNamespace) -> tuple:
    """A face of a quarter of the side (inswapper: 128 of 512), blended into a photograph."""
    kept = "hair style volume hairline parting chin jaw taper"
    image, face, window, swapped, box = _recast(scene, content, side, who, kept, margin=0.1)
    high, wide = face.shape[:2]
    face = cv2.resize(face, (side // 4, side // 4), interpolation=cv2.INTER_AREA)
    face = _match_colours(cv2.resize(face, (wide, high)), image[window])
    y, x = np.mgrid[-1 : 1 : high * 1j, -1 : 1 : wide * 1j].astype(np.float32)
    feather = np.clip((0.92 - np.sqrt(x**2 + y**2)) / 0.2, 0, 1)[..., None]
    image[window] = np.uint8(np.round(image[window] + feather * (face - image[window])))
    return image, swapped, box


def _recast(scene: Scene, content: bytes, side: int, who, kept: str, margin: float) -> tuple:
    """A square JPEG of the file, the face of `who` with `kept` traits, its place, scene and box."""
    image, box = decode(jpeg(resize(decode(content), side))).copy(), people.face_box(scene, margin)
    left, top, right, bottom = np.clip(np.round(box * side), 0, side).astype(int)
    window = slice(top, bottom), slice(left, right)
    *others, person = scene.people
    who = SimpleNamespace(**vars(who) | {trait: vars(person.who)[trait] for trait in kept.split()})
    scene = replace(scene, people=(*others, SimpleNamespace(**vars(person) | {"who": who})))
    return image, clean(render(scene, (side, side)))[window], window, scene, box


def _match_colours(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Gives `image` the channels' mean and spread of `like` (Reinhard et al. 2001)."""
    image, like = image.astype(np.float32), like.astype(np.float32)
    if not np.ptp(like, axis=2).any():  # a grey photograph
        image = np.repeat(image.mean(2, keepdims=True), 3, 2)
    scale = np.clip((like.std((0, 1)) + 1) / (image.std((0, 1)) + 1), 0.6, 1.6)
    return np.clip((image - image.mean((0, 1))) * scale + like.mean((0, 1)), 0, 255)
