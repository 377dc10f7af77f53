"""Self-blended photographs: what is changed lies in the face or all around it, never both."""

import numpy as np
import pytest

from src.pictures.blending import self_blend

BOX = np.array([0.35, 0.3, 0.65, 0.7])


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    rows = np.linspace(60, 190, 120)[:, None, None] + np.zeros((120, 160, 3))
    noise = np.random.default_rng(0).normal(scale=8, size=rows.shape)
    return np.rint(rows + noise).clip(0, 255).astype(np.uint8)


def test_face_and_surroundings_come_from_two_versions(photograph):
    own = {"face": 0, "surroundings": 0}
    for seed in range(40):
        blended = self_blend(photograph, BOX, seed)
        assert blended.shape == photograph.shape and blended.dtype == np.uint8
        corner = (blended[:20, :20] == photograph[:20, :20]).all()
        middle = (blended[55:65, 75:85] == photograph[55:65, 75:85]).mean()
        own["surroundings" if corner else "face"] += 1
        if corner:
            assert middle < 0.5
        else:  # up to the move, which is of pixels, and the share of the mask
            assert not (blended[-20:, -20:] == photograph[-20:, -20:]).all()
    assert min(own.values()) >= 10


def test_the_seed_decides(photograph):
    first, again, other = (self_blend(photograph, BOX, seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_a_border_is_left_where_the_mask_ends(photograph):
    """Of a grey picture only the colour differs: it changes once, between face and surroundings."""
    grey = np.full_like(photograph, 128)
    for seed in range(10):
        for line in self_blend(grey, BOX, seed)[60, 80:].astype(float).T:  # red, green, blue
            steps = np.diff(line)
            assert (steps >= 0).all() or (steps <= 0).all()
            assert steps[40:].sum() == 0
