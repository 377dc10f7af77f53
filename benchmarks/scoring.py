"""Scoring a folder with `predict`, beside the detector's bare throughput on batches.

The detector is the one that comes with the project. `predict` also finds the faces, and scores each
as it is and as three services would deliver it. The bare throughput is that of the network on as
many batches, and, beside it, of the network and the face detector on pictures in memory.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import is_quick, race
from benchmarks.full_size import draw
from src import predict
from src.data import faces


def main() -> None:
    quick = is_quick(__doc__)
    detector, pictures = predict.load(), draw(("jpeg:90", "resize:512"), 2 if quick else 32)
    small = [faces.shrunk(Image.fromarray(picture)) for picture in pictures]
    num_seen = len(pictures) * len(predict.DELIVERIES)
    seen = np.zeros((num_seen, *detector.model.input.shape[1:]), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{index}.jpg") for index in range(len(pictures))]
        for file, picture in zip(files, pictures):
            Image.fromarray(picture).save(file, quality=90)

        def network() -> int:
            detector.model.predict(seen, verbose=0)
            return len(pictures)

        def network_and_faces() -> int:
            faces.find_all(small)
            return network()

        def ours() -> int:
            return sum(table["path"].nunique() for table, _ in predict.judge(files, detector))

        ours(), network()  # compiles
        ways = {"ours": ours}
        ways |= {"the network alone": network, "network and MTCNN alone": network_and_faces}
        race("scoring a folder", "images", ways, {"the network alone": 0.8})


if __name__ == "__main__":
    main()
