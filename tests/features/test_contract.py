"""What every extractor promises; measured on those that need no network."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cxrbench.datasets.phantom import Phantom
from cxrbench.features.dinov2 import DinoV2
from cxrbench.features.fidelity_nets import VGG16, ClipViTB32
from cxrbench.features.inception import Inception
from cxrbench.features.lite0 import Lite0
from cxrbench.features.radio_texture import RadioTexture
from cxrbench.features.xrv import XRVDenseNet
from cxrbench.machine import computing_with
from cxrbench.metrics.distances import frechet_distance
from cxrbench.registry import EXTRACTORS, NAME

OFFLINE = [Lite0, RadioTexture]
ALL = [*OFFLINE, Inception, VGG16, ClipViTB32, DinoV2, XRVDenseNet]

offline = pytest.mark.parametrize("extractor", [kind() for kind in OFFLINE], ids=[kind.name for kind in OFFLINE])


def noise(count, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 1, size, size), dtype=np.uint8)


@offline
@pytest.mark.parametrize("size", [32, 57])
def test_features_are_finite_float32_rows_of_the_declared_width(extractor, size):
    films = np.concatenate([noise(3, size), np.full((1, 1, size, size), 255, np.uint8), np.zeros_like(noise(1, size))])
    features = extractor.extract(films, "cpu")
    assert (features.shape, features.dtype) == ((5, extractor.dim), np.float32)
    assert np.isfinite(features).all()
    assert abs(features).max() < 1000
    assert features.std(axis=0).max() > 0


@offline
def test_no_films_give_no_rows(extractor):
    features = extractor.extract(noise(0), "cpu")
    assert (features.shape, features.dtype) == ((0, extractor.dim), np.float32)


@offline
def test_features_are_the_same_twice_and_leave_the_films_alone(extractor):
    films = noise(4)
    films.setflags(write=False)  # as a memory-mapped set is
    np.testing.assert_array_equal(extractor.extract(films, "cpu"), extractor.extract(films, "cpu"))
    np.testing.assert_array_equal(films, noise(4))


@offline
def test_a_films_features_do_not_depend_on_its_companions(extractor):
    # To the bit, with one thread: they are kept film by film.
    films, order = noise(19), np.random.default_rng(1).permutation(19)
    with computing_with(threads=1):
        features = extractor.extract(films, "cpu")
        np.testing.assert_array_equal(extractor.extract(films[order], "cpu"), features[order])
        np.testing.assert_array_equal(extractor.extract(films[7:8], "cpu"), features[7:8])
        np.testing.assert_array_equal(extractor.extract(films[::3], "cpu"), features[::3])


@offline
def test_progress_counts_up_to_all_films(extractor):
    seen = []
    extractor.extract(noise(18), "cpu", lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (18, 18)


@offline
def test_real_films_are_nearer_than_blurred_ones_and_those_than_noise(extractor):
    phantom = Phantom(patients_per_class=16, max_films=1)
    films = np.stack([phantom.read(film, 32) for film in phantom.listing().films])[:, None]
    reference, others = (extractor.extract(half, "cpu") for half in (films[::2], films[1::2]))
    blurred = np.stack([gaussian_filter(film.astype(float), (0, 1, 1)) for film in films[1::2]]).astype(np.uint8)
    near, farther, farthest = (
        frechet_distance(features, reference)
        for features in (others, extractor.extract(blurred, "cpu"), extractor.extract(noise(24), "cpu"))
    )
    assert near < farther / 2
    assert farther < 0.75 * farthest


@offline
def test_the_identity_of_the_weights_is_a_sha256_that_stays(extractor):
    digest = extractor.weights_sha256()
    assert len(bytes.fromhex(digest)) == 32
    assert type(extractor)().weights_sha256() == digest


@pytest.mark.parametrize("kind", ALL, ids=[kind.name for kind in ALL])
def test_an_extractor_says_what_it_is(kind):
    extractor = kind()
    assert NAME.fullmatch(extractor.name)
    assert extractor.resize == kind.resize != ""
    labels = (extractor.fd_label, extractor.kd_label)
    assert labels == (("FID", "KID") if kind is Inception else (f"FD-{extractor.name}", f"KID-{extractor.name}"))


@pytest.mark.parametrize("name", EXTRACTORS.names())
def test_registered_names_are_the_extractors_own(name):
    assert EXTRACTORS.get(name).name == name
