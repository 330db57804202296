"""The net that learns which way round films lie."""

import numpy as np
import pytest
import torch

from cxrbench.audit import orientation
from cxrbench.audit.orientation import SIDE, TURNS, fit_net, judge, shrink, stretch, turn_films
from cxrbench.contracts import no_progress
from cxrbench.datasets.phantom import Phantom


@pytest.fixture(scope="module")
def films():
    phantom = Phantom(patients_per_class=60, max_films=1)
    return np.stack([phantom.read(film, 64) for film in phantom.listing().films])


@pytest.fixture(scope="module")
def net(films):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orientation, "STEPS", 150)
        return fit_net(shrink(films[::2]), 0, "cpu", no_progress)


def share(values):
    return float((values > 0).mean())


def test_the_net_tells_how_films_lie_that_it_never_saw(films, net):
    others = films[1::2]

    def seen(changed):
        return judge(net, shrink(np.ascontiguousarray(changed)), "cpu")

    plain = seen(others)
    assert max(share(plain.flipped), share(plain.upside_down), share(plain.rotated), share(plain.inverted)) < 0.1
    assert share(seen(others[:, :, ::-1]).flipped) > 0.9
    assert share(seen(others[:, ::-1, ::-1]).upside_down) > 0.9
    assert share(seen(others.swapaxes(1, 2)[:, ::-1]).rotated) > 0.9
    assert share(seen(255 - others).inverted) > 0.9
    stretched = seen(stretch(others, np.random.default_rng(0))).distorted
    assert np.median(stretched) > np.quantile(plain.distorted, 0.9)


def test_mirroring_a_film_turns_its_score_round(films, net):
    one = judge(net, shrink(films[1:9]), "cpu")
    other = judge(net, shrink(np.ascontiguousarray(films[1:9, :, ::-1])), "cpu")
    assert np.allclose(one.flipped, -other.flipped, atol=0.15)


def test_inverting_a_film_turns_its_score_round(films, net):
    one = judge(net, shrink(films[1:9]), "cpu")
    other = judge(net, -shrink(films[1:9]), "cpu")
    assert np.allclose(one.inverted, -other.inverted, atol=0.15)


def test_the_table_of_turns_is_a_group():
    table = orientation._composition()
    assert all(sorted(row) == list(range(8)) for row in table.tolist())
    assert table[0].tolist() == list(range(8))


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn.name)
def test_tensors_and_arrays_turn_alike(turn):
    cells = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    assert np.array_equal(turn_films(torch.from_numpy(cells), turn).numpy(), turn.apply(cells))


def test_shrinking_takes_lighting_out():
    film = np.random.default_rng(0).integers(40, 120, (1, 96, 96)).astype(np.uint8)
    assert shrink(film).shape == (1, 1, SIDE, SIDE)
    assert torch.allclose(shrink(film), shrink(film * 2), atol=0.02)


def test_a_stretched_film_keeps_its_shape_and_the_original_is_left_alone(films):
    before = films[:5].copy()
    stretched = stretch(films[:5], np.random.default_rng(1))
    assert stretched.shape == before.shape
    assert stretched.dtype == np.uint8
    assert np.array_equal(films[:5], before)
    assert (stretched != before).mean() > 0.5


def test_the_same_seed_gives_the_same_net(films, monkeypatch):
    monkeypatch.setattr(orientation, "STEPS", 3)
    small = shrink(films[:20])
    one, other = (judge(fit_net(small, 4, "cpu", no_progress), small, "cpu").flipped for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("has", [True, False])
def test_a_cpu_that_has_no_bf16_computes_in_float32(monkeypatch, has):
    monkeypatch.setattr(orientation, "cpu_has_bf16", lambda: has)
    with orientation._precision("cpu"):
        assert torch.is_autocast_enabled("cpu") == has
