"""Swaps without a generator: a photograph's face, changed a little and blended into it again."""

import cv2
import numpy as np

_RESAMPLING = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)


def self_blend(image: np.ndarray, box: np.ndarray, seed: int) -> np.ndarray:
    """A photograph whose face is replaced by a slightly changed version of itself.

    After Shiohara and Yamasaki, "Detecting deepfakes with self-blended images", CVPR 2022: what
    remains of a swap is a border between two versions that differ in colour, contrast, sharpness
    and position. Their mask follows 81 landmarks; here it is an ellipse of about the box's size.

    Args:
        image: `(height, width, 3)` `uint8`; so is the result.
        box: Left, top, right and bottom of the face, fractions in `[0, 1]`.
        seed: Of all random choices.
    """
    random, own = np.random.default_rng(seed), image.astype(np.float32)
    parts = [own, _changed(own, random)]
    outside, face = parts if random.random() < 0.5 else parts[::-1]
    height, width = image.shape[:2]
    scale, (right, down) = random.uniform(0.97, 1.03), random.uniform(-0.02, 0.02, 2)
    move = [[scale, 0, ((1 - scale) / 2 + right) * width]]
    move += [[0, scale, ((1 - scale) / 2 + down) * height]]
    size, border = (width, height), {"borderMode": cv2.BORDER_REFLECT}
    face = cv2.warpAffine(face, np.float32(move), size, **border)
    corners = np.asarray(box) * (width, height, width, height)
    middle, half = (corners[:2] + corners[2:]) / 2, (corners[2:] - corners[:2]) / 2
    half *= random.uniform(0.75, 1.05)
    centre, axes = (tuple(np.rint(pair).astype(int).tolist()) for pair in (middle, half))
    mask = cv2.ellipse(np.zeros((height, width), np.float32), centre, axes, 0, 0, 360, 1, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), random.uniform(0.005, 0.035) * width)[..., None]
    mask *= random.choice((0.5, 0.75, 1, 1, 1))
    return np.rint(outside + mask * (face - outside)).clip(0, 255).astype(np.uint8)


def _changed(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another colour and contrast, and a third each softer, sharper, or shrunk and grown back."""
    image = (image + random.uniform(-20, 20, 3) - 128) * random.uniform(0.9, 1.1) + 128
    image = (image + random.uniform(-25, 25)).astype(np.float32)
    way, strength = random.integers(3), random.uniform(0.3, 1)
    if way == 2:
        sides = [max(round(strength * side), 1) for side in image.shape[1::-1]]
        shrink, grow = random.choice(_RESAMPLING, 2).tolist()
        small = cv2.resize(image, sides, interpolation=shrink)
        return cv2.resize(small, image.shape[1::-1], interpolation=grow).clip(0, 255)
    soft = cv2.GaussianBlur(image, (0, 0), random.uniform(0.8, 2))
    return (image + strength * (-1) ** way * (image - soft)).clip(0, 255)
