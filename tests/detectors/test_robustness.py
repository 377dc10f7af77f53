from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import made_pictures
import made_results
import numpy as np
import pandas as pd
import pytest
from made_results import compute

from src import config
from src.detectors import robustness
from src.evaluation.results import SCORE_COLUMNS, read_results, write_results
from src.pictures.decoding import decode
from src.pictures.steps import apply
from src.report import charts


@pytest.fixture
def code():
    return robustness


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    test_sets = {"inpainting": "wiki", "insight": "wiki", "gan140k": "gan140k"}
    return replace(config.get_study("tiny"), num_resamples=60, test_sets=test_sets)


def test_conditions_run_from_mild_to_severe_and_repeat(code):
    families = code.FAMILIES
    assert set(charts._DEGRADED) == set(families)
    assert "chroma brightness blur pixelate jpeg noise downscale".split() == list(families)
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    picture = apply(picture, ("blur:5",))
    for steps, pixels in product(families.values(), (picture, picture[..., 0])):
        results = [apply(pixels, (step,)) for step in steps]
        assert all(result.shape == pixels.shape for result in results)
        assert np.array_equal(results, [apply(pixels, (step,)) for step in steps])
        harm = [np.abs(result - 1.0 * pixels).mean() for result in results]
        assert harm == sorted(harm) and len(steps) >= 3
        assert len(set(harm)) == len(steps) or "chroma:0" in steps and pixels.ndim == 2


class _Network:
    """Scores a picture by the means of its pixels and of its corner; counts what it has seen."""

    layers = ()

    def __init__(self):
        self.num_seen, self.weights = 0, 0

    def get_weights(self):
        return [np.array(self.weights)]

    def get_config(self):
        return {}

    def predict(self, batches, verbose):
        pixels = np.concatenate([np.asarray(part) for (part,) in batches])
        self.num_seen += len(pixels)
        return self.score(pixels)[:, None]

    @staticmethod
    def score(pixels):
        pixels = np.asarray(pixels, np.float32).reshape(len(pixels), len(pixels[0]), -1) / 255
        return 0.7 * pixels.mean(axis=(1, 2)) + 0.3 * pixels[:, :4, :4].mean(axis=(1, 2))


def _pictures(study, last_steps, protocol="controlled", square=("squash:32",)):
    """Files, and `scoring.Pictures` of them as far as is needed."""
    generator, rows = np.random.default_rng(0), []
    for label, folder, side in (("real", "wiki", (40, 30)), ("fake", "inpainting", (32, 32))):
        for number in range(6):
            path = f"{folder}/{number}.png"
            pixels = generator.integers(0, 256, (*side, 3), dtype=np.uint8)
            made_pictures.saved(study.data / "raw" / path, pixels)
            before = [*square, *["jpeg:75"] * (2 * (label == "real"))]
            plan = " ".join((before if protocol == "controlled" else []) + list(last_steps))
            generated = "real" if label == "real" else "inpainting"
            split = "test" if number else "valid"
            rows.append((path, label, split, plan, f"g{number}", generated))
    columns = ["path", "label", "split", "steps", "group", "generator"]
    table = pd.DataFrame(rows, columns=columns).assign(test_set="inpainting", real_source="wiki")
    celeba = table[table["label"] == "real"].assign(real_source="celeba")
    return SimpleNamespace(table=pd.concat([table, celeba]), protocol=protocol, identity="p")


def _degraded(study):
    """Three kinds of networks, scored together, and the boxes."""
    kinds = {"A": ("resize:16",), "F": ("spectrum", "resize:16"), "E": ("crop", "resize:12")}
    detectors = {name: (_Network(), _pictures(study, steps)) for name, steps in kinds.items()}
    boxes = detectors["A"][1].table.query("real_source == 'wiki'")[["path"]].reset_index(drop=True)
    for name, corner in zip(("left", "top", "right", "bottom"), (0.1, 0.2, 0.7, 0.9)):
        boxes[name] = corner + 0.02 * boxes.index
    crops = detectors["E"][1]
    crops.table = crops.table[crops.table["path"] != "wiki/3.png"]  # no face was found
    return detectors, boxes[boxes["path"] != "wiki/3.png"]


CONDITIONS = ["jpeg:30", "blur:7", "pixelate:3"]


def _score(code, study, detectors, boxes, conditions=CONDITIONS):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "FAMILIES", {"all": conditions})
        patch.setattr(code.training, "shared", lambda network: network)
        return code.score_degraded(study, detectors, boxes=boxes)


