import json
from dataclasses import replace
from types import SimpleNamespace

import mutants
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from PIL import Image
from scipy import special

import src.comparisons
import src.config
from src import charts, evaluation, images, metrics

CARD = {"train_set": "inpainting", "seed": 0, "threshold": 0.42, "temperature": 2.0, "fingerprint": "f"}
CARD |= {"approach": "direct", "model": "A", "protocol": "controlled"}


@pytest.fixture
def code():
    return src.comparisons


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(src.config, "HOME", tmp_path)
    test_sets = {"inpainting": "wiki", "insight": "wiki", "gan140k": "gan140k"}
    return replace(src.config.get_study("tiny"), num_resamples=60, test_sets=test_sets)


def _scores(shift=1.0, seed=0, num_groups=90):
    """Two photographs and their fakes in a group, three test sets, and test photographs of `celeba` without fakes."""
    generator = np.random.default_rng(seed)
    tables = []
    lots = [("inpainting", "wiki"), ("insight", "wiki"), ("gan140k", "gan140k"), ("inpainting", "celeba")]
    for test_set, source in lots:
        for label in (0, 1) if source != "celeba" else (0,):
            number = np.repeat(np.arange(num_groups), 2)
            split = np.array(["valid", "test", "test"])[number % 3]
            name = [f"{group:03}_{copy}.jpg" for group, copy in zip(number, np.tile([0, 1], num_groups))]
            table = pd.DataFrame({"path": [f"{'fake-' + test_set if label else source}/{value}" for value in name]})
            score = special.expit(shift * (2 * label - 1) + generator.normal(size=len(number)))
            table = table.assign(label=label, generator=test_set if label else "real", split=split, score=score)
            table["group"] = [f"{source}/{group}" for group in number]
            table = table.assign(test_set=test_set, real_source=source)
            tables.append(table if test_set == "inpainting" and source == "wiki" else table[table["split"] == "test"])
    return pd.concat(tables, ignore_index=True)


def _tested(scores, test_set="inpainting", source="wiki"):
    return scores.query("split == 'test' and test_set == @test_set and real_source == @source")


def _write(study, **scores):
    for model_id, frame in scores.items():
        evaluation.write_scores(study, model_id.replace("__", "-"), frame)


def test_holm_rejects_step_by_step(code, study):
    generator = np.random.default_rng(0)
    for _ in range(50):
        p_values = generator.random(6).round(2) ** 2
        adjusted = code.holm(p_values)
        for alpha in (0.01, 0.05, 0.2, 0.5):
            rejected = set()
            for step, place in enumerate(np.argsort(p_values, kind="stable")):
                if p_values[place] * (6 - step) >= alpha:
                    break
                rejected.add(place)
            assert rejected == set(np.flatnonzero(adjusted < alpha))
    assert code.holm([0.9, 0.9]).tolist() == [1, 1] and code.holm([0.02]).tolist() == [0.02]


def test_differences_are_those_of_paired_tests_on_each_set(code, study):
    first, second = _scores(1.0), _scores(0.2, seed=1).sample(frac=1, random_state=0)
    _write(study, A=first, B=second, C=_scores(1.0, seed=2))
    table = code.differences(study, [("A", "B"), ("A", "C")])
    assert table["test_set"].tolist() == list(study.test_sets) * 2 and table["real_source"][2] == "gan140k"
    row = table.iloc[0]
    paired = _tested(first).merge(_tested(second), on=["path", "label", "group"], suffixes=("_1", "_2"))
    arrays = paired["label"], paired["score_1"], paired["score_2"], paired["group"]
    areas = [sklearn.metrics.roc_auc_score(paired["label"], paired[f"score_{number}"]) for number in (1, 2)]
    assert row[["auc_first", "auc_second", "difference"]].tolist() == pytest.approx([*areas, areas[0] - areas[1]])
    assert row["p_value"] == metrics.delong(*arrays)["p_value"]
    interval = metrics.compare(*arrays, num_resamples=60, seed=0).iloc[0]
    assert row[["ci_low", "ci_high"]].tolist() == interval[["ci_low", "ci_high"]].tolist()
    assert row[["num_real", "num_fake", "num_left_out"]].tolist() == [120, 120, 0]
    np.testing.assert_array_equal(table["p_adjusted"], code.holm(table["p_value"]))
    assert table["real"].tolist() == [True] * 3 + [False] * 3


