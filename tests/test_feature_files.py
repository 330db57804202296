"""Feature files: what is written comes back, and nothing that is torn, pickled or foreign is taken for features."""

import io
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench.errors import DataError, UsageError
from cxrbench.feature_files import (
    FeatureSet,
    check_same_extractor,
    compare_features,
    is_feature_file,
    load_features,
    oddities,
    save_features,
)

CLASSES = ("COVID", "Normal")


def feature_set(per_class=20, dim=4, seed=0, shift=0.0, classes=CLASSES, **facts):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes)), per_class).astype(np.int64)
    features = (rng.standard_normal((len(labels), dim)) + labels[:, None] + shift + 3).astype(np.float32)
    origin = {"extractor": "tiny", "weights_sha256": "ab" * 32, "resize": "none", "size": 64, "films_hash": "cd" * 32}
    return FeatureSet(features, labels, classes, **{**origin, **facts})


def arrays(**changed):
    """What a feature file holds, with some arrays changed (None: left out)."""
    stream = io.BytesIO()
    one = feature_set()
    held = {"features": one.features, "labels": one.labels, "classes": np.asarray(one.classes), "size": np.asarray(64)}
    held |= {name: np.asarray(getattr(one, name)) for name in ("extractor", "weights_sha256", "resize", "films_hash")}
    np.savez(stream, **{name: array for name, array in {**held, **changed}.items() if array is not None})
    return stream.getvalue()


@pytest.mark.parametrize("groups", [None, np.arange(40) // 2])
def test_what_is_saved_is_loaded(tmp_path, groups):
    one = feature_set(classes=("Überlagerung", "all clear"), groups=groups)
    save_features(tmp_path / "new" / "f.npz", one)
    again = load_features(tmp_path / "new" / "f.npz")
    for name, value in vars(one).items():
        assert np.array_equal(getattr(again, name), value), name
    assert again.features.dtype == np.float32
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["f.npz"]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True))
def test_any_set_survives_the_file(tmp_path_factory, films, dim, classes):
    # A class may not be called "all", and numpy drops NULs at the end of a text.
    classes = tuple(name for name in classes if name != "all" and not name.endswith("\0"))
    if not classes:
        return
    path = tmp_path_factory.mktemp("f") / "f.npz"
    one = feature_set(films, dim, classes=classes)
    save_features(path, one)
    assert load_features(path).classes == classes
    assert np.array_equal(load_features(path).features, one.features)


def test_a_file_made_by_other_means_needs_no_groups(tmp_path):
    (tmp_path / "f.npz").write_bytes(arrays())
    assert load_features(tmp_path / "f.npz").groups is None


X = feature_set().features
NOT_FEATURES = [
    ({"features": X.astype(np.float64)}, "features must be float32"),
    ({"features": X[0]}, "features must be float32"),
    ({"features": X[:0], "labels": np.zeros(0, np.int64)}, "at least 1"),
    ({"features": np.where(X < 3, np.nan, X).astype(np.float32)}, "rows of features hold NaN or infinity"),
    ({"features": np.full_like(X, np.inf)}, "40 of 40 rows of features hold NaN or infinity"),
    ({"labels": np.zeros(39, np.int64)}, r"labels must be int64 \[40\], got int64 \[39\]"),
    ({"labels": np.zeros(40, np.int32)}, "labels must be int64"),
    ({"labels": np.full(40, 2)}, r"labels must lie in \[0, 2\)"),
    ({"labels": np.full(40, -1)}, r"labels must lie in \[0, 2\)"),
    ({"groups": np.zeros(3, np.int64)}, "groups must be int64"),
    ({"classes": np.asarray(["a", "a"])}, "classes must differ"),
    ({"classes": np.asarray(["a", "all"])}, "may be called 'all'"),
    ({"classes": np.arange(2)}, "classes must be texts"),
    ({"extractor": np.asarray(7)}, "extractor must be a text"),
    ({"weights_sha256": np.asarray("")}, "weights_sha256 is empty"),
    ({"size": np.asarray(0.5)}, "size must be a whole number"),
    ({"size": None, "resize": None}, "it lacks size, resize"),
    ({"features": np.asarray([{}, {}])}, "pickled objects, which are never opened"),
    ({"classes": np.asarray(["a", None])}, "pickled objects, which are never opened"),
]


