"""Specialists on made features: each family of fakes stands out in one of them."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from src.config import PROTOCOLS, get_study
from src.data import catalog
from src.data.catalog import unit_interval
from src.data.readers import BOX
from src.detectors import beyond, experiments
from src.evaluation.audit import file_traits

FAMILIES = ("ring", "grid")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """150 photographs, and of each a fake by every generator; two generators are one family."""
    tasks = []
    for generator in ("ring_a", "ring_b", "grid"):
        for label in ("real", "fake"):
            of = generator if label == "fake" else "real"
            rows = pd.DataFrame({"group": [f"person {n}" for n in range(150)]})
            tasks.append(rows.assign(label=label, generator=of, test_set=generator))
    table = pd.concat(tasks, ignore_index=True).assign(
        real_source="wiki", task=lambda t: t.test_set
    )
    table["path"] = table["generator"] + "/" + table["group"]
    return table.assign(row=table.groupby("path", sort=False).ngroup())


@pytest.fixture(scope="module")
def views(table) -> dict[str, np.ndarray]:
    """Noise; feature 0 tells the family ring, feature 1 grid, in the first view best."""
    once = table.drop_duplicates("row").sort_values("row")
    found = {}
    for number, view in enumerate(beyond.VIEWS):
        x = np.random.default_rng(number).normal(size=(len(once), 6)).astype(np.float32)
        for feature, name in enumerate(FAMILIES):
            x[:, feature] += (3 - number) * (once["generator"].map(beyond.family) == name)
        found[view] = x
    return found


@pytest.fixture(scope="module")
def fitted(table, views) -> tuple[pd.DataFrame, dict]:
    return beyond.out_of_fold(table, views)


@pytest.fixture(scope="module")
def logits(fitted) -> pd.DataFrame:
    return fitted[0]


def auc(table, score, generator) -> float:
    rows = table["test_set"] == generator
    return roc_auc_score(table["label"][rows] == "fake", np.asarray(score)[rows])


def test_specialists_find_their_own_family_and_no_other(table, logits):
    own = {"ring_a": "ring", "ring_b": "ring", "grid": "grid"}
    for generator, name in own.items():
        other = FAMILIES[name == "ring"]
        assert auc(table, logits["embedding", name], generator) > 0.95
        assert abs(auc(table, logits["embedding", other], generator) - 0.5) < 0.1
        assert auc(table, beyond.combine(logits), generator) > 0.9
        assert abs(auc(table, beyond.combine(logits, [name]), generator) - 0.5) < 0.1


@pytest.mark.parametrize("view", ["embedding", beyond.ALL_VIEWS])
def test_logits_are_calibrated(table, logits, view):
    rows = table["test_set"].str.startswith("ring") & (table["row"] < 600)
    probability = expit(logits[view, "ring"][rows])
    is_fake, bins = table["label"][rows] == "fake", np.digitize(probability, [0.2, 0.5, 0.8])
    large = [part for part in range(4) if (bins == part).sum() >= 20]
    assert len(large) >= 2
    for part in large:
        assert abs(is_fake[bins == part].mean() - probability[bins == part].mean()) < 0.12


def test_nothing_is_learnt_of_a_group_that_is_tested(table, views):
    mixed = table.sample(frac=1, random_state=0)
    who = mixed.drop_duplicates("row").sort_values("row")["group"]
    # A feature that knows the person, and labels that are the person's luck alone.
    luck = who.map(lambda name: unit_interval(f"luck of {name}")).to_numpy()
    known = {"embedding": np.eye(150, dtype=np.float32)[pd.factorize(who)[0]]}
    by_luck = mixed.assign(
        label=np.where(luck[mixed["row"]] < 0.5, "fake", "real"), generator="ring", test_set="ring"
    )
    score = beyond.out_of_fold(by_luck, known)[0]["embedding", "ring"]
    assert abs(roc_auc_score(by_luck["label"] == "fake", score) - 0.5) < 0.12


def test_unseen_photographs_change_no_detector(table, views, logits):
    more = table[table["label"] == "real"].drop_duplicates("row").head(40)
    more = more.assign(real_source="celeba", test_set="none", path="c/" + more["path"])
    more["row"] += table["row"].max() + 1
    both = pd.concat([table, more], ignore_index=True)
    bigger = {
        view: np.vstack([x, 99 + x[: more["row"].max() + 1 - len(x)]]) for view, x in views.items()
    }
    found = beyond.out_of_fold(both, bigger, unseen=("celeba",))[0]
    pd.testing.assert_frame_equal(found.head(len(table)), logits)
    assert len(found) == len(both)


def test_combining_is_a_choice_among_families(logits):
    both = logits[beyond.ALL_VIEWS]
    expected = [1 - 1 / (1 + np.exp(row.ring) + np.exp(row.grid)) for row in both.itertuples()]
    np.testing.assert_allclose(beyond.combine(logits), expected, atol=1e-12)
    np.testing.assert_allclose(
        beyond.combine(logits, ["grid"], "residual"), expit(logits["residual", "ring"])
    )
    assert (beyond.combine(logits, FAMILIES) == 0).all()  # nobody is left to find a trace


def test_the_better_view_weighs_more(table, views, logits):
    """All views together are no worse than the mean of logits; a view of noise takes nothing."""
    noise = {"noise": np.random.default_rng(9).normal(size=(len(views["embedding"]), 6))}
    weighed = beyond.out_of_fold(table, {"embedding": views["embedding"]} | noise)[0]
    for name, generator in (("ring", "ring_a"), ("grid", "grid")):
        alone = auc(table, weighed["embedding", name], generator)
        mean = weighed["embedding", name] + weighed["noise", name]
        both = auc(table, weighed[beyond.ALL_VIEWS, name], generator)
        assert both > alone - 0.01 and both >= auc(table, mean, generator) - 0.01
        assert auc(table, logits[beyond.ALL_VIEWS, name], generator) > 0.97


def test_self_blended_photographs_are_learnt_and_not_tested(table, views):
    real = table[table["label"] == "real"].drop_duplicates("row")
    made = real.assign(label="fake", generator=beyond.MADE, test_set=beyond.MADE)
    made["row"] = table["row"].max() + 1 + np.arange(len(made))
    both = pd.concat([table, made], ignore_index=True)
    seen = {view: np.vstack([x, x[real["row"]] + np.float32(1)]) for view, x in views.items()}
    logits, heads = beyond.out_of_fold(both, seen)
    assert [*heads] == [*FAMILIES, beyond.MADE]
    found = logits[beyond.ALL_VIEWS, beyond.MADE]
    assert roc_auc_score((both["test_set"] == beyond.MADE), found) > 0.9
    assert len(beyond.scored(both, beyond.combine(logits))) == len(table)
    rows = beyond.compare(get_study("tiny"), both, logits, "report")
    assert set(rows["test_set"]) == {"ring_a", "ring_b", "grid"}
    rows = rows[rows["model"] == beyond.ALL_VIEWS].set_index(["train_set", "test_set"])["value"]
    # Every generator's trace is a change along one feature, as here: it is found unseen.
    assert rows["all but ring", "ring_a"] > 0.6 > rows["generators but ring", "ring_a"]
    assert rows[beyond.MADE, "grid"] > 0.6


@pytest.mark.parametrize("resized", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_photographs_are_blended_and_saved_like_themselves(few, records, protocol, resized):
    cut = beyond.middle(few)
    last = (lambda path: (*beyond.delivery(path, few.detail_size), *cut)) if resized else cut
    table = catalog.task_steps(few, records, protocol, last)
    before = catalog.task_steps(few, records, protocol)["steps"]
    made = beyond.self_blended(few, table, before)
    real = table[table["label"] == "real"].drop_duplicates(["path", "steps"])
    assert 0 < len(made) <= len(real) and np.isfinite(made[BOX]).all(axis=None)
    is_saved = protocol == "controlled" or resized
    qualities = file_traits(catalog.files(few, made))["quality"].fillna(100)
    for steps, own, quality in zip(made["steps"], real.loc[made.index, "steps"], qualities):
        assert f"self_blend {'' if is_saved else f'jpeg:{quality:.0f} '}" in steps
        first, last = steps.split("self_blend ")
        assert "jpeg" not in first
        assert steps.replace("self_blend ", "") == own if is_saved else last.endswith(own)


def test_rows_of_results_by_what_was_trained_on(table, logits):
    study = get_study("tiny")
    rows = beyond.compare(study, table, logits, "report").set_index(
        ["model", "train_set", "test_set"]
    )
    assert set(rows.index.levels[1]) == {"any", *FAMILIES} | {
        f"{group}{left}"
        for group in ("all", "generators")
        for left in ("", " but ring", " but grid")
    }
    left_out = rows.xs("all but ring", level="train_set")
    assert set(left_out.index.get_level_values("test_set")) == {"ring_a", "ring_b"}
    apart = table["generator"] != "ring_b"  # pairs of one group do not count
    expected = auc(table[apart], beyond.combine(logits)[apart], "grid")
    assert rows.loc[("all views", "all", "grid"), "value"] == pytest.approx(expected, abs=0.01)
    assert set(rows["approach"]) == {"probe", "fusion"}


def test_a_head_of_keras_says_the_same(views, fitted):
    x = np.hstack([views[view] for view in beyond.VIEWS])
    heads = {
        (beyond.ALL_VIEWS, name): x @ kernel + bias for name, (kernel, bias) in fitted[1].items()
    }
    kernels, biases = (np.array(part, np.float32) for part in zip(*fitted[1].values()))
    found = beyond.build_head(kernels, biases).predict(x, verbose=0).ravel()
    np.testing.assert_allclose(found, beyond.combine(pd.DataFrame(heads)), atol=1e-5)


def test_versions_mislead_who_learnt_them_with_the_classes(few, records):
    auc = experiments.confounded(few, records).set_index(["tested", "trained"])["value"]
    fall = auc["same"] - auc["reversed"]
    assert fall["confounded"] > 0.1 > fall["controlled"], auc