def test_a_difference_is_real_only_beside_the_whole_family(code, study):
    first = _scores(0.5)
    other = special.expit(special.logit(first["score"]) + 0.12 * (2 * first["label"] - 1) * (first["test_set"] != "x"))
    noise = np.random.default_rng(3).normal(size=len(first))
    second = first.assign(score=special.expit(special.logit(other) + 0.5 * noise))
    _write(study, A=first, B=second, **{f"C{number}": _scores(0.5, seed=number) for number in range(9, 16)})
    alone = code.differences(replace(study, test_sets={"inpainting": "wiki"}), [("B", "A")])
    family = [("B", "A"), *((f"C{number}", "A") for number in range(9, 16))]
    among = code.differences(replace(study, test_sets={"inpainting": "wiki"}), family)
    assert alone["p_value"][0] == among["p_value"][0] and alone["p_adjusted"][0] < among["p_adjusted"][0]
    assert (among["p_adjusted"] >= among["p_value"]).all() and not (among["real"] & (among["p_adjusted"] >= 0.05)).any()


def test_copies_in_their_group_change_no_difference(code, study):
    first, second = _scores(0.6), _scores(0.4, seed=1)
    four = [
        pd.concat([frame.assign(path=frame["path"].str.replace("/", f"/{copy}")) for copy in range(4)])
        for frame in (first, second)
    ]
    _write(study, A=first, B=second, A4=four[0], B4=four[1])
    once, often = (code.differences(study, [pair]) for pair in (("A", "B"), ("A4", "B4")))
    columns = ["difference", "ci_low", "ci_high", "p_value", "p_adjusted"]
    np.testing.assert_allclose(once[columns], often[columns], atol=1e-12)


def test_an_interval_that_holds_zero_is_no_real_difference(code, study, monkeypatch):
    _write(study, A=_scores(1.0), B=_scores(0.2, seed=1))
    assert code.differences(study, [("A", "B")])["real"].all()
    wide = pd.DataFrame([{"ci_low": -0.1, "ci_high": 0.3, "num_real": 1, "num_fake": 1}])
    monkeypatch.setattr(evaluation, "compare", lambda *arrays, **options: wide)
    assert not code.differences(study, [("A", "B")])["real"].any()


def test_differences_count_what_only_one_has_scored(code, study):
    first = _scores()
    fewer = first.drop(_tested(first).index[:5])
    _write(study, A=first, B=fewer.query("test_set != 'gan140k'"), C=fewer.query("test_set != 'gan140k'"))
    table = code.differences(study, [("B", "C")])  # a set that could not be had is in neither
    assert table["test_set"].tolist() == ["inpainting", "insight"]
    with pytest.raises(ValueError, match="120 and 0 test rows|240 and 0 test rows"):
        code.differences(study, [("A", "B")])
    _write(study, B=fewer)
    table = code.differences(study, [("A", "B")])
    assert table["num_left_out"].tolist() == [5, 0, 0] and table["num_real"].tolist() == [115, 120, 120]
    assert (table["difference"] == 0).all() and (table["p_value"] == 1).all() and not table["real"].any()
    with pytest.raises(ValueError, match="share a test set of 'tiny'"):
        code.differences(study, [])
    with pytest.raises(FileNotFoundError, match="no scores of 'D'"):
        code.differences(study, [("A", "D")])


def test_protocol_differences_are_controlled_minus_report_on_the_same_files(code, study):
    report, controlled = _scores(2.0), _scores(0.5, seed=1).sample(frac=1, random_state=1)
    _write(study, A__report=report, A__controlled=controlled)
    table = code.protocol_differences(study, ["A"])
    area = {
        name: sklearn.metrics.roc_auc_score(lot["label"], lot["score"])
        for name, lot in (("report", _tested(report)), ("controlled", _tested(controlled)))
    }
    row = table.iloc[0]
    assert row["model"] == "A" and table["real"].all()
    for name, value in area.items():
        assert row[f"auc_{name}"] == pytest.approx(value)
    assert row["difference"] == pytest.approx(area["controlled"] - area["report"])
    assert (table["ci_high"] < 0).all() and "second" not in table


