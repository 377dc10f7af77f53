"""Batches: every row once, in an order that a resumed training repeats."""

import keras
import numpy as np
import pytest

from src.pictures.batches import Batches


def rows_of(batches):
    return [int(row) for store, _ in batches for row in store[:, 0, 0, 0]]


@pytest.fixture
def pixels():
    return np.tile(np.arange(50, dtype=np.uint8)[:, None, None, None], (2, 2, 1))


def test_batches_hold_every_row_once_with_its_label(pixels):
    rows = np.arange(3, 50, 2)
    batches = Batches(pixels, np.arange(50) % 2, rows, batch_size=7, seed=1)
    assert len(batches) == 4
    assert sorted(rows_of(batches)) == rows.tolist() and rows_of(batches) != rows.tolist()
    for images, labels in batches:
        assert images.dtype == np.uint8 and labels.dtype == np.float32
        assert np.array_equal(labels, images[:, 0, 0, :1] % 2)
    assert len(Batches(pixels, batch_size=64)[0]) == 1  # no labels: pictures alone


def test_order_is_a_function_of_seed_and_epoch(pixels):
    def orders(num_epochs, first=0, **options):
        batches = Batches(pixels, np.zeros(50), batch_size=8, **options)
        for epoch in range(first, first + num_epochs):
            batches.set_epoch(epoch)
            yield rows_of(batches)

    whole = list(orders(4, seed=3))
    assert list(orders(2, first=2, seed=3)) == whole[2:]
    assert len({tuple(order) for order in whole}) == 4
    assert next(orders(1, seed=4)) != whole[0]
    assert list(orders(2, shuffle=False)) == [list(range(50))] * 2


class Watched(Batches):
    """Remembers the rows of every batch it served."""

    def __getitem__(self, index):
        batch = super().__getitem__(index)
        vars(self).setdefault("seen", {})[index] = batch[0][:, 0, 0, 0].tolist()
        return batch


def test_keras_sees_that_order(pixels, tmp_path):
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    batches = Watched(mapped, np.arange(50), batch_size=8, seed=5)
    assert type(batches[0][0]) is np.ndarray
    batches.set_epoch(2)
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])  # built by `fit`
    model.compile(loss="mse", optimizer="sgd")
    model.fit(batches.feed(), shuffle=False, verbose=0)
    expected = np.random.default_rng((5, 2)).permutation(50).tolist()
    assert sum((batches.seen[index] for index in range(7)), []) == expected
    assert sum((np.ravel(part[:, 0, 0, 0]).tolist() for part, _ in batches.feed()), []) == expected


def test_crops_are_a_function_of_seed_epoch_and_row():
    """Each pixel tells its place, so that what was cut out of a picture is known."""
    places = np.arange(64, dtype=np.uint8).reshape(8, 8)
    pixels = np.tile(places[None, ..., None], (40, 1, 1, 3))
    pixels[..., 1] = np.arange(40)[:, None, None]

    def corners(**options):
        batches = Batches(pixels, crop=5, **options)
        batches.set_epoch(options.get("seed", 0) and 1)
        found = {}
        for (images,) in (batches[n] for n in range(len(batches))):
            for image in images:
                top, left = divmod(int(image[0, 0, 0]), 8)
                assert np.array_equal(image[..., 0], places[top : top + 5, left : left + 5])
                found[int(image[0, 0, 1])] = top, left
        return found

    drawn = corners(batch_size=16)
    assert drawn == corners(batch_size=7) and drawn != corners(batch_size=7, seed=1)
    assert (
        {top for top, _ in drawn.values()} == {left for _, left in drawn.values()} == set(range(4))
    )
    assert set(corners(shuffle=False).values()) == {(1, 1)}
    with pytest.raises(ValueError, match="crop=9"):
        Batches(pixels, crop=9)


@pytest.mark.parametrize("rows", [[50], [-1], [], np.ones(50, bool)])
def test_batches_refuse_what_does_not_fit(pixels, rows):
    with pytest.raises(ValueError, match="Expected rows as indices, 0..49"):
        Batches(pixels, rows=rows)
    with pytest.raises(ValueError, match="a label for each of 50"):
        Batches(pixels, np.zeros(49))


def test_batches_keep_together_what_belongs_together(pixels):
    pairs = np.array([f"photograph {row // 2}" for row in range(50)])
    batches = Batches(pixels, np.zeros(50), batch_size=8, seed=3, together=pairs)
    # Pictures that are not used, such as those of tests, do not change the order.
    pixels, groups = np.concatenate([pixels, pixels]), [*pairs, *map(str, range(50))]
    rows = np.arange(50)
    more = Batches(pixels, np.zeros(100), rows, batch_size=8, seed=3, together=groups)
    orders = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        more.set_epoch(epoch)
        order = rows_of(batches)
        assert sorted(order) == list(range(50)) and order == rows_of(more)
        assert (pairs[order[::2]] == pairs[order[1::2]]).all()  # pairs are neighbours
        orders.append(order)
    assert orders[0] != orders[1] and orders[0] == orders[2]
