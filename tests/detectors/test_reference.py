"""What is kept beside a detector, against pictures and formulas of which it is made."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from made_networks import VGG
from scipy.spatial.distance import mahalanobis

from src.detectors import models, reference, scoring
from src.files import write_json
from src.pictures.spectrum import magnitude_spectrum, to_uint8

STEPS = ("squash:64", "jpeg:75", "resize:32")


@pytest.fixture(scope="module")
def made(few):
    """A detector that nobody trained, with its card and its reference."""
    keras.utils.set_random_seed(0)
    model = models.build(VGG, few.image_size)
    card = {"train_set": "inpainting", "protocol": "report", "approach": "direct"}
    card |= {"scored": "1", "config": {"view": "resize"}}
    write_json(few.models / "X.json", card)
    found = reference.load(few, "X", model, STEPS)
    return SimpleNamespace(study=few, model=model, card=card, reference=found)


@pytest.fixture(scope="module")
def pictures(few, records):
    return scoring.prepare(few, records, "report", "direct")


def test_mean_spectra_are_those_of_the_validation_pictures(made, pictures):
    for label, mean in zip(("real", "fake"), made.reference.spectra):
        shown = pictures.pixels[pictures.rows("valid", label)]
        each = [to_uint8(magnitude_spectrum(image)) for image in shown]
        np.testing.assert_allclose(mean, np.mean(each, axis=0), rtol=1e-6)
    one = np.arange(16, dtype="uint8").reshape(4, 4, 1)
    np.testing.assert_array_equal(reference.spectrum_of(one), one[..., 0])


def test_distances_are_mahalanobis_and_few_validation_pictures_are_far(made, pictures):
    found, (extractor, _) = made.reference, models.parts(made.model)
    features = extractor.predict(pictures.pixels, verbose=0)
    distances = reference.squared_distances(found, features)
    *along, rest = found.variances
    axes = found.components
    covariance = rest * np.eye(axes.shape[1]) + axes.T @ np.diag(np.array(along) - rest) @ axes
    inverse = np.linalg.inv(covariance)
    standard = (features[:5] - found.mean) / found.deviation
    expected = [mahalanobis(row, np.zeros_like(row), inverse) ** 2 for row in standard]
    np.testing.assert_allclose(distances[:5], expected, rtol=1e-3)
    valid = distances[pictures.rows("valid")]
    # Batches of another size give other last digits.
    assert (valid > found.limit * 1.0001).mean() <= reference.ERROR_RATE
    assert np.isclose(valid, found.limit, rtol=1e-4).any()


def test_it_is_made_once_and_again_where_it_does_not_fit(made):
    file = made.study.models / "X.reference.npz"
    arguments = made.study, "X", made.model, STEPS
    then = file.stat().st_mtime_ns
    for now, before in zip(reference.load(*arguments), made.reference):
        np.testing.assert_array_equal(now, before)
    assert file.stat().st_mtime_ns == then
    for damage in (file.read_bytes()[:1000], b"no archive"):
        file.write_bytes(damage)
        assert reference.load(*arguments).limit == made.reference.limit
    write_json(made.study.models / "X.json", made.card | {"scored": "2"})
    assert reference.load(*arguments).scored == "2"


def test_another_answer_to_the_drawn_pictures_is_an_error(made):
    broken = models.build(VGG, made.study.image_size)
    broken.set_weights([1.5 * weight for weight in made.model.get_weights()])
    with pytest.raises(RuntimeError, match="Self-test: .* pip install -r requirements.txt"):
        reference.load(made.study, "X", broken, STEPS)
