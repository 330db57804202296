"""What the bench of feature extraction says of two ways to the same features."""

import numpy as np
import pytest

from bench.feature_speed import differences, measure, read_films, write_random_weights
from cxrbench.errors import DataError


def some_features(n=40, dims=5):
    return np.random.default_rng(0).normal(size=(n, dims)).astype(np.float32)


def test_the_same_features_do_not_differ():
    assert set(differences(some_features(), some_features()).values()) == {0.0}


def test_features_of_another_scale_have_another_distance():
    found = differences(2 * some_features(), some_features())
    assert found["relative"] == pytest.approx(1.0, rel=0.1)  # but for the mean
    assert found["fd_worst"] == pytest.approx(3.0, rel=1e-3)  # a squared distance is four times as large
    assert found["largest"] == pytest.approx(np.abs(some_features()).max())


def test_every_way_is_compared_with_the_first():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
    ways = {
        "theirs": lambda films: films.reshape(len(films), -1)[:, :5].astype(np.float32),
        "ours": lambda films: films.reshape(len(films), -1)[:, :5].astype(np.float32) + 1,
    }
    theirs, ours = measure(ways, pixels, rounds=2)
    assert theirs["times_as_fast"] == 1.0
    assert theirs["largest"] == 0.0
    assert ours["largest"] == 1.0
    assert ours["fd_worst"] < 1e-3  # a shift of both halves moves no distance
    assert len(ours["seconds"]) == 2


def test_random_weights_are_in_the_real_format(tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    write_random_weights(tmp_path / "w.pth")
    FeatureExtractorInceptionV3("i", ["2048"], feature_extractor_weights_path=str(tmp_path / "w.pth"))


def test_films_are_taken_class_by_class_in_turn_and_never_fewer():
    pixels, name = read_films("phantom:patients_per_class=4", 7, 32)
    assert pixels.shape == (7, 1, 32, 32)
    assert name.startswith("phantom")
    with pytest.raises(DataError, match="ask for fewer with --films"):
        read_films("phantom:patients_per_class=4", 1000, 32)