@pytest.mark.parametrize(("changed", "message"), NOT_FEATURES, ids=[message for _, message in NOT_FEATURES])
def test_what_is_no_feature_set_is_refused_in_one_line_that_says_how_to_mend_it(tmp_path, changed, message):
    path = tmp_path / "f.npz"
    path.write_bytes(arrays(**changed))
    with pytest.raises(DataError, match=message) as refused:
        load_features(path)
    assert str(path) in str(refused.value)
    assert "make it again" in str(refused.value)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_no_pickle_is_opened_wherever_it_hides(tmp_path):
    path = tmp_path / "f.npz"
    inside = io.BytesIO(arrays())
    with zipfile.ZipFile(inside, "a") as archive:
        archive.writestr("groups.npy", pickle.dumps(Trap()))
    for content, message in ((pickle.dumps(Trap()), "never opened"), (inside.getvalue(), "groups must be int64")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_features(path)


def test_a_torn_file_is_refused_wherever_it_was_torn(tmp_path):
    whole, path = arrays(), tmp_path / "f.npz"
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        assert is_feature_file(path)
        with pytest.raises(DataError, match="torn"):
            load_features(path)


def test_a_flipped_bit_among_the_features_is_noticed(tmp_path):
    whole, path = arrays(), tmp_path / "f.npz"
    at = whole.index(X.tobytes()) + 5
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(DataError, match="torn"):
        load_features(path)


def test_one_array_alone_is_no_feature_file(tmp_path):
    with (tmp_path / "f.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match="no feature file"):
        load_features(tmp_path / "f.npz")


def test_a_file_that_is_not_there_or_cannot_be_written_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        load_features(tmp_path / "f.npz")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        save_features(tmp_path / "file" / "f.npz", feature_set())
    with pytest.raises(UsageError, match=r"end it in \.npz"):
        save_features(tmp_path / "f.npy", feature_set())


def test_medmnist_is_no_feature_file(tmp_path):
    np.savez(tmp_path / "pneumoniamnist.npz", train_images=np.zeros((1, 28, 28), np.uint8))
    save_features(tmp_path / "chestmnist-tiny.npz", feature_set())
    assert not is_feature_file(tmp_path / "pneumoniamnist.npz")
    assert is_feature_file(tmp_path / "chestmnist-tiny.npz")
    assert not is_feature_file(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"extractor": "lite0"}, "extractor differs, tiny and lite0"),
        ({"weights_sha256": "0" * 64}, "sha256 of the weights differs"),
        ({"dim": 5}, "length differs, 4 and 5"),
        ({"size": 224}, "film size differs, 64 and 224"),
    ],
)
def test_features_made_in_two_ways_are_not_compared(changed, message):
    for refuse in (check_same_extractor, compare_features):
        with pytest.raises(UsageError, match=message):
            refuse(feature_set(), feature_set(**changed))
    check_same_extractor(feature_set(), feature_set(seed=1, resize="the same in other words"))
    assert "resized as" in oddities(feature_set(), feature_set(seed=1, resize="in other words"))[0]


def test_a_set_against_itself_is_at_distance_zero():
    for result in compare_features(feature_set(), feature_set(), resamples=4).values():
        assert result.scores["fid"] == pytest.approx(0, abs=1e-9)
        assert result.scores["precision"] == result.scores["recall"] == result.scores["coverage"] == 1