def test_reliability_agrees_with_a_loop_over_bins(code, study):
    scores = _scores()
    scores.loc[scores.index[:4], "score"] = 0, 1, 0.5, 1
    bins = code.reliability(scores, CARD, num_bins=10)
    assert bins[["test_set", "real_source"]].drop_duplicates().values.tolist() == [
        ["inpainting", "wiki"], ["insight", "wiki"], ["gan140k", "gan140k"]
    ]  # fmt: skip
    for calibrated, temperature in ((False, 1), (True, 2)):
        own = bins[(bins["test_set"] == "insight") & (bins["calibrated"] == calibrated)].set_index("bin")
        lot = _tested(scores, "insight")
        logit = np.log(lot["score"] / (1 - lot["score"])) / temperature
        value = 1 / (1 + np.exp(-logit))
        assert own["num_images"].sum() == len(lot)
        for number, row in own.iterrows():
            inside = (value >= number / 10) & (value < (number + 1) / 10)
            oracle = [value[inside].mean(), lot["label"][inside].mean(), inside.sum()]
            assert row[["mean_score", "share_fake", "num_images"]].tolist() == pytest.approx(oracle)
    assert bins.groupby("test_set")["in_domain"].first().to_dict() == {
        "inpainting": True, "insight": False, "gan140k": False
    }  # fmt: skip
    several = code.reliability(scores, {**CARD, "train_set": "inpainting+gan140k"})
    assert several.groupby("test_set")["in_domain"].first().tolist() == [True, True, False]  # gan140k comes first


def test_calibration_errors_are_those_of_the_metrics(code, study):
    scores = _scores(0.3)
    errors = code.calibration_errors(code.reliability(scores, CARD)).set_index("test_set")
    assert errors.index.tolist() == ["inpainting", "insight", "gan140k"] and (errors["num_images"] == 240).all()
    for test_set, row in errors.iterrows():
        lot = _tested(scores, test_set, study.test_sets[test_set])
        assert row["ece"] == pytest.approx(metrics.metrics(lot["label"], lot["score"])["ece"])
        cooled = metrics.apply_temperature(lot["score"], 2)
        assert row["ece_calibrated"] == pytest.approx(metrics.metrics(lot["label"], cooled)["ece"])


def test_false_alarms_count_each_photograph_once_at_the_threshold_of_the_card(code, study):
    scores = _scores(0.3)
    table = code.false_alarms(scores, CARD)
    assert table[["split", "real_source", "num_real"]].values.tolist() == [
        ["valid", "wiki", 60], ["test", "wiki", 120], ["test", "celeba", 120], ["test", "gan140k", 120]
    ]  # fmt: skip
    valid = scores.query("split == 'valid' and label == 0")
    lots = [valid, *(_tested(scores, *lot).query("label == 0") for lot in
                     (("inpainting", "wiki"), ("inpainting", "celeba"), ("gan140k", "gan140k")))]  # fmt: skip
    for row, lot in zip(table.itertuples(), lots):
        oracle = metrics.rate(lot["score"] >= 0.42, lot["group"])
        assert (row.value, row.ci_low, row.ci_high) == tuple(oracle.values())
    order = scores["test_set"].map({"insight": 0, "gan140k": 1, "inpainting": 2}).sort_values(kind="stable").index
    again = code.false_alarms(scores.loc[order], CARD)  # the training set's preparation counts, whichever comes first
    keys = ["split", "real_source"]
    pd.testing.assert_frame_equal(
        table.sort_values(keys, ignore_index=True), again.sort_values(keys, ignore_index=True)
    )


def _attributes(scores):
    """Of photographs only: a gender, a face size, whether it is grey."""
    paths = scores.loc[scores["label"] == 0, "path"].drop_duplicates().to_numpy()
    number = np.array([int(path.split("/")[1][:3]) for path in paths])
    copy = np.array([int(path[-5]) for path in paths])
    size = np.where(number % 3 == 0, number / 100, number / 150)  # of validation: 0, 0.03, … 0.87
    return pd.DataFrame(
        {"gender": np.where(copy, "male", "female"), "face_size": size, "grey": number < 6}, index=paths
    )


