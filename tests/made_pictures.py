"""Pictures for tests."""

import numpy as np
from PIL import Image


def picture(height=40, width=60, seed=0):
    """A smooth gradient with some noise: compresses like a photograph."""
    rng = np.random.default_rng(seed)
    slope = np.add.outer(2 * np.arange(height), np.arange(width))[..., None] + [0, 30, 60]
    return (slope + rng.integers(0, 20, (height, width, 3))).clip(0, 255).astype(np.uint8)


def saved(file, pixels=None, **options):
    """Writes a picture; its format follows from the suffix."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture() if pixels is None else pixels).save(file, **options)
    return file


def make_files(folder, num_files=5):
    """Pictures `0.png`, `1.png`, …"""
    return [saved(folder / f"{index}.png", picture(seed=index)) for index in range(num_files)]


def photograph(seed, width=120, height=150):
    """A picture with large shapes and fine ones, `uint8`."""
    random, size = np.random.default_rng(seed), (width, height)
    layers = [
        Image.fromarray(random.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        for n in (4, 24)
    ]
    return np.asarray(Image.blend(*layers, 0.4))
