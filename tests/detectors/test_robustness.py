from dataclasses import replace
from types import SimpleNamespace

import made_results
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src import config
from src.detectors import robustness
from src.evaluation.metrics import compute
from src.evaluation.results import SCORE_COLUMNS, read_results, write_results
from src.pictures.decoding import decode
from src.pictures.steps import apply
from src.report import charts


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    test_sets = {"inpainting": "wiki", "insight": "wiki", "gan140k": "gan140k"}
    return replace(config.get_study("tiny"), num_resamples=60, test_sets=test_sets)


def test_conditions_run_from_mild_to_severe(study):
    table = pd.DataFrame(robustness.all_conditions(), columns=["family", "level", "step"])
    assert table["family"].unique().tolist() == [
        "chroma", "brightness", "blur", "pixelate", "jpeg", "noise", "downscale"
    ]  # fmt: skip
    assert set(charts._DEGRADED) == set(table["family"])
    assert (table.groupby("family").size().iloc[:4] >= 4).all() and not table[
        "step"
    ].duplicated().any()
    picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    picture = apply(picture, ("blur:5",))
    for _, rows in table.groupby("family"):
        harm = [
            np.abs(apply(picture, (step,)).astype(float) - picture).mean() for step in rows["step"]
        ]
        assert harm == sorted(harm) and len(set(harm)) == len(harm)


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
        pixels = np.concatenate([batches[number][0] for number in range(len(batches))])
        self.num_seen += len(pixels)
        return self.score(pixels)[:, None]

    @staticmethod
    def score(pixels):
        pixels = np.asarray(pixels, np.float32).reshape(len(pixels), len(pixels[0]), -1)
        return (
            0.7 * pixels.mean(axis=(1, 2)) / 255 + 0.3 * pixels[:, :4, :4].mean(axis=(1, 2)) / 255
        )


def _pictures(study, last_steps, protocol="controlled", num=6):
    """Files, and `scoring.Pictures` of them as far as is needed."""
    generator, rows = np.random.default_rng(0), []
    for label in ("real", "fake"):
        for number in range(num):
            path = f"{'wiki' if label == 'real' else 'inpainting'}/{number}.png"
            file = study.data / "raw" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            side = (40, 30) if label == "real" else (32, 32)
            if not file.is_file():
                Image.fromarray(generator.integers(0, 256, (*side, 3), dtype=np.uint8)).save(file)
            before = ["squash:32"] + ["jpeg:75"] * (2 * (label == "real"))
            plan = (before if protocol == "controlled" else []) + list(last_steps)
            split = "valid" if number == 0 else "test"
            rows.append(
                {
                    "path": path,
                    "label": label,
                    "split": split,
                    "steps": " ".join(plan),
                    "group": f"g{number}",
                }
            )
    table = pd.DataFrame(rows).assign(test_set="inpainting", real_source="wiki")
    table["generator"] = table["label"].replace("fake", "inpainting")
    celeba = table[table["label"] == "real"].assign(real_source="celeba")
    return SimpleNamespace(table=pd.concat([table, celeba]), protocol=protocol, identity="p")


def _degraded(study):
    """Three kinds of networks, scored together, and the boxes."""
    boxes = pd.DataFrame(
        {"path": [f"{name}/{number}.png" for name in ("wiki", "inpainting") for number in range(6)]}
    )
    boxes[["left", "top", "right", "bottom"]] = (
        np.tile([0.1, 0.2, 0.7, 0.9], (12, 1)) + 0.02 * np.arange(12)[:, None]
    )
    kinds = {"A": ("resize:16",), "F": ("spectrum", "resize:16"), "E": ("crop", "resize:12")}
    detectors = {
        name: (_Network(), _pictures(study, last_steps)) for name, last_steps in kinds.items()
    }
    crops = detectors["E"][1]
    crops.table = crops.table[crops.table["path"] != "wiki/3.png"]  # no face was found
    return detectors, boxes[boxes["path"] != "wiki/3.png"]


CONDITIONS = ["jpeg:30", "blur:7", "pixelate:3"]


def test_degraded_scores_are_those_of_pictures_degraded_between_protocol_and_network(study):
    detectors, boxes = _degraded(study)
    detectors["R"] = (_Network(), _pictures(study, ("resize:16",), "report"))
    scores = robustness.score_degraded(study, detectors, conditions=CONDITIONS, boxes=boxes)
    assert list(scores) == ["model_id", *SCORE_COLUMNS, "condition"]
    assert scores.groupby("model_id").size().to_dict() == {"A": 30, "F": 30, "E": 27, "R": 30}
    assert set(scores["split"]) == {"test"} and set(scores["real_source"]) == {"wiki"}
    corners = boxes.set_index("path")
    for name, (network, pictures) in detectors.items():
        plan_of = pictures.table.query("real_source == 'wiki'").set_index("path")["steps"]
        for row in scores[scores["model_id"] == name].itertuples():
            plan = plan_of[row.path].split()
            num = 0 if name == "R" else 3 if row.label == 0 else 1
            assert name == "R" or plan[:num] == ["squash:32", "jpeg:75", "jpeg:75"][:num]
            plan = plan[:num] + [row.condition] + plan[num:]
            box = corners.loc[row.path].to_numpy() if name == "E" else None
            picture = apply(decode(study.data / "raw" / row.path), plan, box)
            assert row.score == pytest.approx(network.score(picture[None])[0], abs=1e-6), (
                name,
                row,
            )