def test_subgroups_are_the_rows_of_their_pictures(code, study):
    scores = _scores()
    attributes = _attributes(scores)
    rows, skipped = code.subgroups(study, scores, attributes, CARD)
    assert tuple(rows) == evaluation.RESULT_COLUMNS
    name = scores["path"].str.split("/").str[1]
    female = scores[name.str.endswith("_0.jpg")]
    oracle = evaluation.result_rows(
        study, _tested(female, "insight"), approach="direct", model="A", protocol="controlled", card=CARD
    ).set_index("metric")
    own = rows[rows["test_set"] == "insight"].set_index("metric")
    for metric in ("auc", "fpr_at_threshold"):
        columns = ["value", "ci_low", "ci_high", "num_real", "num_fake"]
        assert own.loc[f"{metric}@gender:female", columns].tolist() == oracle.loc[metric, columns].tolist()
    assert own.loc["auc@gender:male", ["num_real", "num_fake"]].tolist() == [60, 60]
    sizes = {metric for metric in own.index if metric.startswith("auc@face_size")}
    assert sizes == {"auc@face_size:<0.435", "auc@face_size:>=0.435"}  # the median of the validation photographs
    skip = skipped.set_index(["test_set", "real_source", "subgroup"])[["num_real", "num_fake"]]
    assert skip.loc[("inpainting", "wiki", "grey:True")].tolist() == [8, 8]
    assert skip.loc[("inpainting", "celeba", "gender:female")].tolist() == [60, 0]
    assert skip.loc[("gan140k", "gan140k", "grey:True")].tolist() == [8, 8]
    assert "auc@grey:False" in own.index and not rows["metric"].str.contains("True|unknown").any()
    evaluation.write_results(study, rows)


def test_the_cut_comes_from_validation_photographs_or_from_the_caller(code, study):
    scores = _scores()
    attributes = _attributes(scores)
    tested = attributes.index.isin(_tested(scores)["path"])
    moved = attributes.assign(face_size=attributes["face_size"] + 0.5 * tested)
    for table, bounds, cut in ((moved, None, "0.435"), (attributes, {"face_size": 0.12345}, "0.123")):
        rows, skipped = code.subgroups(study, scores, table, CARD, bounds=bounds)
        found = [*rows["metric"], *("auc@" + skipped["subgroup"])]
        sizes = {name.split(":")[1] for name in found if "@face_size" in name}
        assert sizes <= {f"<{cut}", f">={cut}"} and sizes
    row = rows[rows["metric"] == "auc@face_size:<0.123"].iloc[0]
    lot = _tested(scores, row["test_set"], row["real_source"])
    numbers = lot["path"].str.split("/").str[1].str[:3].astype(int)
    assert row["num_real"] == ((numbers / 150 < 0.123) & (lot["label"] == 0)).sum()
    unknown = attributes.assign(face_size=attributes["face_size"].where(tested))
    with pytest.raises(ValueError, match="No validation photograph has a 'face_size'. Say in `bounds`"):
        code.subgroups(study, scores, unknown, CARD)


def test_a_fake_has_attributes_of_its_own_or_those_of_its_photograph(code, study):
    scores = _scores()
    photographs = _attributes(scores).filter(like="wiki/", axis=0)[["gender"]]
    fakes = scores.loc[scores["label"] == 1, "path"].drop_duplicates()
    other = pd.DataFrame({"gender": "other"}, index=fakes[fakes.str.startswith("fake-insight/")])
    _, skipped = code.subgroups(study, scores, pd.concat([photographs, other]), CARD)
    skip = skipped.set_index(["test_set", "subgroup"])[["num_real", "num_fake"]]
    assert skip.loc[("insight", "gender:other")].tolist() == [0, 120]
    # A photograph of the same name in another group is another photograph.
    apart = scores.assign(group=np.where(scores["label"] == 1, "fake/" + scores["group"], scores["group"]))
    _, skipped = code.subgroups(study, apart, photographs, CARD)
    assert skipped.set_index(["test_set", "subgroup"]).loc[("insight", "gender:unknown"), "num_fake"] == 120
    with pytest.raises(ValueError, match="each path once in attributes, received 1 twice, the first: celeba|wiki"):
        code.subgroups(study, scores, pd.concat([photographs, photographs.iloc[:1]]), CARD)


