import numpy as np
import pandas as pd
import pytest

from src.evaluation import __main__ as command
from src.evaluation.comparisons import recall_by_generator
from src.evaluation.intervals import estimate

NUM_RESAMPLES = 50


def _scores():
    """Two detectors, two test sets, two generators in each; a photograph with its fakes a group."""
    generator, rows = np.random.default_rng(0), []
    for detector, shift in (("sharp", 0.4), ("b*lunt", 0.1)):
        for test_set, number in (("one", 40), ("two", 35)):
            for place in range(number):
                for made_by in ("camera", "gan", "diffusion"):
                    label = "real" if made_by == "camera" else "fake"
                    score = np.clip(generator.normal(0.4 + shift * (label == "fake"), 0.2), 0, 1)
                    path, group = f"{made_by}/{place}.png", f"{test_set}/{place}"
                    rows.append((path, label, made_by, score, group, detector, test_set))
    columns = ["path", "label", "generator", "score", "group", "detector", "test_set"]
    return pd.DataFrame(rows, columns=columns)


def _run(folder, table, *more):
    """Runs the command on the table, and returns the folder that it writes to."""
    table.to_csv(folder / "scores.csv", index=False)
    options = ["--out", str(folder / "out"), "--num-resamples", str(NUM_RESAMPLES), *more]
    command.main([str(folder / "scores.csv"), *options])
    return folder / "out"


def test_tables_and_page_of_other_peoples_detectors(tmp_path, capsys):
    table = _scores()
    table.loc[0, "score"] = np.nan
    out = _run(tmp_path, table)
    names = ["recall.csv", "recall_0.png", "recall_1.png", "results.csv"]
    names += ["summary.html", "summary.md"]
    assert sorted(file.name for file in out.iterdir()) == names
    assert capsys.readouterr().out == f"Written: {', '.join(names)}\n"
    results, recalls = pd.read_csv(out / "results.csv"), pd.read_csv(out / "recall.csv")
    scored = table.dropna().replace({"real": 0, "fake": 1}).astype({"label": int})
    tasks = scored.groupby(["detector", "test_set"])
    assert len(tasks) == 4 == len(results.groupby(["model", "test_set"]))
    for task, rows in tasks:
        arrays = rows["label"], rows["score"], rows["group"]
        metrics = estimate(*arrays, num_resamples=NUM_RESAMPLES)
        for found, oracle in ((results, metrics), (recalls, recall_by_generator(rows))):
            found = found.set_index(["model", "test_set"]).loc[[task]].reset_index(drop=True)
            pd.testing.assert_frame_equal(found, oracle, check_dtype=False, atol=1e-6)
    text = (out / "summary.md").read_text(encoding="utf-8")
    counts = "2 detectors, 225 images (75 real, 150 fake) in 75 groups, 3 generators. 1 of 450"
    assert counts in " ".join(text.split()) and "| b\\*lunt |" in text
    above = (results.query("metric == 'auc'")["ci_low"] > 0.505).sum()
    assert f"{above} of 4 intervals" in text
    assert "data:image/" in (out / "summary.html").read_text(encoding="utf-8")


def test_columns_that_may_be_left_out(tmp_path):
    table = _scores().query("detector == 'sharp' and test_set == 'one'")
    bare = table[["path", "label", "generator", "score"]].replace({"real": 0, "fake": 1})
    bare.to_parquet(tmp_path / "bare.parquet")
    found = command.read(tmp_path / "bare.parquet")
    assert set(found["detector"]) == {"detector"} and set(found["test_set"]) == {"all"}
    assert found["group"].equals(found["path"])
    results, _ = command.evaluate(found, NUM_RESAMPLES)
    assert (results["num_groups"] == len(table)).all()


def test_a_test_set_of_one_class_has_no_metrics(tmp_path):
    table = _scores().query("test_set == 'one' or label == 'real'")
    out = _run(tmp_path, table)
    assert set(pd.read_csv(out / "results.csv")["test_set"]) == {"one"}
    assert set(pd.read_csv(out / "recall.csv")["test_set"]) == {"one"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="score"), r"lacks the columns ['score']"),
        (lambda table: table.assign(label="forged"), "450 rows have a label other than"),
        (lambda table: table.assign(score=table["score"] + 1), "a score outside [0, 1]"),
        (lambda table: pd.concat([table, table[:3]]), "3 rows have an image that stands twice"),
        (lambda table: table.query("label == 'real'"), "with real and fake images, found none"),
        (lambda table: table.assign(group="one"), "at least 2 groups"),
        (lambda table: table.assign(score=np.nan), "with real and fake images, found none"),
    ],
)
def test_says_what_is_wrong_with_scores(tmp_path, capsys, change, message):
    with pytest.raises(SystemExit) as stopped:
        _run(tmp_path, change(_scores()))
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.csv", "--out", "out"], "No such file"),
        (["missing.csv"], "the following arguments are required: --out"),
        (["missing.csv", "--out", "out", "--num-resamples", "many"], "invalid int value"),
    ],
)
def test_says_what_is_wrong_with_the_command(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
