"""The model card: its head is what the hub reads, its text what a reader needs."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub
import keras
import numpy as np
import pandas as pd
import yaml

from src import config
from src.config import get_study
from src.detectors import model_card, models

CARD = {"approach": "probe", "study": "tiny", "protocol": "report", "train_set": "inpainting"}
CARD |= {"starts_from": "imagenet", "seed": 0, "threshold": 0.25, "slope": 1.5, "intercept": -1.0}
ROWS = pd.DataFrame(
    [("gan140k", "140k", "auc", 0.75, 0.7, 0.8, 30, 40), ("gan140k", "140k", "f1", 1, 1, 1, 1, 1)],
    columns="test_set real_source metric value ci_low ci_high num_real num_fake".split(),
)


def test_head_and_text_tell_the_card_and_the_tests(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    study = get_study("tiny")
    file = model_card.write(study, "X-report", (32, 32, 3), CARD, ROWS)
    assert file == tmp_path / "models/tiny/X-report.README.md"
    _, head, text = file.read_text(encoding="utf-8").split("---\n", 2)
    head = yaml.safe_load(head)
    assert (head["license"], head["library_name"], head["tags"][-1]) == ("mit", "keras", "probe")
    [result] = head["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "roc_auc", "value": 0.75}]
    assert result["dataset"]["name"] == "gan140k against 140k"
    for words in (
        "# X-report",
        "`(N, 32, 32, 3)`",
        "fakes of inpainting (simulated",
        "0.2500",
        "sigmoid(1.5000 logit(score) + -1.0000)",
        "| gan140k | 140k | 0.750 [0.700, 0.800] | 30 + 40 |",
    ):
        assert words in text
    real = replace(study, simulation=None)
    text = model_card.write(real, "X-report", (32, 32, 3), CARD, ROWS).read_text(encoding="utf-8")
    assert 'license: "other"' in text and "inpainting and photographs of wiki; starts" in text


def test_a_detector_goes_to_the_hub_and_back_in_safe_mode(tmp_path, monkeypatch):
    """Against a hub that keeps a folder; it has a layer of ours, the spectrum."""

    class Hub:
        def __init__(self, **_): ...

        def create_repo(self, repo_id, **_):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, **_):
            shutil.copytree(folder_path, tmp_path / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda repo_id, **_: str(tmp_path / repo_id)
    )
    model = models.with_spectrum(models.build(get_study("tiny").fourier, 32))
    keras.saving.save_model(model, "hf://you/detector")
    loaded = keras.saving.load_model("hf://you/detector", compile=False, safe_mode=True)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3)).astype(np.uint8)
    np.testing.assert_array_equal(loaded(pictures), model(pictures))