def test_conditions_run_from_mild_to_severe(code, study):
    table = pd.DataFrame(code.robustness_conditions(), columns=["family", "level", "step"])
    assert table["family"].unique().tolist() == [
        "chroma", "brightness", "blur", "pixelate", "jpeg", "noise", "downscale"
    ]  # fmt: skip
    assert set(charts._DEGRADED) == set(table["family"])
    assert (table.groupby("family").size().iloc[:4] >= 4).all() and not table["step"].duplicated().any()
    picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    picture = images.apply(picture, ("blur:5",))
    for _, rows in table.groupby("family"):
        harm = [np.abs(images.apply(picture, (step,)).astype(float) - picture).mean() for step in rows["step"]]
        assert harm == sorted(harm) and len(set(harm)) == len(harm)


class _Network:
    """Scores a picture by the mean of its pixels and of its upper left corner; counts what it has seen."""

    def __init__(self):
        self.num_seen = 0

    def predict(self, batches, verbose):
        pixels = np.concatenate([batches[number][0] for number in range(len(batches))])
        self.num_seen += len(pixels)
        return self.score(pixels)[:, None]

    @staticmethod
    def score(pixels):
        pixels = np.asarray(pixels, np.float32).reshape(len(pixels), len(pixels[0]), -1)
        return 0.7 * pixels.mean(axis=(1, 2)) / 255 + 0.3 * pixels[:, :4, :4].mean(axis=(1, 2)) / 255


def _pictures(study, last_steps, protocol="controlled", num=6):
    """Files, and `pipeline.Pictures` of them as far as is needed; the last photograph lacks the steps of the fakes."""
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
            rows.append({"path": path, "label": label, "split": split, "steps": " ".join(plan), "group": f"g{number}"})
    table = pd.DataFrame(rows).assign(test_set="inpainting", real_source="wiki")
    table["generator"] = table["label"].replace("fake", "inpainting")
    celeba = table[table["label"] == "real"].assign(real_source="celeba")
    return SimpleNamespace(table=pd.concat([table, celeba]), protocol=protocol, fingerprint="p")


def _card(study, model_id, **changes):
    study.models.mkdir(parents=True, exist_ok=True)
    (study.models / f"{model_id}.json").write_text(json.dumps({**CARD, **changes}))


def _degraded(code, study):
    """Three kinds of networks, scored together, and the boxes."""
    boxes = pd.DataFrame({"path": [f"{name}/{number}.png" for name in ("wiki", "inpainting") for number in range(6)]})
    boxes[["left", "top", "right", "bottom"]] = np.tile([0.1, 0.2, 0.7, 0.9], (12, 1)) + 0.02 * np.arange(12)[:, None]
    kinds = {"A": ("resize:16",), "F": ("spectrum", "resize:16"), "E": ("crop", "resize:12")}
    detectors = {name: (_Network(), _pictures(study, last_steps)) for name, last_steps in kinds.items()}
    crops = detectors["E"][1]
    crops.table = crops.table[crops.table["path"] != "wiki/3.png"]  # no face was found
    for name in kinds:
        _card(study, name)
    return detectors, boxes[boxes["path"] != "wiki/3.png"]


CONDITIONS = ["jpeg:30", "blur:7", "pixelate:3"]


def test_degraded_scores_are_those_of_pictures_degraded_between_protocol_and_network(code, study):
    detectors, boxes = _degraded(code, study)
    detectors["R"] = (_Network(), _pictures(study, ("resize:16",), "report"))
    _card(study, "R", protocol="report")
    scores = code.score_degraded(study, detectors, conditions=CONDITIONS, boxes=boxes)
    assert list(scores) == ["model_id", *evaluation.SCORE_COLUMNS, "condition"]
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
            picture = images.apply(images.decode(study.data / "raw" / row.path), plan, box)
            assert row.score == pytest.approx(network.score(picture[None])[0], abs=1e-6), (name, row)


