"""Batches of prepared pictures for Keras, in an order that a resumed training repeats."""

import copy
import math

import keras
import numpy as np


class Batches(keras.utils.PyDataset):
    """Batches gathered from a pixel store by row.

    The order is a pure function of `(seed, epoch)`, see `set_epoch`. Call `fit` with
    `shuffle=False`, or Keras shuffles the batches again.

    Args:
        pixels: `uint8`, `(num_images, height, width, channels)`; or features, `float32`.
        labels: `(num_images,)`, 1 = fake; `None` for batches of pictures alone.
        rows: Indices of the pictures to use; `None` takes all.
        batch_size: The last batch of an epoch may be smaller.
        shuffle: Whether the order changes with the epoch; else it is the order of `rows`.
        seed: Of the order.
        together: `(num_images,)`: a shuffle keeps pictures with equal values side by side; they
            share a batch unless it ends between them.
        crop: Side of the square that is cut out of every picture, at a place drawn from
            `(seed, epoch, row)`, or in the middle without `shuffle`; `None` cuts nothing.

    Returns:
        From `batches[i]`: pixels `(n, height, width, channels)`, labels if any `float32` `(n, 1)`.

    Raises:
        ValueError: If labels, rows or crop do not fit the pixels.

    Example:
    >>> pixels, labels = np.zeros((5, 2, 2, 3), "uint8"), [0, 1, 0, 1, 1]
    >>> batches = Batches(pixels, labels, batch_size=2, shuffle=False)
    >>> [labels.ravel().tolist() for _, labels in batches]
    [[0.0, 1.0], [0.0, 1.0], [1.0]]
    """

    def __init__(
        self,
        pixels,
        labels=None,
        rows=None,
        *,
        batch_size=64,
        shuffle=True,
        seed=0,
        together=None,
        crop=None,
    ):
        super().__init__()
        self.pixels = np.asarray(pixels)  # a view of a memory map, so that batches are plain arrays
        every = np.arange(len(pixels))
        self.rows = every if rows is None else np.asarray(rows)
        if not len(self.rows) or not np.isin(self.rows, every).all() or self.rows.dtype == bool:
            raise ValueError(f"Expected rows as indices, 0..{len(pixels) - 1}. Received: {rows}.")
        self.labels = labels if labels is None else np.asarray(labels, np.float32).reshape(-1, 1)
        if labels is not None and len(labels) != len(pixels):
            expected = f"Expected a label for each of {len(pixels)} pictures."
            raise ValueError(f"{expected} Received: {len(labels)}.")
        if crop and crop > min(self.pixels.shape[1:3]):
            expected = f"Expected a crop within pictures of {self.pixels.shape[1:3]} pixels."
            raise ValueError(f"{expected} Received: crop={crop}.")
        self.batch_size, self.shuffle, self.seed, self.crop = batch_size, shuffle, seed, crop
        self._groups = None
        if together is not None:
            self._groups = np.unique(np.asarray(together)[self.rows], return_inverse=True)[1]
        self.set_epoch(0)
        self._devices, self._num_devices = range(1), 1

    def part(self, devices: range, num_devices: int) -> "Batches":
        """The same batches, but of each only the share of some of the devices.

        All devices get equally many pictures: if a batch does not divide, its first are repeated.
        """
        if self.batch_size % num_devices:
            expected = f"Expected a batch size that divides by {num_devices} devices; use fewer."
            raise ValueError(f"{expected} Received: {self.batch_size}.")
        part = copy.copy(self)
        part._devices, part._num_devices = devices, num_devices
        return part

    def set_epoch(self, epoch: int) -> None:
        """Takes the order of an epoch, counted from 0; a training calls it before each epoch."""
        order = np.arange(len(self.rows))
        if self.shuffle:
            random = np.random.default_rng((self.seed, epoch))
            order = random.permutation(order)
            if self._groups is not None:
                places = random.permutation(self._groups.max() + 1)[self._groups[order]]
                order = order[np.argsort(places, kind="stable")]
        self.epoch, self._order = epoch, self.rows[order]

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        first = range(0, len(self._order), self.batch_size)[index]  # or an IndexError
        rows = self._order[first : first + self.batch_size]
        share = math.ceil(len(rows) / self._num_devices)
        rows = np.resize(rows, share * self._num_devices)
        rows = rows[share * self._devices.start : share * self._devices.stop]
        images = np.take(self.pixels, rows, axis=0)
        if self.crop:
            images = np.stack([self._cut(*pair) for pair in zip(images, rows)])
        return (images,) if self.labels is None else (images, self.labels[rows])

    def feed(self):
        """What `fit` and `predict` are to read: on TensorFlow a `tf.data.Dataset`, else itself.

        It is without tf.data's tuning. With it, Keras often waits after the last step of an epoch,
        up to as long as the epoch took.
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        parts, options = self[0], tf.data.Options()
        shapes = tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in parts)
        options.autotune.enabled = False
        dataset = tf.data.Dataset.from_generator(lambda: iter(self), output_signature=shapes)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(self)))
        return dataset.prefetch(2).with_options(options)

    def _cut(self, image: np.ndarray, row: int) -> np.ndarray:
        room = np.subtract(image.shape[:2], self.crop)
        top, left = room // 2
        if self.shuffle:
            top, left = np.random.default_rng((self.seed, self.epoch, row)).integers(room + 1)
        return image[top : top + self.crop, left : left + self.crop]