def test_a_farther_set_scores_worse_and_beyond_the_floor():
    real = feature_set(50, seed=1)
    near, far = (compare_features(feature_set(shift=shift), real, 20)["all"] for shift in (0.1, 2.0))
    for metric in ("fid", "kid_mean"):
        assert near.scores[metric] < far.scores[metric]
        assert far.scores[f"{metric}_low"] > far.scores[f"{metric}_floor"] + 3 * far.scores[f"{metric}_floor_sd"]
        assert far.scores[f"{metric}_excess"] == far.scores[metric] - far.scores[f"{metric}_floor"]
    assert near.scores["coverage_excess"] > far.scores["coverage_excess"]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_the_films_and_of_the_classes_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    one, other = feature_set(17, groups=np.arange(34) // 3), feature_set(40, seed=1, groups=np.arange(80) // 2)

    def shuffled(side):
        rows = rng.permutation(len(side))
        return replace(
            side,
            features=side.features[rows],
            labels=1 - side.labels[rows],
            classes=side.classes[::-1],
            groups=rng.permutation(100)[side.groups][rows],
        )

    assert compare_features(shuffled(one), shuffled(other), 4) == compare_features(one, other, 4)


def test_the_larger_side_is_cut_to_the_smaller_and_the_seed_draws_which():
    one, other = feature_set(17), feature_set(40, seed=1)
    results = compare_features(one, other, 4)
    assert {name: (r.generated, r.reference, r.n) for name, r in results.items()} == {
        "COVID": (17, 40, 17),
        "Normal": (17, 40, 17),
        "all": (34, 80, 34),
    }
    drawn = [compare_features(one, other, 4, seed=seed)["all"].scores["fid"] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert compare_features(other, one, 4)["all"].n == 34


def test_without_twice_as_many_real_films_there_is_no_floor_and_it_says_so():
    result = compare_features(feature_set(), feature_set(39, seed=1), 4)["COVID"]
    assert result.notes == ("no floor: REFERENCE has fewer than 2 n films (39 of 40 'COVID')",)
    assert not [name for name in result.scores if "floor" in name or "excess" in name]
    result = compare_features(feature_set(), feature_set(40, seed=1), 4)["COVID"]
    assert result.notes == ()
    assert "fid_floor" in result.scores


def test_no_patient_and_no_two_equal_films_are_in_both_halves():
    one_patient = feature_set(40, seed=1, groups=np.zeros(80, np.int64))
    same_film = replace(feature_set(40, seed=1), features=np.ones((80, 4), np.float32))
    for real in (one_patient, same_film):
        result = compare_features(feature_set(), real, 4)["all"]
        assert "no two halves" in result.notes[0]
        assert "fid_floor" not in result.scores


def test_too_few_films_are_not_measured():
    few, many = {"kid_mean", "vendi"}, {"fid", "fid_infinity", "recall"}
    for films, measured in ((1, set()), (7, set()), (8, few), (16, many)):
        result = compare_features(feature_set(films), feature_set(40, seed=1), 4)["COVID"]
        assert measured <= set(result.scores)
        assert not set(result.abstained) & set(result.scores)
        assert bool(measured) == bool(result.scores)
        assert result.abstained.get("recall", 16) == 16
    wide = compare_features(feature_set(16, dim=50), feature_set(40, dim=50, seed=1), 4)["COVID"]
    assert wide.abstained == {"fid_infinity": 100}


def test_only_common_classes_are_compared():
    one, other = feature_set(classes=("COVID", "Normal")), feature_set(seed=1, classes=("Normal", "Pneumonia"))
    assert list(compare_features(one, other, 4)) == ["Normal", "all"]
    assert compare_features(one, other, 4)["all"].n == 20
    assert [note for note in oddities(one, other) if "only one side has it" in note] == [
        "class 'COVID' is not compared: only one side has it",
        "class 'Pneumonia' is not compared: only one side has it",
    ]
    with pytest.raises(DataError, match="GENERATED has 'covid', 'normal', REFERENCE has 'COVID', 'Normal'"):
        compare_features(feature_set(classes=("covid", "normal")), feature_set(seed=1))


def test_films_without_classes_are_compared_with_all():
    loose, real = feature_set(40, classes=("all",)), feature_set(50, seed=1)
    for results in (compare_features(loose, real, 4), compare_features(real, loose, 4)):
        assert list(results) == ["all"]
        assert results["all"].n == 40
    assert "only one side has classes" in oddities(loose, real)[-1]
    assert oddities(loose, feature_set(40, seed=1, classes=("all",))) == []


def test_equal_features_are_warned_of_and_zero_ones_are_refused():
    constant = replace(feature_set(), features=np.ones((40, 4), np.float32))
    assert "GENERATED: the features of all 40 films are equal" in oddities(constant, feature_set(seed=1))[0]
    assert np.isfinite(list(compare_features(constant, feature_set(50, seed=1), 4)["all"].scores.values())).all()
    zeros = replace(constant, features=constant.features * (np.arange(40)[:, None] > 2))
    with pytest.raises(DataError, match="REFERENCE: 3 of 40 films have features that are all zero"):
        compare_features(feature_set(), zeros)


def test_copies_of_real_films_are_counted():
    real = feature_set(30, seed=1)
    stolen = replace(feature_set(), features=np.concatenate([real.features[:7], feature_set().features[7:]]))
    assert oddities(stolen, real) == ["7 of 40 GENERATED films have the very features of a REFERENCE film: copies"]
    assert oddities(feature_set(), real) == []