def test_degraded_scores_are_kept_until_model_or_pictures_change(code, study, monkeypatch):
    detectors, boxes = _degraded(code, study)
    first = code.score_degraded(study, detectors, conditions=CONDITIONS, boxes=boxes)
    seen = {name: network.num_seen for name, (network, _) in detectors.items()}
    assert seen == {"A": 30, "F": 30, "E": 27}
    folder = study.data / "degraded"
    assert sorted(file.name for file in folder.iterdir()) == ["A.parquet", "E.parquet", "F.parquet"]
    again = code.score_degraded(study, detectors, conditions=CONDITIONS, boxes=boxes)
    pd.testing.assert_frame_equal(first, again)
    assert seen == {name: network.num_seen for name, (network, _) in detectors.items()}
    monkeypatch.setattr(code, "_BYTES_AT_ONCE", 1)  # one picture at a time
    _card(study, "A", fingerprint="trained anew")
    detectors["F"][1].fingerprint = "prepared anew"
    pd.testing.assert_frame_equal(first, code.score_degraded(study, detectors, conditions=CONDITIONS, boxes=boxes))
    assert {name: network.num_seen for name, (network, _) in detectors.items()} == {"A": 60, "F": 60, "E": 27}
    fewer = code.score_degraded(study, {"E": detectors["E"]}, conditions=["blur:7"], boxes=boxes)
    assert len(fewer) == 9 and detectors["E"][0].num_seen == 36


def test_says_what_is_wrong_with_pictures_to_degrade(code, study):
    detectors, boxes = _degraded(code, study)
    with pytest.raises(ValueError, match="'A' hold no test rows of 'gan140k'"):
        code.score_degraded(study, detectors, test_set="gan140k")
    with pytest.raises(ValueError, match="There is no step 'sepia'"):
        code.score_degraded(study, detectors, conditions=["sepia"], boxes=boxes)
    with pytest.raises(ValueError, match="'crop' needs a box"):
        code.score_degraded(study, {"E": detectors["E"]})
    with pytest.raises(FileNotFoundError, match="train B first"):
        code.score_degraded(study, {"B": detectors["A"]})
    assert not (study.data / "degraded").exists()


