"""Copied parts: films sewn together from training films are told from new ones, whatever lies under their detail."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cxrbench.metrics.nearest import appearance, nearest
from cxrbench.metrics.parts import APART, measure_parts, part_distances, quarter_details


def films(count, seed, side=32):
    """uint8 films with broad and fine structure."""
    rng = np.random.default_rng(seed)
    fine = rng.normal(0, 1, (count, side, side))
    fine = (fine + np.roll(fine, 1, 1) + np.roll(fine, 1, 2)) * 8
    broad = np.kron(rng.uniform(-60, 60, (count, 2, 2)), np.ones((side // 2, side // 2)))
    return np.clip(128 + fine + broad, 0, 255).round().astype(np.uint8)[:, None]


def distances(some, train):
    return part_distances(
        quarter_details(some), quarter_details(train), quarter_details(np.ascontiguousarray(train[..., ::-1]))
    )


@pytest.fixture(scope="module")
def train():
    return films(200, 0)


@pytest.fixture(scope="module")
def held_out(train):
    return distances(films(150, 1), train)


def share(some, train, held_out):
    return measure_parts(distances(some, train), held_out)["copied_parts"]


def sewn(train, count, seed, parts=4):
    """New films of which the first ``parts`` quarters are those of training films."""
    rng, new = np.random.default_rng(seed), films(count, seed + 50)
    for film in new:
        for y, x in [(0, 0), (0, 16), (16, 0), (16, 16)][:parts]:
            film[:, y : y + 16, x : x + 16] = train[rng.integers(len(train))][:, y : y + 16, x : x + 16]
    return new


def test_a_copy_lies_at_nothing(train):
    assert distances(train[:20], train).max() < 1e-6
    assert distances(np.ascontiguousarray(train[:20, :, :, ::-1]), train).max() < 1e-6


def test_films_sewn_together_are_found_though_near_to_none_as_a_whole(train, held_out):
    made = sewn(train, 60, 2)
    assert share(made, train, held_out) == 1.0
    whole = nearest(appearance(made), appearance(train), appearance(np.ascontiguousarray(train[..., ::-1]))).distance
    assert whole.min() > 0.1


def test_the_more_quarters_are_copied_the_nearer_a_film_lies(train):
    means = [distances(sewn(train, 60, 2, parts), train).mean() for parts in (0, 1, 2, 3, 4)]
    assert all(fewer > more for fewer, more in itertools.pairwise(means))


def test_pieces_much_smaller_than_quarters_go_unseen(train, held_out):
    """The limit that the module speaks of."""
    rng, made = np.random.default_rng(0), films(60, 9)
    for film in made:
        for y, x in itertools.product(range(0, 32, 4), repeat=2):
            film[:, y : y + 4, x : x + 4] = train[rng.integers(len(train))][:, y : y + 4, x : x + 4]
    assert share(made, train, held_out) < 0.1


def test_new_films_are_not_called_copied(train, held_out):
    assert share(films(150, 3), train, held_out) < 0.05


def test_new_grey_levels_under_a_films_detail_hide_nothing(train, held_out):
    ramp = np.linspace(-50, 50, 32)[None, None, :, None]
    lit = np.clip(0.7 * train[:60].astype(float) + 20 + ramp, 0, 255).round().astype(np.uint8)
    assert share(lit, train, held_out) == 1.0


def test_blurred_films_are_not_called_copied(train, held_out):
    new = films(150, 4)
    blurred = [np.asarray(Image.fromarray(film[0]).filter(ImageFilter.GaussianBlur(2))) for film in new]
    assert share(np.stack(blurred)[:, None], train, held_out) < 0.05


def test_quarters_without_detail_are_nobodys(train):
    even = np.full((3, 1, 32, 32), 90, np.uint8)
    assert (distances(even, np.concatenate([train, even])) == APART).all()
    half = films(2, 5)
    half[:, :, :20] = 0
    whole, kept = quarter_details(half), [2, 3]  # the upper quarters do not count
    assert not whole[:, 0].any()
    real = quarter_details(train)
    alone = part_distances(whole[:, kept], real[:, kept], real[:, kept])
    assert np.allclose(part_distances(whole, real, real), alone)


def test_vectors_have_length_one_and_quarters_their_order(train):
    details = quarter_details(train[:5])
    assert details.shape == (5, 4, 16 * 16)
    assert np.allclose(np.linalg.norm(details, axis=2), 1, atol=1e-5)
    changed = train[:5].copy()
    changed[:, :, :8, 24:] = films(5, 6)[:, :, :8, 24:]
    differs = np.abs(quarter_details(changed) - details).max(axis=(0, 2)) > 1e-3
    assert differs.tolist() == [False, True, False, False]


@pytest.mark.parametrize(("side", "dims"), [(48, 24 * 24), (64, 32 * 32), (100, 32 * 32), (33, 16 * 16)])
def test_any_size(side, dims):
    assert quarter_details(films(2, 7, 32).repeat(4, 2).repeat(4, 3)[:, :, :side, :side]).shape == (2, 4, dims)


def test_a_smaller_version_of_a_film_is_the_same_film():
    small = films(40, 8, 64)
    large = np.stack(
        [np.asarray(Image.fromarray(film[0]).resize((256, 256), Image.Resampling.NEAREST)) for film in small]
    )
    assert np.allclose(quarter_details(small), quarter_details(large[:, None]), atol=1e-5)


def test_too_few_held_out_films_call_nothing(train):
    assert measure_parts(np.zeros(5), np.ones(19)) == {}


def test_films_without_quarters_are_refused():
    with pytest.raises(ValueError, match="no quarters"):
        quarter_details(np.zeros((1, 1, 1, 8), np.uint8))
