"""Pictures that are no frontal chest films."""

import numpy as np
import pytest

from cxrbench.audit.outliers import draw_strangers, is_lateral_view, mirror_symmetry, strangeness
from cxrbench.datasets.phantom import Phantom

RNG = np.random.default_rng(0)


def test_a_stranger_lies_farther_off_than_the_set():
    features = RNG.normal([3, 0, 0, 0], 0.2, (100, 4)).astype(np.float32)
    odd = np.float32([[0, 3, 0, 0]])
    assert strangeness(odd, features, own=False)[0] > 10 * strangeness(features, features, own=True).max()


def test_a_film_is_not_its_own_neighbour():
    features = np.eye(12, dtype=np.float32)
    assert np.allclose(strangeness(features, features, own=True), 1.0)
    assert np.allclose(strangeness(features, features, own=False), 0.8)  # itself and four strangers


def test_strangeness_of_identical_films_is_zero():
    features = np.ones((9, 5), np.float32)
    assert np.allclose(strangeness(features, features, own=True), 0.0, atol=1e-6)


def test_a_single_film_has_no_neighbours():
    assert strangeness(np.ones((1, 3), np.float32), np.ones((1, 3), np.float32), own=True).tolist() == [0.0]


def test_mirror_symmetry_of_known_pictures():
    noise = RNG.integers(0, 256, (1, 64, 64)).astype(np.uint8)
    symmetric = np.concatenate([noise[:, :, :32], noise[:, :, 31::-1]], axis=2)
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 3, (1, 64, 1))
    assert mirror_symmetry(symmetric)[0] == pytest.approx(1.0, abs=0.01)
    assert mirror_symmetry(ramp)[0] < -0.9
    phantom = Phantom(patients_per_class=3)
    frontal = np.stack([phantom.read(film, 64) for film in phantom.listing().films])
    assert mirror_symmetry(frontal).min() > 0.5


@pytest.mark.parametrize(
    ("view", "lateral"),
    [("L", True), ("LATERAL", True), ("left_lateral", True), ("PA", False), ("AP Supine", False), (None, False)],
)
def test_recorded_views(view, lateral):
    assert is_lateral_view(view) is lateral


def test_strangers_are_drawn_alike_for_one_seed_and_differ_among_themselves():
    one, other = (draw_strangers(10, 64, np.random.default_rng(3)) for _ in range(2))
    assert one.shape == (10, 64, 64)
    assert np.array_equal(one, other)
    assert len({picture.tobytes() for picture in one}) == 10
