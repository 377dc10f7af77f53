"""Batches: every row once, in an order that a resumed training repeats."""

import keras
import numpy as np
import pytest

from src.pictures.batches import Batches


def rows_of(batches):
    return [int(row) for store, _ in batches for row in store[:, 0, 0, 0]]


@pytest.fixture
def pixels():
    return np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1).repeat(2, axis=1).repeat(2, axis=2)


def test_batches_hold_every_row_once_with_its_label(pixels):
    rows = np.arange(3, 50, 2)
    batches = Batches(pixels, np.arange(50) % 2, rows, batch_size=7, seed=1)
    assert len(batches) == 4
    assert sorted(rows_of(batches)) == rows.tolist() and rows_of(batches) != rows.tolist()
    for images_, labels in batches:
        assert images_.dtype == np.uint8
        assert labels.dtype == np.float32 and labels.shape == (len(images_), 1)
        assert np.array_equal(labels.ravel(), images_[:, 0, 0, 0] % 2)
    assert len(Batches(pixels, batch_size=64)[0]) == 1  # no labels: pictures alone


def test_order_is_a_function_of_seed_and_epoch(pixels):
    def orders(batches, num_epochs):
        for _ in range(num_epochs):
            yield rows_of(batches)
            batches.on_epoch_end()

    def make(seed):
        return Batches(pixels, np.zeros(50), batch_size=8, seed=seed)

    whole = list(orders(make(3), 4))
    resumed = make(3)
    resumed.epoch = 2
    assert list(orders(resumed, 2)) == whole[2:]
    assert len({tuple(order) for order in whole}) == 4
    assert rows_of(make(4)) != whole[0]
    plain = Batches(pixels, np.zeros(50), shuffle=False)
    assert list(orders(plain, 2)) == [list(range(50))] * 2


class Watched(Batches):
    """Remembers the rows of every batch it served, by epoch."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.seen = {}

    def __getitem__(self, index):
        batch = super().__getitem__(index)
        self.seen.setdefault(self.epoch, {})[index] = batch[0][:, 0, 0, 0].tolist()
        return batch


def fit(batches, **options):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])  # built by `fit`
    model.compile(loss="mse", optimizer="sgd")
    model.fit(batches, shuffle=False, verbose=0, **options)


def test_keras_sees_that_order_even_when_resumed(pixels, tmp_path):
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    whole, resumed = (Watched(mapped, np.arange(50), batch_size=8, seed=5) for _ in range(2))
    assert type(whole[0][0]) is np.ndarray
    fit(whole, epochs=3)
    resumed.epoch = 1
    fit(resumed, epochs=3, initial_epoch=1)
    assert whole.epoch == resumed.epoch == 3
    for epoch in range(3):
        expected = np.random.default_rng((5, epoch)).permutation(50).tolist()
        for batches in (whole, resumed)[: 1 + (epoch > 0)]:
            assert [row for index in range(7) for row in batches.seen[epoch][index]] == expected


def test_batches_refuse_what_does_not_fit(pixels):
    for arguments, message in [
        ((pixels, np.zeros(49)), "a label for each of 50"),
        ((pixels, None, [50]), "0..49"),
        ((pixels, None, [-1]), "0..49"),
        ((pixels, None, []), "rows"),
        ((pixels, None, np.ones(50, bool)), "rows"),
    ]:
        with pytest.raises(ValueError, match=message):
            Batches(*arguments)
    with pytest.raises(IndexError):
        Batches(pixels)[1]


def test_batches_keep_together_what_belongs_together():
    pixels = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    together = np.array([f"photograph {row // 2}" for row in range(40)])
    batches = Batches(pixels, np.arange(40) % 2, batch_size=8, seed=3, together=together)
    orders = []
    for epoch in (0, 1, 0):
        batches.epoch = epoch
        order = np.concatenate([batches[index][0].ravel() for index in range(len(batches))])
        assert sorted(order.tolist()) == list(range(40))
        assert (order[::2] // 2 == order[1::2] // 2).all()  # pictures of a pair are neighbours
        orders.append(order.tolist())
    assert orders[0] != orders[1] and orders[0] == orders[2]