def test_degraded_scores_are_kept_until_model_or_pictures_change(study, monkeypatch):
    detectors, boxes = _degraded(study)
    first = robustness.score_degraded(study, detectors, conditions=CONDITIONS, boxes=boxes)
    seen = {name: network.num_seen for name, (network, _) in detectors.items()}
    assert seen == {"A": 30, "F": 30, "E": 27}
    folder = study.data / "degraded"
    assert sorted(file.name for file in folder.iterdir()) == ["A.parquet", "E.parquet", "F.parquet"]
    again = robustness.score_degraded(study, detectors, conditions=CONDITIONS, boxes=boxes)
    pd.testing.assert_frame_equal(first, again)
    assert seen == {name: network.num_seen for name, (network, _) in detectors.items()}
    monkeypatch.setattr(robustness, "_BYTES_AT_ONCE", 1)  # one picture at a time
    detectors["A"][0].weights = 1  # trained anew
    detectors["F"][1].identity = "prepared anew"
    pd.testing.assert_frame_equal(
        first, robustness.score_degraded(study, detectors, conditions=CONDITIONS, boxes=boxes)
    )
    assert {name: network.num_seen for name, (network, _) in detectors.items()} == {
        "A": 60,
        "F": 60,
        "E": 27,
    }
    fewer = robustness.score_degraded(
        study, {"E": detectors["E"]}, conditions=["blur:7"], boxes=boxes
    )
    assert len(fewer) == 9 and detectors["E"][0].num_seen == 36


def test_says_what_is_wrong_with_pictures_to_degrade(study):
    detectors, boxes = _degraded(study)
    with pytest.raises(ValueError, match="'A' hold no test rows of 'gan140k'"):
        robustness.score_degraded(study, detectors, test_set="gan140k")
    with pytest.raises(ValueError, match="There is no step 'sepia'"):
        robustness.score_degraded(study, detectors, conditions=["sepia"], boxes=boxes)
    with pytest.raises(ValueError, match="'crop' needs a box"):
        robustness.score_degraded(study, {"E": detectors["E"]})
    assert not (study.data / "degraded").exists()


def test_degraded_rows_are_the_metrics_under_each_condition(study):
    clean = made_results.tested(made_results.scores())
    generator = np.random.default_rng(5)
    lots = [clean.assign(condition=step, score=generator.random(len(clean))) for step in CONDITIONS]
    rows = robustness.degraded_rows(study, pd.concat(lots), made_results.CARD)
    assert rows["metric"].tolist() == [
        f"{name}@{step}" for step in CONDITIONS for name in ("auc", "accuracy_at_threshold")
    ]
    for lot, (_, pair) in zip(lots, rows.groupby(np.arange(6) // 2)):
        oracle = compute(lot["label"], lot["score"], made_results.CARD["threshold"])
        assert pair["value"].tolist() == pytest.approx([oracle["auc"], oracle["accuracy"]])
        assert (pair["ci_low"] < pair["value"]).all() and (pair["num_fake"] == 120).all()
    write_results(study, rows)
    assert read_results(study)["metric"].tolist() == [  # families by name, levels as they came
        f"{name}@{step}" for step in sorted(CONDITIONS) for name in ("auc", "accuracy_at_threshold")
    ]


def test_breaks_first_finds_the_mildest_level_below_halfway(study):
    def rows(model, clean, low=0.6, **families):
        values = {"auc": clean} | {
            f"auc@{family}:{level}": value
            for family, levels in families.items()
            for level, value in levels.items()
        }
        table = pd.DataFrame({"metric": list(values), "value": list(values.values())})
        return table.assign(model=model, ci_low=low)

    sharp = rows("sharp", 0.9, jpeg={"90": 0.88, "80": 0.69, "70": 0.75}, noise={"2": 0.9})
    tough = rows("tough", 0.7, jpeg={"90": 0.7, "80": 0.65, "70": 0.59}, noise={"2": 0.61})
    coin = rows("coin", 0.52, low=0.4, jpeg={"90": 0.4, "80": 0.4, "70": 0.4})
    other = pd.DataFrame(
        [{"metric": "fpr_at_threshold", "value": 0.1, "model": "sharp", "ci_low": 0.9}] * 2
    )
    table = robustness.breaks_first(pd.concat([coin, tough, sharp, other], ignore_index=True))
    assert table[["family", "model", "breaks_at", "auc", "first"]].values.tolist() == [
        ["jpeg", "sharp", "jpeg:80", 0.69, True],  # below 0.7
        ["jpeg", "tough", "jpeg:70", 0.59, False],  # below 0.6
        ["noise", "tough", "", 0.61, False],
        ["noise", "sharp", "", 0.9, False],
    ]
    assert robustness.breaks_first(coin).empty and list(robustness.breaks_first(coin)) == list(
        table
    )
    with pytest.raises(ValueError, match="one row a model and metric"):
        robustness.breaks_first(pd.concat([sharp, sharp]))
