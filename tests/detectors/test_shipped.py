"""The detector that comes with the project: its file, its self-test, its card."""

from itertools import product

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src import predict
from src.detectors import models, shipped


@pytest.fixture(scope="module")
def loaded():
    return shipped.load()


def test_the_file_is_small_and_loads(loaded):
    model, card, known = loaded
    assert shipped.FILE.stat().st_size < 2_000_000
    assert model.input.shape == (None, 224, 224, 3) and model.output.shape == (None, 1)
    head = models.parts(model)[1]
    logits = keras.Model(head.input, head.get_layer("families").output)
    features = np.stack([known.mean, known.features[1]])
    probability = head.predict(features, verbose=0).ravel()
    expected = 1 - 1 / (1 + np.exp(logits.predict(features, verbose=0)).sum(axis=1))
    np.testing.assert_allclose(probability, expected, atol=1e-5)
    assert logits.output.shape[1] == len(card["families"])
    low, high = card["band"]
    assert 0 < low < 1 and 0 < high < 1 and 0 < card["threshold"] < 1
    axes = known.components  # of the distance from the training pictures: orthonormal
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-4)


def test_it_is_the_default_of_verdicts_and_says_what_it_knows(loaded):
    detector = predict.load()
    assert detector.card == loaded[1]
    for name in loaded[1]["families"]:
        assert name in detector.about
    card = (shipped.FILE.with_name("README.md")).read_text(encoding="utf-8")
    assert card.startswith("---\nlicense:") and detector.about in card


def test_the_card_has_every_test_and_what_was_left_out(loaded):
    once = pd.DataFrame({"generator": ["real"] * 200 + ["gan_a"] * 200, "group": range(400)})
    once = once.assign(label=np.arange(400) // 200, score=np.arange(400) / 400)
    tests = [("as it is", "generators", 0.7), ("delivered", "generators", 0.6)]
    tests += [("as it is", "generators but gan", 0.5)]
    rows = pd.DataFrame(tests, columns=["files", "train_set", "value"])
    rows = rows.assign(test_set="gan_a", ci_low=0.4, ci_high=0.8)
    shares = {"real": 0.1, "unsure": 0.2, "fake": 0.7, "found at 5% false positives": 0.3}
    left = pd.DataFrame({"share": shares.keys(), "value": shares.values()})
    left = left.assign(left_out="gan", label="fake", ci_low=0.05, ci_high=0.95)
    text = shipped._card(once, rows, left, loaded[1] | {"headers": "None tell."})
    for words in (
        "(protocol `report`): 200 real, 200 gan_a.\n\n| fakes of",
        "| gan_a | 0.70 [0.40, 0.80] | 0.60 [0.40, 0.80] | 0.50 [0.40, 0.80] | 1.00 [",
        "| gan, fakes | – | 0.30 [0.05, 0.95] | 0.10 [0.05, 0.95] | 0.20 [0.05, 0.95] | 0.70 [",
        "were called real: 10% to 10%. Photographs",
        "were called fake: not measured.",
    ):
        assert words in text
    assert "\n\n\n" not in text and "{" not in text and text.endswith("`\n")


def test_another_computation_is_noticed(monkeypatch):
    monkeypatch.setattr(shipped, "STEPS", ("blur:9", *shipped.STEPS))
    with pytest.raises(RuntimeError, match="Self-test"):
        shipped.load()


@pytest.mark.parametrize("damage", [None, b"", b"{}" * 100, "half"])
def test_a_damaged_file_is_told(tmp_path, monkeypatch, damage):
    contents = shipped.FILE.read_bytes()
    file = tmp_path / "specialists.safetensors"
    if damage is not None:
        file.write_bytes(contents[: len(contents) // 2] if damage == "half" else damage)
    monkeypatch.setattr(shipped, "FILE", file)
    with pytest.raises(ValueError, match="git checkout"):
        shipped.load()


def test_generators_that_headers_tell_are_named(tmp_path, monkeypatch):
    rows, random = [], np.random.default_rng(0)
    for label, name, width in (("real", "real", 40), ("fake", "alike", 40), ("fake", "wide", 60)):
        for number in range(4):
            pixels = random.integers(0, 256, (40, width, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{name}{number}.jpg")
            sets = ("alike", "wide") if label == "real" else (name,)
            rows += [(each, label, f"{name}{number}.jpg") for each in sets]
    table = pd.DataFrame(rows, columns=["test_set", "label", "path"])
    monkeypatch.setattr(
        shipped.catalog, "files", lambda study, rows: [tmp_path / path for path in rows["path"]]
    )
    text = shipped._headers(None, table)
    assert "wide (width, AUC 1.00)" in text
    assert "none from photographs" in shipped._headers(None, table[table["test_set"] == "alike"])


def test_what_is_left_out_is_found_only_if_it_is_alike():
    """`twin` has the trace of `first`, `other` one of its own; photographs of `far` have both."""
    random, rows, x = np.random.default_rng(0), [], []
    trace = {"real": (0, 0), "first": (5, 0), "twin": (5, 0), "other": (0, 5)}
    for number, (source, name) in enumerate(product(("near", "far") * 60, trace)):
        label = "real" if name == "real" else "fake"
        test_set = f"{name}_{source}"
        rows.append((number, f"{number // 4}", name, source, label, test_set, source))
        x.append(random.normal(size=6) + np.append(trace[name], [0] * 4))
        x[-1][:2] += 5 * (source == "far")
    names = ["row", "group", "generator", "dataset", "label", "test_set", "real_source"]
    table = pd.DataFrame(rows, columns=names)
    views = dict.fromkeys(shipped.beyond.VIEWS, np.array(x))
    shares = shipped.left_out(table, views, shipped.beyond.out_of_fold(table, views)[0], len(table))
    value = shares.set_index(["left_out", "share"])["value"].unstack()
    np.testing.assert_allclose(value[["real", "unsure", "fake"]].sum(axis=1), 1)
    found = value["found at 5% false positives"]
    assert (found[["first", "twin"]] > 0.4).all() and found["other"] < 0.1
    # From photographs of `near` alone, what all of `far` share looks like a trace.
    assert value.loc["far", "fake"] > 0.5 and value.loc["near", "fake"] < 0.1
    wrong = f"{value['fake']['near']:.0%} to {value['fake']['far']:.0%}"
    assert shipped._wrong(shares, "real") == wrong
    assert shipped._wrong(shares, "fake").endswith(f"to {value.loc['other', 'real']:.0%}")


def test_of_one_source_and_one_family_nothing_can_be_left_out():
    random, labels = np.random.default_rng(0), np.arange(120) % 2
    table = pd.DataFrame({"row": range(120), "group": np.arange(120).astype(str)})
    table = table.assign(label=np.where(labels, "fake", "real"), dataset="near", test_set="one")
    table = table.assign(generator=np.where(labels, "one", "real"), real_source="near")
    views = dict.fromkeys(shipped.beyond.VIEWS, random.normal(size=(120, 4)))
    shares = shipped.left_out(table, views, shipped.beyond.out_of_fold(table, views)[0], 120)
    assert shares.empty and shipped._wrong(shares, "real") == "not measured"
