"""Batches of prepared pictures for Keras, in an order that a resumed training repeats."""

import math

import keras
import numpy as np


class Batches(keras.utils.PyDataset):
    """Batches gathered from a pixel store by row.

    The order is a pure function of `(seed, epoch)`; `epoch` grows by one after each whole pass. A
    training that resumes after k epochs sets `epoch = k` first. Call `fit` with `shuffle=False`,
    else Keras mixes the batches once more; give every evaluation batches of its own.

    Args:
        pixels: `uint8`, `(num_images, height, width, channels)`; or features, `float32`.
        labels: `(num_images,)`, 1 = fake; `None` for batches of pictures alone.
        rows: Indices of the pictures to use; `None` takes all.
        batch_size: Pictures in a batch; the last one of an epoch may have fewer.
        shuffle: Whether the order changes with the epoch; else it is the order of `rows`.
        seed: Of the order.
        together: `(num_images,)`, any values: pictures with equal ones stay neighbours, so that a
            fake and its photograph share a batch.

    Returns:
        From `batches[i]`: pixels `(n, height, width, channels)`, and labels `float32` `(n, 1)`.

    Raises:
        ValueError: If labels or rows do not fit the pixels.

    Example:
    >>> pixels, labels = np.zeros((5, 2, 2, 3), "uint8"), [0, 1, 0, 1, 1]
    >>> batches = Batches(pixels, labels, batch_size=2, shuffle=False)
    >>> [labels.ravel().tolist() for _, labels in batches]
    [[0.0, 1.0], [0.0, 1.0], [1.0]]
    """

    def __init__(
        self, pixels, labels=None, rows=None, *, batch_size=64, shuffle=True, seed=0, together=None
    ):
        # With one worker tf.data feeds the network, slow to stop; with two, other backends take
        # later batches into the first epoch. Features need no loading, and threads 0.1 s to stop.
        is_pictures = getattr(pixels, "dtype", None) == np.uint8
        workers = 2 if is_pictures and keras.backend.backend() == "tensorflow" else 1
        super().__init__(workers=workers)
        rows = np.arange(len(pixels)) if rows is None else np.asarray(rows)
        if not np.issubdtype(rows.dtype, np.integer) or rows.ndim != 1 or not len(rows):
            raise ValueError(f"Expected rows as indices. Received: {rows.dtype} {rows.shape}.")
        low, high = rows.min(), rows.max()
        if low < 0 or high >= len(pixels):
            raise ValueError(f"Rows must lie in 0..{len(pixels) - 1}. Received: {low}..{high}.")
        if labels is not None:
            labels = np.asarray(labels, np.float32).reshape(-1, 1)
            if len(labels) != len(pixels):
                expected = f"Expected a label for each of {len(pixels)} pictures."
                raise ValueError(f"{expected} Received: {len(labels)}.")
        self.pixels = np.asarray(pixels)  # of a memory map a view, so that batches are plain arrays
        self.labels, self.rows = labels, rows
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self._groups = None if together is None else np.unique(together, return_inverse=True)[1]
        self.epoch = 0

    @property
    def epoch(self) -> int:
        """The epoch whose order is in force, counted from 0."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int):
        self._epoch, self._finished = int(epoch), False
        self._order = self.rows
        if self.shuffle:
            random = np.random.default_rng((self.seed, self._epoch))
            self._order = random.permutation(self.rows)
            if self._groups is not None:
                places = random.permutation(self._groups.max() + 1)[self._groups[self._order]]
                self._order = self._order[np.argsort(places, kind="stable")]

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        if index < 0 or not len(rows):
            raise IndexError(f"There are {len(self)} batches. Received: index {index}.")
        self._finished |= index == len(self) - 1
        images = np.take(self.pixels, rows, axis=0)
        return (images,) if self.labels is None else (images, self.labels[rows])

    def on_epoch_end(self) -> None:
        """Called by Keras after an epoch, but also after two batches by which it builds a model."""
        if self._finished:
            self.epoch += 1
