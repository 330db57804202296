"""Memorization: copies of many kinds are found and new films are not; scores equal their definitions."""

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

from cxrbench.datasets.radiography import Radiography
from cxrbench.metrics.memorization import FLOOR, copy_threshold, held_out_copies, measure_memorization
from cxrbench.metrics.nearest import appearance, nearest


def bumps(count, seed, side=40, kinds=14):
    """uint8 films that share a broad shape and differ by smooth bumps."""
    rng = np.random.default_rng(seed)
    axis = (np.arange(side) + 0.5) / side
    centre, width = rng.uniform(0, 1, (2, count, kinds, 1)), rng.uniform(0.05, 0.2, (count, kinds, 1))
    down, across = (np.exp(-(((axis - at) / width) ** 2) / 2) for at in centre)
    films = np.einsum("nky,nkx,nk->nyx", down, across, rng.uniform(-50, 50, (count, kinds)))
    shared = 40 * np.exp(-((axis - 0.5) ** 2) / 0.1)
    return np.clip(films + 90 + shared[:, None], 0, 255).round().astype(np.uint8)[:, None]


def mirror(films):
    return films[..., ::-1]


def features(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def blobs(near, far, seed):
    """``near`` films about the origin and ``far`` films a long way off."""
    films = features(near + far, 3, seed)
    films[near:] += 20
    return films


def cells(generated, near, held_out, others_near):
    """Synthetic and held-out films of the one blob, and of the other."""
    return (generated[:near], held_out[:others_near]), (generated[near:], held_out[others_near:])


def z_score(ours, theirs):
    """Meehan et al.: how many pairs have the synthetic film farther out, as a z-score."""
    farther = (ours[:, None] > theirs).sum() + (ours[:, None] == theirs).sum() / 2
    n, m = len(ours), len(theirs)
    return (farther - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)


@pytest.fixture(scope="module")
def films():
    """Training, held-out and new films of one class."""
    every = bumps(620, seed=0)
    return every[:300], every[300:500], every[500:]


@pytest.fixture(scope="module")
def measure(films):
    """``measure_memorization`` of synthetic films against the training and held-out films."""
    train, held_out, _ = films
    known = appearance(held_out), appearance(train), appearance(mirror(train))
    return lambda synthetic, seed=0: measure_memorization(appearance(synthetic), *known, seed)


def test_the_threshold_is_the_first_percentile_but_never_0():
    assert copy_threshold(np.linspace(1.0, 2.0, 101)) == pytest.approx(1.01)
    assert copy_threshold(np.array([0.9, 0.4, 0.6])) == pytest.approx(0.4 + 0.02 * 0.2)
    assert copy_threshold(np.zeros(50)) == FLOOR > 0
    for broken in (np.empty(0), np.array([0.3, np.nan])):
        with pytest.raises(ValueError, match="finite"):
            copy_threshold(broken)


@pytest.mark.parametrize("count", [20, 60, 150])
def test_as_many_new_films_fall_below_the_threshold_as_is_said(count):
    rng = np.random.default_rng(0)
    called = [np.mean(rng.gamma(4, size=200) < copy_threshold(rng.gamma(4, size=count))) for _ in range(400)]
    least, most = (1 / (count + 1), 2 / (count + 1)) if count < 100 else (0.01, 0.02)
    assert least * 0.8 < np.mean(called) < most * 1.2


def test_new_films_are_no_copies(measure, films):
    scores = measure(films[2])
    assert scores["nn_ratio"] == pytest.approx(1.0, abs=0.1)
    assert scores["nn_p"] > 0.01
    assert abs(scores["ct"]) < 3
    assert scores["authpct"] > 50
    assert scores["copies"] < 0.05
    assert scores["copies_expected"] == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize("turned", [np.asarray, mirror])
def test_copies_and_mirrored_copies_have_every_sign_of_copying(measure, films, turned):
    scores = measure(turned(films[0][:200]))
    assert (scores["nn_ratio"], scores["authpct"], scores["copies"]) == (0.0, 0.0, 1.0)
    assert scores["nn_p"] < 1e-10
    assert scores["ct"] < -5


def test_relit_noisy_and_slightly_cropped_copies_are_found(measure, films):
    rng = np.random.default_rng(0)
    side = films[0].shape[-1]
    inner = [Image.fromarray(film[0]).resize((side, side), box=(0.4, 0, side, side - 0.4)) for film in films[0]]
    changed = np.stack([np.asarray(film, np.float64) for film in inner])[:, None] * 0.8 + 15
    scores = measure(np.clip(changed + rng.normal(0, 3, changed.shape), 0, 255).round().astype(np.uint8))
    assert scores["copies"] > 0.9
    assert scores["ct"] < -5


def test_a_few_copies_among_new_films_are_counted(measure, films):
    train, _, new = films
    without = measure(new)["copies"] * len(new)
    assert measure(np.concatenate([new, train[:30]]))["copies"] == pytest.approx((without + 30) / (len(new) + 30))


def test_films_farther_from_training_films_than_new_ones_score_the_other_way(measure):
    scores = measure(np.random.default_rng(0).integers(0, 256, (200, 1, 40, 40), dtype=np.uint8))
    assert scores["nn_ratio"] > 1
    assert scores["nn_p"] > 0.99
    assert scores["ct"] > 5
    assert (scores["authpct"], scores["copies"]) == (100.0, 0.0)


def test_the_plain_scores_equal_their_definitions_written_out():
    generated, held_out, train, mirrored = (features(n, 6, seed) for seed, n in enumerate((40, 30, 25, 25)))

    def to_train(films):
        return np.minimum(cdist(films, train), cdist(films, mirrored))

    among = to_train(train) + np.diag(np.full(25, np.inf))
    ours, theirs = to_train(generated).min(axis=1), to_train(held_out).min(axis=1)
    own_nearest = to_train(generated).argmin(axis=1)
    scores = measure_memorization(generated, held_out, train, mirrored, seed=0)
    assert scores["nn_ratio"] == pytest.approx(np.median(ours) / np.median(theirs))
    assert scores["nn_p"] == pytest.approx(mannwhitneyu(ours, theirs, alternative="less").pvalue)
    assert scores["authpct"] == pytest.approx(100 * np.mean(ours > among.min(axis=1)[own_nearest]))
    assert scores["copies"] == np.mean(ours < np.quantile(theirs, 0.01))
    assert scores["copies_expected"] == pytest.approx(1 / 30)
    assert scores["ct"] == pytest.approx(z_score(ours, theirs))  # fewer than 100 films: one cell


def test_ct_is_the_mean_of_the_cells_z_scores_weighted_by_their_held_out_films():
    generated, held_out, train = blobs(40, 70, 0), blobs(30, 90, 1), blobs(40, 40, 2)
    generated[:40] = train[:40] + 0.01  # copies in one cell, and far from the training films in the other
    generated[40:] += 3
    scores = [z_score(cdist(a, train).min(1), cdist(b, train).min(1)) for a, b in cells(generated, 40, held_out, 30)]
    expected = (30 * scores[0] + 90 * scores[1]) / 120
    assert scores[0] < -2 < 2 < scores[1]
    assert measure_memorization(generated, held_out, train, train, seed=0)["ct"] == pytest.approx(expected)


def test_cells_with_few_films_of_either_side_are_left_out_of_ct():
    train = blobs(40, 40, 2)
    for ours, theirs in (((100, 19), (60, 60)), ((60, 60), (100, 19))):
        generated, held_out = blobs(*ours, 0), blobs(*theirs, 1)
        (a, b), _ = cells(generated, ours[0], held_out, theirs[0])
        expected = z_score(cdist(a, train).min(1), cdist(b, train).min(1))
        assert measure_memorization(generated, held_out, train, train, seed=0)["ct"] == pytest.approx(expected)
    assert "ct" not in measure_memorization(blobs(110, 5, 0), blobs(5, 110, 1), train, train, seed=0)


def test_scores_do_not_change_when_measured_again(measure, films):
    assert measure(films[2], seed=7) == measure(films[2], seed=7)


@pytest.mark.parametrize(
    ("ours", "theirs", "absent"),
    [
        (20, 20, set()),
        (19, 20, {"ct"}),
        (20, 19, {"ct", "copies", "copies_expected"}),
        (4, 4, {"ct", "copies", "copies_expected"}),
        (3, 4, {"ct", "copies", "copies_expected", "nn_p"}),
        (2, 2, {"ct", "copies", "copies_expected", "nn_p"}),
    ],
)
def test_what_few_films_cannot_tell_is_left_out(ours, theirs, absent):
    scores = measure_memorization(features(ours, 4), features(theirs, 4, 1), features(2, 4, 2), features(2, 4, 3), 0)
    assert {"nn_ratio", "nn_p", "authpct", "ct", "copies", "copies_expected"} - scores.keys() == absent
    assert np.isfinite(list(scores.values())).all()


def test_held_out_films_that_are_copies_have_no_ratio_but_copies_are_still_called_so():
    train = features(30, 4)
    scores = measure_memorization(train, train, train, features(30, 4, 1), seed=0)
    assert "nn_ratio" not in scores
    assert (scores["copies"], scores["copies_expected"], scores["nn_p"], scores["ct"]) == (1.0, 1.0, 1.0, 0.0)


def test_sets_that_cannot_be_measured_are_refused():
    good, broken = features(10, 4), features(10, 4)
    broken[3, 2] = np.inf
    for place, name in enumerate(["synthetic", "held-out", "synthetic", "mirrored"]):
        for bad, why in ((broken, "NaN"), (good[:1], "at least 2"), (features(10, 5), "must be")):
            sets = [good, good, good, good]
            sets[place] = bad
            with pytest.raises(ValueError, match=f"{name} and training films.*{why}"):
                measure_memorization(*sets, seed=0)
    with pytest.raises(ValueError, match="mirror images"):
        measure_memorization(good, good, good, good[:9], seed=0)


def test_copies_of_held_out_films_are_told_from_copies_of_training_films(films):
    train, held_out, _ = films
    real, turned = appearance(held_out), appearance(mirror(held_out))
    threshold = copy_threshold(nearest(real, appearance(train), appearance(mirror(train))).distance)
    leaked = appearance(np.concatenate([held_out[:5], mirror(held_out[5:9])]))
    assert held_out_copies(leaked, real, turned, threshold).all()
    assert held_out_copies(appearance(train), real, turned, threshold).mean() < 0.05


def test_changed_copies_of_real_films_are_found_and_other_films_are_not(real_data):
    dataset = Radiography(str(real_data / "external"))
    rows = [film for film in dataset.listing().films if dataset.classes()[film.label] == "Normal"][:220]
    real = np.stack([dataset.read(film, 64) for film in rows])[:, None]
    train, held_out, new = real[:100], real[100:160], real[160:]
    known = appearance(held_out), appearance(train), appearance(mirror(train))
    noise = np.random.default_rng(0).normal(0, 4, train.shape)
    changed = np.clip(mirror(train) * 0.8 + 10 + noise, 0, 255).round().astype(np.uint8)
    copied, fresh = (measure_memorization(appearance(films), *known, seed=0) for films in (changed, new))
    assert (copied["copies"], copied["authpct"]) == (1.0, 0.0)
    assert copied["ct"] < -5
    assert fresh["copies"] <= 0.1
    assert fresh["nn_ratio"] == pytest.approx(1.0, abs=0.15)
    assert abs(fresh["ct"]) < 3
