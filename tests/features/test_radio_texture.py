"""The texture extractor: pinned numbers, fixed scales, sizes."""

import numpy as np
import pytest

from cxrbench.datasets.phantom import Phantom
from cxrbench.features import radio_texture
from cxrbench.features.radio_texture import NAMES, SCALES, RadioTexture, measure_scales, measures

DOWN, ACROSS = np.mgrid[:48, :40]
BUSY = ((7 * DOWN + 13 * ACROSS + DOWN * ACROSS) % 256).astype(np.uint8)
PLAIN = (40 + 3 * DOWN + ACROSS // 2).astype(np.uint8)


def test_a_change_of_the_definition_changes_the_identity():
    """Where these numbers must change, raise DEFINITION: cached features and records are told apart by it."""
    features = RadioTexture().extract(np.stack([BUSY, PLAIN])[:, None], "cpu")
    expected = [
        [0.0632, 1.6066, 4.9957, -9.2584, 0.0264, -1.756, -8.887, -0.2479, 7.5226],
        [-0.3281, -1.0196, -3.1568, 4.4056, 2.5292, 14.1008, 20.0986, 20.4514, -15.4813],
    ]
    np.testing.assert_allclose(features[:, ::9], expected, atol=1e-3)
    np.testing.assert_allclose(features.mean(axis=1), [1.86079, -1.48225], atol=1e-4)
    assert RadioTexture().weights_sha256() == "b00a134f1935404d9ff7ad06cb401f5311535905a68688b87f6460df2b2fe655"


def test_the_identity_follows_number_and_scales(monkeypatch):
    before = RadioTexture().weights_sha256()
    monkeypatch.setattr(radio_texture, "DEFINITION", radio_texture.DEFINITION + 1)
    assert RadioTexture().weights_sha256() != before
    monkeypatch.undo()
    monkeypatch.setitem(SCALES, "mean", (0.0, 1.0))
    assert RadioTexture().weights_sha256() != before


def test_every_measure_has_one_name_and_one_scale():
    assert len(set(NAMES)) == len(NAMES) == RadioTexture.dim == measures(BUSY[None, None]).shape[1]
    assert list(SCALES) == list(NAMES)
    assert all(spread > 0 for _, spread in SCALES.values())


@pytest.mark.parametrize("size", [32, 96])
def test_fixed_scales_fit_the_films_they_are_for(size):
    phantom = Phantom(patients_per_class=12, max_films=1)
    films = np.stack([phantom.read(film, size) for film in phantom.listing().films])[:, None]
    features = RadioTexture().extract(films, "cpu")
    assert 0.1 < np.median(features.std(axis=0)) < 1.5
    assert np.median(abs(features)) < 2


def test_scales_are_the_mean_and_the_spread_within_a_set():
    first, second = (np.stack([BUSY, BUSY.T[:40, :40].repeat(2, axis=0)[:48]])[:, None] // k for k in (1, 3))
    found = measure_scales([first, second])
    means = [measures(films)[:, 0] for films in (first, second)]
    assert found["mean"][0] == pytest.approx(np.mean([m.mean() for m in means]))
    assert found["mean"][1] == pytest.approx(np.sqrt(np.mean([m.var() for m in means])))
    assert list(found) == list(NAMES)


def test_films_too_small_to_measure_are_refused():
    with pytest.raises(ValueError, match="12 pixels a side"):
        RadioTexture().extract(np.zeros((2, 1, 32, 11), np.uint8), "cpu")
    assert np.isfinite(RadioTexture().extract(np.zeros((2, 1, 12, 12), np.uint8), "cpu")).all()


def test_large_films_are_measured_a_few_at_a_time():
    films = np.random.default_rng(0).integers(0, 256, (5, 1, 300, 300), dtype=np.uint8)
    seen = []
    features = RadioTexture().extract(films, "cpu", lambda done, total: seen.append((done, total)))
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    np.testing.assert_allclose(features[3:], RadioTexture().extract(films[3:], "cpu"), atol=1e-5)