def test_degraded_rows_are_the_metrics_under_each_condition(code, study):
    clean = _tested(_scores())
    generator = np.random.default_rng(5)
    lots = [clean.assign(condition=step, score=generator.random(len(clean))) for step in CONDITIONS]
    rows = code.degraded_rows(study, pd.concat(lots), CARD)
    assert rows["metric"].tolist() == [
        f"{name}@{step}" for step in CONDITIONS for name in ("auc", "accuracy_at_threshold")
    ]
    for lot, (_, pair) in zip(lots, rows.groupby(np.arange(6) // 2)):
        oracle = metrics.metrics(lot["label"], lot["score"], CARD["threshold"])
        assert pair["value"].tolist() == pytest.approx([oracle["auc"], oracle["accuracy"]])
        assert (pair["ci_low"] < pair["value"]).all() and (pair["num_fake"] == 120).all()
    evaluation.write_results(study, rows)
    assert evaluation.read_results(study)["metric"].tolist() == [  # families by name, levels as they came
        f"{name}@{step}" for step in sorted(CONDITIONS) for name in ("auc", "accuracy_at_threshold")
    ]


def test_breaks_first_finds_the_mildest_level_below_halfway(code, study):
    def rows(model, clean, low=0.6, **families):
        values = {"auc": clean} | {
            f"auc@{family}:{level}": value for family, levels in families.items() for level, value in levels.items()
        }
        table = pd.DataFrame({"metric": list(values), "value": list(values.values())})
        return table.assign(model=model, ci_low=low)

    sharp = rows("sharp", 0.9, jpeg={"90": 0.88, "80": 0.69, "70": 0.75}, noise={"2": 0.9})
    tough = rows("tough", 0.7, jpeg={"90": 0.7, "80": 0.65, "70": 0.59}, noise={"2": 0.61})
    coin = rows("coin", 0.52, low=0.4, jpeg={"90": 0.4, "80": 0.4, "70": 0.4})
    other = pd.DataFrame([{"metric": "fpr_at_threshold", "value": 0.1, "model": "sharp", "ci_low": 0.9}] * 2)
    table = code.breaks_first(pd.concat([coin, tough, sharp, other], ignore_index=True))
    assert table[["family", "model", "breaks_at", "auc", "first"]].values.tolist() == [
        ["jpeg", "sharp", "jpeg:80", 0.69, True],  # below 0.7
        ["jpeg", "tough", "jpeg:70", 0.59, False],  # below 0.6
        ["noise", "tough", "", 0.61, False],
        ["noise", "sharp", "", 0.9, False],
    ]
    assert code.breaks_first(coin).empty and list(code.breaks_first(coin)) == list(table)
    with pytest.raises(ValueError, match="one row a model and metric"):
        code.breaks_first(pd.concat([sharp, sharp]))


MUTANTS = {  # bug: (the code, the code with the bug, the check that must notice)
    "Holm forgotten": (
        'table["p_adjusted"] = holm(table["p_value"])',
        'table["p_adjusted"] = table["p_value"]',
        test_a_difference_is_real_only_beside_the_whole_family,
    ),
    "Holm without its running maximum": (
        "np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))",
        "(p_values[order] * np.arange(len(p_values), 0, -1))",
        test_holm_rejects_step_by_step,
    ),
    "images drawn instead of groups": (
        '("label", "first", "second", "group")',
        '("label", "first", "second", "path")',
        test_copies_in_their_group_change_no_difference,
    ),
    "unpaired bootstrap": (
        "evaluation.compare(*arrays,",
        "evaluation.compare(arrays[0], arrays[1], arrays[2].sample(frac=1, random_state=0), arrays[3],",
        test_differences_are_those_of_paired_tests_on_each_set,
    ),
    "foreign photographs mixed in": (
        '(table["test_set"] == test_set) & (table["real_source"] == real_source)',
        '(table["test_set"] == test_set)',
        test_differences_are_those_of_paired_tests_on_each_set,
    ),
    "protocols the wrong way round": (
        '(f"{model}-controlled", f"{model}-report")',
        '(f"{model}-report", f"{model}-controlled")',
        test_protocol_differences_are_controlled_minus_report_on_the_same_files,
    ),
    "temperature before and after swapped": (
        '(False, lot["score"].to_numpy()), (True, cooled)',
        '(True, lot["score"].to_numpy()), (False, cooled)',
        test_calibration_errors_are_those_of_the_metrics,
    ),
    "validation images in the reliability": (
        'tested = scores[scores["split"] == "test"]\n    trained',
        'tested = scores[scores["split"] != "train"]\n    trained',
        test_calibration_errors_are_those_of_the_metrics,
    ),
    "threshold from the test split": (
        'lot["score"] >= card["threshold"]',
        'lot["score"] >= evaluation.choose_threshold(tested["label"], tested["score"])',
        test_false_alarms_count_each_photograph_once_at_the_threshold_of_the_card,
    ),
    "a photograph counted in every test set": (
        '.drop_duplicates(["split", "path"])',
        "",
        test_false_alarms_count_each_photograph_once_at_the_threshold_of_the_card,
    ),
    "the cut from test photographs": (
        'column[valid].median()',
        'column.median()',
        test_the_cut_comes_from_validation_photographs_or_from_the_caller,
    ),
    "fakes without their photograph": (
        'np.where(scores["label"] == 1, path, None)',
        "None",
        test_subgroups_are_the_rows_of_their_pictures,
    ),
    "a namesake taken for the photograph": (
        '[scores["group"], scores["path"]',
        '[scores["label"] * 0, scores["path"]',
        test_a_fake_has_attributes_of_its_own_or_those_of_its_photograph,
    ),
    "degraded before the protocol": (
        'if protocol == "controlled":',
        "if False:",
        test_degraded_scores_are_those_of_pictures_degraded_between_protocol_and_network,
    ),
    "conditions mixed up": (
        "zip(probability.T, conditions)",
        "zip(probability.T, reversed(conditions))",
        test_degraded_scores_are_those_of_pictures_degraded_between_protocol_and_network,
    ),
    "scores of an older model": (
        '"made_from") != made_from',
        '"made_from") is None',
        test_degraded_scores_are_kept_until_model_or_pictures_change,
    ),
    "half of the AUC in place of half of what is above chance": (
        "(clean[auc.index] + 0.5) / 2",
        "clean[auc.index] / 2",
        test_breaks_first_finds_the_mildest_level_below_halfway,
    ),
}  # fmt: skip


@pytest.mark.parametrize("bug", MUTANTS)
def test_checks_notice_a_planted_bug(study, monkeypatch, bug):
    old, new, check = MUTANTS[bug]
    mutant = mutants.plant("src.comparisons", old, new)
    arguments = (mutant, study, monkeypatch)[: check.__code__.co_argcount]
    assert mutants.noticed(check, *arguments), f"{check.__name__} passes in spite of it."
