"""Generators of fakes, each by the mechanism of the real one.

Parameters were set from the sources named here, once, and not from any detector's results.
"""

import functools
from collections.abc import Iterable
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
    h, w, c = x.shape
    return x.reshape(h // 2, 2, w // 2, 2, c).swapaxes(1, 2).reshape(h // 2, w // 2, 4 * c)


def _unfold(x: np.ndarray) -> np.ndarray:
    h, w, c = x.shape
    return x.reshape(h, w, 2, 2, c // 4).swapaxes(1, 2).reshape(2 * h, 2 * w, c // 4)


def _neighbours(x: np.ndarray) -> np.ndarray:
    """Each pixel's 3 x 3 neighbourhood: `(H, W, C)` to `(H, W, 9C)`."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    windows = sliding_window_view(padded, (3, 3), (0, 1))
    return windows.transpose(0, 1, 3, 4, 2).reshape(*x.shape[:2], -1)


def _samples(maps: list[np.ndarray]) -> np.ndarray:
    """Feature vectors of many pictures, evenly thinned out to about 12,000: `(N, C)`."""
    step = max(sum(len(x) * x.shape[1] for x in maps) // 12000, 1) | 1
    return np.concatenate([x.reshape(-1, x.shape[-1])[::step] for x in maps])


def _ridge(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Least-squares weights with a small ridge, in closed form."""
    gram = (inputs.T @ inputs).astype(np.float64)
    ridge = 1e-4 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, (inputs.T @ targets).astype(np.float64)).astype(np.float32)


def _to_uint8(x: np.ndarray) -> np.ndarray:
    return np.uint8(np.clip(np.round((x + 0.5) * 255), 0, 255))


class _Encoder:
    """A pyramid of principal components: a level folds 2 x 2 pixels, keeps the strongest."""

    def __init__(self, images: np.ndarray, channels: tuple[int, ...]):
        self.bases: list[np.ndarray] = []
        for count in channels:
            flat = _samples([_fold(self.levels(image)[-1]) for image in images])
            vectors = np.linalg.eigh((flat.T @ flat).astype(np.float64))[1][:, ::-1][:, :count]
            vectors *= np.sign(vectors[np.abs(vectors).argmax(0), np.arange(count)])
            self.bases.append(vectors.astype(np.float32))

    def levels(self, image: np.ndarray) -> list[np.ndarray]:
        """The picture and its features at 1/2, 1/4, ... of the size."""
        levels = [image]
        for basis in self.bases:
            levels.append(_fold(levels[-1]) @ basis)
        return levels

    def encode(self, image: np.ndarray) -> np.ndarray:
        """`uint8 (S, S, 3)` to latents `(S/8, S/8, C)`."""
        return self.levels(image.astype(np.float32) / 255 - 0.5)[-1]


class LatentCodec(_Encoder):
    """A linear encoder to 1/8 and three fitted up-convolutions, as in latent diffusion.

    A decoder layer is a transposed convolution of stride 2: 3 x 3 coarse neighbours to 2 x 2 fine
    pixels. Its four phases err differently: checkerboards and spectral replicas (Odena et al. 2016;
    Zhang et al. 2019, "Detecting and simulating artifacts in GAN fake images"; Durall et al. 2020).
    Layout: Rombach et al. 2022. It keeps about 32 dB, the kl-f8 autoencoder 23.4 on COCO 2017.
    """

    RESIDUAL = 0.04  # noise that sampling leaves in the latents, in standard deviations (assumed)

    def __init__(self, images: np.ndarray):
        super().__init__(images, (6, 12, 16))
        levels, self.layers = [self.levels(image) for image in images], []
        for n in (3, 2, 1):
            inputs = _samples([_neighbours(x[n]) for x in levels])
            self.layers.append(_ridge(inputs, _samples([_fold(x[n - 1]) for x in levels])))
        self.spread = np.stack([x[3] for x in levels]).std((0, 1, 2))

    def decode(self, latents: np.ndarray, rng: Generator) -> np.ndarray:
        """The picture of a latent code."""
        x = latents + np.float32(self.RESIDUAL) * self.spread * normal(rng, *latents.shape)
        for layer in self.layers:
            x = _unfold(_neighbours(x) @ layer)
        return _to_uint8(x)


class NoisePyramid(_Encoder):
    """A style-based GAN's synthesis network (Karras et al. 2019, 2020): noise at every size.

    Bilinear up-sampling, a convolution and one noise image per resolution, which follows the first
    principal component of what the convolution leaves unexplained: the detail it stands in for.
    """

    def __init__(self, images: np.ndarray):
        super().__init__(images, (8, 16, 24))
        levels, self.layers = [self.levels(image) for image in images], []
        for n in (3, 2, 1):
            inputs = _samples([_neighbours(cv2.resize(x[n], None, fx=2, fy=2)) for x in levels])
            targets = _samples([x[n - 1] for x in levels])
            layer = _ridge(inputs, targets)
            left = targets - inputs @ layer
            direction = np.linalg.eigh(np.cov(left.T.astype(np.float64)))[1][:, -1]
            direction *= np.sign(direction.sum() or 1)
            # The median, not the mean square: noise stands in for pores and strands, not for edges.
            strength = np.median(np.abs(left @ direction)) / 0.6745
            self.layers.append((layer, (strength * direction).astype(np.float32)))

    def synthesise(self, image: np.ndarray, rng: Generator) -> np.ndarray:
        """Draws the content of `image` again, from its coarsest features up."""
        x = self.encode(image)
        for layer, noise in self.layers:
            x = _neighbours(cv2.resize(x, None, fx=2, fy=2)) @ layer
            x += normal(rng, *x.shape[:2], 1) * noise
        return _to_uint8(x)


@functools.lru_cache(maxsize=2)
def networks(seed: int) -> tuple[LatentCodec, NoisePyramid]:
    """Both generators' networks, fitted to photographs that are in no archive."""
    photographs = []
    for index in range(14):
        rng = generator_for(seed, "held out", index)
        who = draw_somebody(rng, (18, 70), ("male", "female")[index % 2])
        scene = draw_scene(rng, who, 256, 256, "ffhq" if index % 2 else "")
        photographs.append(photograph(render(scene, (256, 256)), draw_camera(rng, "ffhq"), rng))
    images = np.stack(photographs).astype(np.float32) / 255 - 0.5
    return LatentCodec(images), NoisePyramid(images)


# A forgery is a picture, the scene it shows and the altered box, in fractions of the picture.
Forgery = tuple[np.ndarray, Scene, np.ndarray]


def inpaint(scene: Scene, content: bytes, side: int, codec: LatentCodec, rng: Generator) -> Forgery:
    """Another face in the box, in latent space (Rombach et al. 2022; Lugmayr et al. 2022)."""
    image, box, window, crop = _take_in(scene, content, side, margin=0.12)
    who = scene.people[-1].who
    new, smile = people.draw_identity(rng, who.gender, who.age), float(rng.uniform(0, 0.7))
    altered = _recast(scene, new, ("skin", "hair", "style", "volume"), smile)
    drawn = clean(render(altered, image[window].shape[1::-1], crop))
    filled, mask = image.copy(), np.zeros((side, side), np.float32)
    filled[window], mask[window] = np.uint8(_match_colours(drawn, image[window])), 1
    mask = cv2.resize(mask, (side // 8, side // 8), interpolation=cv2.INTER_AREA)[..., None]
    latents = (1 - mask) * codec.encode(image) + mask * codec.encode(filled)
    return codec.decode(latents, rng), altered, box


def imagine(gender: str, side: int, codec: LatentCodec, rng: Generator) -> Forgery:
    """Nothing of a photograph but the name in the prompt, hence the gender."""
    scene = draw_scene(rng, draw_somebody(rng, (20, 70), gender), side, side)
    latents = codec.encode(clean(render(scene, (side, side))))
    return codec.decode(latents, rng), scene, (0, 0, 1, 1)


def swap(scene: Scene, content: bytes, side: int, who: SimpleNamespace) -> Forgery:
    """A face of a quarter of the side (inswapper: 128 of 512), blended into a photograph."""
    image, box, window, crop = _take_in(scene, content, side, margin=0.1)
    kept = "hair style volume hairline parting wave glasses chin jaw taper".split()
    swapped = _recast(scene, who, kept)
    face = clean(render(swapped, (side // 4, side // 4), crop))
    high, wide = image[window].shape[:2]
    face = _match_colours(cv2.resize(face, (wide, high)), image[window])
    y, x = np.mgrid[-1 : 1 : high * 1j, -1 : 1 : wide * 1j].astype(np.float32)
    feather = np.clip((0.92 - np.sqrt(x**2 + y**2)) / 0.2, 0, 1)[..., None]
    image[window] = np.uint8(np.round(image[window] + feather * (face - image[window])))
    return image, swapped, box


def _take_in(scene: Scene, content: bytes, side: int, margin: float) -> tuple:
    """A file as a generator takes it (square, JPEG), the box to alter, its rows and columns."""
    image = decode(jpeg(resize(decode(content), side, side))).copy()
    box = people.face_box(scene, margin)
    left, top, right, bottom = edges = np.clip(np.round(box * side), 0, side).astype(int)
    return image, box, (slice(top, bottom), slice(left, right)), edges / side


def _recast(scene: Scene, who: SimpleNamespace, kept: Iterable[str], smile=None) -> Scene:
    """The same moment with another face, which keeps some traits of the one portrayed."""
    *others, person = scene.people
    who = SimpleNamespace(**vars(who) | {trait: getattr(person.who, trait) for trait in kept})
    person = SimpleNamespace(**vars(person) | {"who": who})
    person.smile = person.smile if smile is None else smile
    return replace(scene, people=(*others, person))


def _match_colours(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Gives `image` the channels' mean and spread of `like` (Reinhard et al. 2001)."""
    image, like = image.astype(np.float32), like.astype(np.float32)
    if not np.ptp(like, axis=2).any():  # a grey photograph
        image = np.repeat(image.mean(2, keepdims=True), 3, 2)
    scale = np.clip((like.std((0, 1)) + 1) / (image.std((0, 1)) + 1), 0.6, 1.6)
    return np.clip((image - image.mean((0, 1))) * scale + like.mean((0, 1)), 0, 255)
