"""Images of training, changed at random: each change is the one that was drawn, and stays within the image's values."""

from __future__ import annotations

import numpy as np
import pytest

from tfcert.training.augmentation import Augmentation

IMAGES = np.arange(2 * 4 * 3 * 2, dtype=np.float32).reshape(2, 4, 3, 2)


@pytest.mark.parametrize("fill", ["edge", "reflect"])
def test_an_image_is_flipped_and_moved_as_it_was_drawn(fill):
    changes = Augmentation(flip=True, shift=2, fill=fill)
    draws = np.array([[0, 2, -1], [1, -1, 2]], np.int32)
    found = changes(IMAGES, draws).numpy()
    wide = np.pad(IMAGES, [(0, 0), (2, 2), (2, 2), (0, 0)], fill)
    np.testing.assert_array_equal(found[0], wide[0, 0:4, 3:6])
    turned = np.pad(IMAGES[1][:, ::-1], [(2, 2), (2, 2), (0, 0)], fill)
    np.testing.assert_array_equal(found[1], turned[3:7, 0:3])


def test_draws_follow_from_seed_and_epoch_and_cover_every_move():
    changes = Augmentation(flip=True, shift=1)
    drawn = changes.draws(3, 5, 2000)
    np.testing.assert_array_equal(drawn, changes.draws(3, 5, 2000))
    assert (drawn != changes.draws(3, 6, 2000)).any() and (drawn != changes.draws(4, 5, 2000)).any()
    assert {tuple(row) for row in drawn} == {(f, y, x) for f in (0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    assert abs(drawn[:, 0].mean() - 0.5) < 0.05
    assert not Augmentation().draws(3, 5, 10).any()


def test_what_is_no_image_or_smaller_than_a_move_is_refused_in_a_sentence():
    assert Augmentation(flip=True).refuses((8, 8, 1)) == ""
    assert "needs images" in Augmentation(flip=True).refuses((64,))
    assert "up to 8 pixels, and they have 8 by 9" in Augmentation(shift=8).refuses((8, 9, 1))
