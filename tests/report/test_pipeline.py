"""The drawing of the README."""

import numpy as np

from src.report.pipeline import STATIONS, pipeline


def test_every_face_stands_above_its_eye_and_every_station_is_named():
    random = np.random.default_rng(0)
    faces = {
        name: tuple(random.integers(0, 256, (side, side, 3), np.uint8) for side in (64, 32))
        for name in ("photograph", "inpainting", "insight")
    }
    *pictures, above = pipeline(faces).axes
    shown = [axis.images[0].get_array() for axis in pictures]
    expected = [pair[row] for row in (0, 1) for pair in faces.values()]
    assert all(np.array_equal(*pair) for pair in zip(shown, expected, strict=True))
    assert [axis.get_title() for axis in pictures] == [*faces] + [""] * 3
    texts = [text.get_text() for text in above.texts]
    assert [text for text in texts if text in STATIONS] == [*STATIONS]
