"""Do simulated generators differ from photographs as real ones do?

    python -m benchmarks.traits [FOLDER or -] [NUM]

For each simulated generator and the real one that it stands for: how well each trait of pixels
alone, and all together out of fold, tell fake from real (AUC), at 256 × 256 after both classes had
the same treatment. FOLDER holds a `manifest.csv` (and `flux2/manifest.csv`) of real photographs
and of StyleGAN, DFDC face swaps, Stable Diffusion 2.1 and decodings by FLUX.2; without it only the
simulated rows are printed. The last column is `spectrum.spectral_peaks`. NUM pictures a class are
drawn (default 150): a minute on two cores.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from simulator import drawing
from src.evaluation.audit import ALL_TRAITS, pixel_traits, trait_table
from src.pictures.spectrum import spectral_peaks
from src.pictures.steps import apply

SIDE = 256
PAIRS = {  # simulated -> dataset of the reals and generator of the fakes that it stands for
    "gan140k": ("140k", "stylegan"),
    "insight": ("dfdc", "face_swap"),
    "text2img": ("140k", "sd21_text2img"),
    "inpainting": ("140k", "flux2_full"),
}


def compare(pictures: list[np.ndarray], labels, groups) -> pd.Series:
    """AUC of each trait, of all, and of the peak."""
    table = trait_table(pixel_traits(np.stack(pictures)), labels, groups, num_resamples=20)
    auc = table.set_index("trait")["auc"].rename({ALL_TRAITS: "all together"})
    auc["spectral peak"] = roc_auc_score(labels, spectral_peaks(np.stack(pictures)))
    return auc


def treated(content, num_jpeg: int, squashed: bool) -> np.ndarray:
    """As under the protocol `controlled`, at 256 pixels."""
    steps = [] if squashed else ["square"]
    steps += [f"squash:{SIDE}", *["jpeg:75"] * num_jpeg, f"squash:{SIDE}"]
    return apply(content, tuple(steps))


def draw(index: int) -> dict[str, list[np.ndarray]]:
    """Real and fake of each simulated generator, decoded: those of one photograph's name."""
    cv2.setNumThreads(1)
    portraits = drawing.plan(0, NUM, SIDE)
    portrait = portraits[index]
    other = portraits[portrait.background]
    (_, _, (content, _)), (_, _, (behind, _)) = map(drawing.make_photograph, (portrait, other))
    files, *_ = drawing.make_forgeries(portrait, content, other, behind)
    fakes = {path.split("/")[0]: drawing.decode(file) for path, file in files.items()}
    made, *_ = drawing.make_gan(0, SIDE, index, "train")
    real, fake = map(drawing.decode, made.values())
    photograph = drawing.decode(content)
    return {
        "inpainting": [treated(photograph, 2, True), treated(fakes["inpainting"], 0, True)],
        "text2img": [treated(photograph, 1, False), treated(fakes["text2img"], 0, False)],
        "insight": [treated(photograph, 2, True), treated(fakes["insight"], 0, True)],
        "gan140k": [treated(real, 1, False), treated(fake, 1, False)],
    }


def real_columns(folder: Path) -> dict[str, pd.Series]:
    """The same of real generators; every picture is saved once more."""
    table = pd.read_csv(folder / "manifest.csv")
    more = pd.read_csv(folder / "flux2" / "manifest.csv")
    table, found = pd.concat([table, more], ignore_index=True), {}
    for name, (dataset, generator) in PAIRS.items():
        reals = table[(table["label"] == "real") & (table["dataset"] == dataset)]
        fakes = table[table["generator"] == generator]
        chosen = pd.concat([reals.sample(NUM, random_state=0), fakes.sample(NUM, random_state=0)])
        files = [drawing.decode((folder / path).read_bytes()) for path in chosen["path"]]
        pictures = [treated(file, 1, False) for file in files]
        labels = (chosen["label"] == "fake").to_numpy().astype(int)
        found[name] = compare(pictures, labels, chosen["group"].astype(str).to_numpy())
    return found


if __name__ == "__main__":
    NUM = int(sys.argv[2]) if len(sys.argv) > 2 else 150
    with ProcessPoolExecutor(2) as pool:
        drawn = list(pool.map(draw, range(NUM), chunksize=8))
    labels, swapped = np.tile([0, 1], NUM), [p.background for p in drawing.plan(0, NUM, SIDE)]
    groups = np.repeat(np.minimum(np.arange(NUM), swapped), 2)
    print("simulated | real generator")
    columns = {
        name: compare([picture for pair in drawn for picture in pair[name]], labels, groups)
        for name in PAIRS
    }
    table = pd.DataFrame(columns).add_suffix(" (simulated)")
    if len(sys.argv) > 1 and sys.argv[1] != "-":
        real = pd.DataFrame(real_columns(Path(sys.argv[1])))
        real.columns = [f"{name} ({PAIRS[name][1]})" for name in real]
        table = table.join(real)
        table = table[[column for name in PAIRS for column in table if column.startswith(name)]]
    print(table.T.round(2).to_string())
