"""Quilting: detail of real films over coarse ones, every piece from another film."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrbench_baselines.generators.quilting import MOST_PIECES, enlarged, films_needed, library, spans
from cxrbench_baselines.generators.quilting import quilted as quilted_from

SIDE, SIZE = 8, 32


def films(count, seed=0):
    return torch.rand((count, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def quilted(coarse, real, pieces, agreement, banned=None):
    """With films in [-1, 1] for a library."""
    pixels = ((real + 1) * 127.5).round().to(torch.uint8)
    return quilted_from(coarse, library(pixels, SIDE), pieces, agreement, banned)


def shrunk(real):
    return torch.nn.functional.avg_pool2d(real, SIZE // SIDE)


def marked(count):
    """Films whose detail is one checkerboard, of another strength in each, over level grey."""
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(SIZE // 2, SIZE // 2)
    strength = torch.linspace(0.1, 0.9, count)
    return strength[:, None, None, None] * board


@given(size=st.integers(16, 320), pieces=st.integers(1, MOST_PIECES))
def test_pieces_cover_a_side_and_overlap_alike(size, pieces):
    found = spans(size, pieces)
    assert found[0].start == 0
    assert found[-1].stop == size
    overlaps = {one.stop - other.start for one, other in itertools.pairwise(found)}
    assert len(overlaps) <= 1
    assert all(0 < overlap <= max(size / 8 + 2, 2) for overlap in overlaps)


def test_of_one_piece_a_film_gets_the_detail_of_the_film_it_came_from():
    """Closed form: coarse film i fits film i exactly, so the film itself comes back."""
    real = films(9)
    assert torch.allclose(quilted(shrunk(real), real, 1, 3.0), real, atol=0.01)  # a grey level is 0.008


def test_a_banned_film_gives_nothing():
    real = films(9)
    rows = torch.arange(9)
    made = quilted(shrunk(real), real, 1, 3.0, banned=rows)
    detail, own = made - enlarged(shrunk(real), SIZE), real - enlarged(shrunk(real), SIZE)
    nearest = (detail[:, None] - own[None]).square().sum(dim=(2, 3, 4)).argmin(dim=1)
    assert (nearest != rows).all()


@pytest.mark.parametrize("pieces", [2, 3])
@pytest.mark.parametrize("agreement", [0.0, 3.0, 1e3])
def test_every_piece_is_of_another_film(pieces, agreement):
    """The strength of the checkerboard in the middle of a piece, where nothing overlaps, tells whose it is."""
    real = marked(films_needed(pieces) + 2)
    made = quilted(torch.zeros(4, 1, SIDE, SIDE), real, pieces, agreement)[:, 0]
    middles = [round(SIZE * (number + 0.5) / pieces) for number in range(pieces)]
    strengths = made[:, middles][:, :, middles].abs().flatten(1)
    apart = (strengths[:, :, None] - real[:, 0, 0, 0]).abs()
    assert float(apart.min(dim=2).values.max()) < 0.01
    assert all(len(set(row.tolist())) == pieces**2 for row in apart.argmin(dim=2))


def test_agreement_chooses_pieces_that_continue_each_other():
    """Coarse films alike, details of many strengths in no order: with agreement, those of a film are alike, too."""
    real = marked(12)[torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    middles, step = [SIZE // 4, 3 * SIZE // 4], 0.8 / 11

    def spread(agreement):
        made = quilted(torch.zeros(1, 1, SIDE, SIDE), real, 2, agreement)[0, 0]
        strengths = made[middles][:, middles].abs()
        return float(strengths.max() - strengths.min())

    assert spread(10.0) < 4.5 * step < spread(0.0)


@pytest.mark.parametrize("size", [16, 32, 299 + 21])
def test_the_most_pieces_fit_on_any_film(size):
    real = library(torch.zeros(films_needed(MOST_PIECES), 1, size, size, dtype=torch.uint8), SIDE)
    assert quilted_from(torch.zeros(1, 1, SIDE, SIDE), real, MOST_PIECES, 3.0).shape == (1, 1, size, size)


def test_power_is_kept_where_pieces_overlap():
    """White detail of unrelated films keeps its variance; weights that add up to one would lose up to half of it."""
    real = films(400, seed=1)
    detail = (quilted(shrunk(films(200, seed=2)), real, 2, 0.0) - enlarged(shrunk(films(200, seed=2)), SIZE))[:, 0]
    seam, calm = detail[:, 2:8, 15:17].var(), detail[:, 2:8, 4:10].var()
    assert float(seam / calm) == pytest.approx(1.0, abs=0.12)


def test_a_film_is_still_that_of_its_coarse_film():
    coarse = shrunk(films(20, seed=3))
    made = shrunk(quilted(coarse, films(40, seed=4), 2, 3.0))
    nearest = (made[:, None] - coarse[None]).square().sum(dim=(2, 3, 4)).argmin(dim=1)
    assert nearest.tolist() == list(range(20))


def test_batches_do_not_matter(monkeypatch):
    from cxrbench_baselines.generators import quilting

    coarse, real = shrunk(films(10, seed=4)), films(12, seed=5)
    whole = quilted(coarse, real, 2, 3.0)
    monkeypatch.setattr(quilting, "FILMS_AT_ONCE", 3)
    assert torch.allclose(quilted(coarse, real, 2, 3.0), whole, atol=1e-5)


def test_too_few_films_are_refused():
    coarse = shrunk(films(2))
    with pytest.raises(ValueError, match=r"4 films are needed for 2 x 2 pieces, there are 3"):
        quilted(coarse, films(3), 2, 3.0)
    with pytest.raises(ValueError, match=r"5 films are needed"):
        quilted(coarse, films(4), 2, 3.0, banned=torch.tensor([0, 1]))
    assert np.isfinite(quilted(coarse, films(5), 2, 3.0, banned=torch.tensor([0, 1])).numpy()).all()


@pytest.mark.gpu
def test_the_same_on_a_gpu():
    coarse, real = shrunk(films(10, seed=4)), films(40, seed=5)
    assert torch.allclose(quilted(coarse.cuda(), real.cuda(), 2, 3.0).cpu(), quilted(coarse, real, 2, 3.0), atol=0.01)