def test_degraded_scores_are_those_of_pictures_degraded_between_protocol_and_network(code, study):
    detectors, boxes = _degraded(study)
    detectors["R"] = (_Network(), _pictures(study, ("resize:16",), "report"))
    cut = ("square", "squash:32")  # where the fakes were no squashed photographs
    detectors["S"] = (_Network(), _pictures(study, ("spectrum", "resize:16"), square=cut))
    scores = _score(code, study, detectors, boxes)
    assert list(scores) == ["model_id", *SCORE_COLUMNS, "condition"]
    counts = {"A": 30, "F": 30, "E": 27, "R": 30, "S": 30}
    assert scores.groupby("model_id").size().to_dict() == counts
    assert set(scores["split"]) == {"test"} and set(scores["real_source"]) == {"wiki"}
    corners = boxes.set_index("path")
    for name, (network, pictures) in detectors.items():
        plan_of = pictures.table.query("real_source == 'wiki'").set_index("path")["steps"]
        for row in scores[scores["model_id"] == name].itertuples():
            plan = plan_of[row.path].split()
            before = ["square"] * (name == "S") + ["squash:32"]
            before += ["jpeg:75", "jpeg:75"] * (row.label == 0)
            num = 0 if name == "R" else len(before)
            assert name == "R" or plan[:num] == before
            plan = plan[:num] + [row.condition] + plan[num:]
            box = corners.loc[row.path].to_numpy() if name == "E" else None
            picture = apply(decode(study.data / "raw" / row.path), plan, box)
            expected = network.score(picture[None])[0]
            assert row.score == pytest.approx(expected, abs=1e-6), (name, row)


def test_degraded_scores_are_kept_until_model_or_pictures_change(code, study, monkeypatch):
    detectors, boxes = _degraded(study)

    def num_seen():
        return [network.num_seen for network, _ in detectors.values()]

    first = _score(code, study, detectors, boxes)
    files = sorted(file.name for file in (study.data / "degraded").iterdir())
    assert files == ["A.parquet", "E.parquet", "F.parquet"] and num_seen() == [30, 30, 27]
    pd.testing.assert_frame_equal(first, _score(code, study, detectors, boxes))
    assert num_seen() == [30, 30, 27]
    monkeypatch.setattr(code, "_PICTURES_AT_ONCE", 1)
    detectors["A"][0].weights = 1  # trained anew
    detectors["F"][1].identity = "prepared anew"
    pd.testing.assert_frame_equal(first, _score(code, study, detectors, boxes))
    assert num_seen() == [60, 60, 27]
    fewer = _score(code, study, {"E": detectors["E"]}, boxes, ["blur:7"])
    assert len(fewer) == 9 and num_seen() == [60, 60, 36]
    with pytest.raises(ValueError, match="'A' hold no tests of 'gan140k'"):
        _score(code, replace(study, train_set="gan140k"), detectors, boxes)


def test_degraded_rows_are_the_metrics_under_each_condition(code, study):
    clean = made_results.tested(made_results.scores())
    generator = np.random.default_rng(5)
    lots = [clean.assign(condition=step, score=generator.random(len(clean))) for step in CONDITIONS]
    rows = code.degraded_rows(study, pd.concat(lots), made_results.CARD)
    names = ("auc", "accuracy_at_threshold")
    assert rows["metric"].tolist() == [f"{name}@{step}" for step in CONDITIONS for name in names]
    for lot, (_, pair) in zip(lots, rows.groupby(np.arange(6) // 2)):
        threshold = made_results.CARD["threshold"]
        oracle = compute(lot["label"], lot["score"], threshold, lot["group"])
        assert pair["value"].tolist() == pytest.approx([oracle["auc"], oracle["accuracy"]])
        assert (pair["ci_low"] < pair["value"]).all() and (pair["num_fake"] == 120).all()
    write_results(study, rows)
    read = read_results(study)["metric"].tolist()  # families by name, levels as they came
    assert read == [f"{name}@{step}" for step in sorted(CONDITIONS) for name in names]


def test_breaks_first_finds_the_mildest_level_below_halfway(code):
    def rows(model, clean, low=0.6, **conditions):
        values = {"auc": clean}
        for family, levels in conditions.items():
            values |= {f"auc@{family}:{level}": value for level, value in levels.items()}
        table = pd.DataFrame({"metric": list(values), "value": list(values.values())})
        return table.assign(model=model, ci_low=low)

    sharp = rows("sharp", 0.9, jpeg={"90": 0.88, "70": 0.69, "50": 0.75}, noise={"2": 0.9})
    tough = rows("tough", 0.7, jpeg={"90": 0.7, "70": 0.65, "50": 0.59}, noise={"2": 0.61})
    coin = rows("coin", 0.52, low=0.4, jpeg={"90": 0.4, "70": 0.4, "50": 0.4})
    other = sharp.head(2).assign(metric="fpr_at_threshold", value=0.1, ci_low=0.9)
    table = code.breaks_first(pd.concat([coin, tough, sharp, other], ignore_index=True))
    assert table[["family", "model", "breaks_at", "auc", "first"]].values.tolist() == [
        ["jpeg", "sharp", "jpeg:70", 0.69, True],  # below 0.7
        ["jpeg", "tough", "jpeg:50", 0.59, False],  # below 0.6
        ["noise", "tough", "", 0.61, False],
        ["noise", "sharp", "", 0.9, False],
    ]
    empty = code.breaks_first(coin)
    assert empty.empty and list(empty) == list(table)
    with pytest.raises(ValueError, match="duplicate"):
        code.breaks_first(pd.concat([sharp, sharp]))
