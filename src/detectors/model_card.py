"""A model card beside each trained detector, in the form that Hugging Face's hub reads."""

import json
from pathlib import Path

import pandas as pd

from ..config import Study
from ..files import write_atomically

_TEXT = """# {name}

A detector of generated faces, of the project "True or Fake": from pixels `(N, {shape})` `uint8`, \
as the study `{study}` prepares them under the protocol `{protocol}`, to the probability of fake.

**Trained on** fakes of {train_set} ({kind}); starts from {starts_from}; seed {seed}.
**Threshold** {threshold:.4f}, where the balanced accuracy on validation pictures is highest; \
calibrated: sigmoid({slope:.4f} logit(score) + {intercept:.4f}).

## Tests

Area under the ROC curve with its 95 % interval; 0.5 is chance.

| fakes of | against photographs of | AUC | pictures |
|---|---|---|---|
{tests}

## Limits

On generators that are not in this table nothing is known. A picture that was scaled or saved \
again may get another score. A score is a hint, never a proof against a person.
"""


def write(study: Study, name: str, shape: tuple, card: dict, rows: pd.DataFrame) -> Path:
    """Writes `<name>.README.md` from a detector's card and its rows of `results.csv`.

    `shape` is that of one input. The head is YAML: JSON values are valid in it.
    """
    auc = rows[(rows["metric"] == "auc") & rows["value"].notna()]
    metrics = [
        {
            "task": {"type": "image-classification"},
            "dataset": {"type": study.name, "name": f"{row.test_set} against {row.real_source}"},
            "metrics": [{"type": "roc_auc", "value": round(row.value, 4)}],
        }
        for row in auc.itertuples()
    ]
    head = {
        "license": "mit" if study.simulated else "other",
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["generated-faces", "deepfake-detection", card["approach"]],
        "model-index": [{"name": name, "results": metrics}],
    }
    tests = [
        f"| {row.test_set} | {row.real_source} | {row.value:.3f} [{row.ci_low:.3f}, "
        f"{row.ci_high:.3f}] | {row.num_real} + {row.num_fake} |"
        for row in auc.itertuples()
    ]
    kind = "simulated pictures, not photographs" if study.simulated else study.description
    own = {"name": name, "kind": kind, "tests": "\n".join(tests), "shape": str(shape)[1:-1]}
    text = _TEXT.format(**card | own)
    lines = [f"{key}: {json.dumps(value)}" for key, value in head.items()]
    text = "\n".join(["---", *lines, "---", text])
    file = study.models / f"{name}.README.md"
    return write_atomically(file, lambda path: path.write_text(text, encoding="utf-8"))
