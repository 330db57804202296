"""Somebody's folder of films on the leaderboard: what is read, what is refused, and in which order films come."""

import shutil

import numpy as np
import pytest
from PIL import Image

from cxrbench.asked import Asked, prepare, request_of
from cxrbench.checks import toy_films
from cxrbench.contracts import Images, RunContext
from cxrbench.datasets.phantom import CLASSES, Phantom
from cxrbench.errors import UsageError
from cxrbench.store import Store
from cxrbench.synthesis import SAMPLE_CHUNK, sample_chunks
from cxrbench_baselines.generators.classical import Classical
from cxrbench_baselines.generators.controls import Copy, Noise
from cxrbench_baselines.generators.pool import PoolFolder

TRAIN = toy_films(16, per_class=10)
CONTEXT = RunContext(0, "cpu", 0, None)


def write_films(root, films, names=None, below="", suffix="png"):
    """``CLASS/[below/]NUMBER.png``; ``names`` are the folders of the classes, if not called like them."""
    for number, (film, label) in enumerate(zip(films.pixels, films.labels, strict=True)):
        folder = root / (names or films.classes)[label] / below
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(film[0]).save(folder / f"{number:03d}.{suffix}")
    return root


@pytest.fixture
def theirs():
    return toy_films(16, per_class=6, seed=5)


@pytest.fixture
def folder(tmp_path, theirs):
    return write_films(tmp_path / "films", theirs)


def fitted(root, train=TRAIN):
    return PoolFolder(str(root)).fit(train, CONTEXT)


def shown(films):
    return sorted(film.tobytes() for film in films)


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("below", ["", "images"])
def test_every_film_of_a_class_comes_once_before_any_comes_twice(tmp_path, theirs, below):
    generator = fitted(write_films(tmp_path / "films", theirs, below=below))
    for label in range(3):
        own = theirs.of_class(label).pixels
        films = generator.sample(np.full(16, label), CONTEXT)
        assert shown(films[:6]) == shown(own)
        assert np.array_equal(films[6:12], films[:6])
        assert np.array_equal(films[12:], films[:4])


def test_row_i_shows_the_class_that_was_asked_for(folder, theirs):
    labels = np.asarray([2, 0, 1, 1, 0, 2])
    for film, label in zip(fitted(folder).sample(labels, CONTEXT), labels, strict=True):
        assert film.tobytes() in shown(theirs.of_class(label).pixels)


def test_seeds_give_the_films_in_other_orders(folder):
    generator, labels = fitted(folder), np.zeros(6, np.int64)
    one, other = (generator.sample(labels, RunContext(seed, "cpu", 0, None)) for seed in (0, 1))
    assert not np.array_equal(one, other)
    assert shown(one) == shown(other)


def test_colour_jpegs_of_any_size_become_grey_films_of_the_runs_size(tmp_path):
    grey = toy_films(48, per_class=3)
    for number, (film, label) in enumerate(zip(grey.pixels, grey.labels, strict=True)):
        folder = tmp_path / "films" / grey.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(film[0, :, :, None], 3, axis=2)).save(folder / f"{number}.jpg", quality=95)
    films = fitted(tmp_path / "films").sample(np.asarray([0, 1, 2]), CONTEXT)
    assert films.shape == (3, 1, 16, 16)
    for label in range(3):
        assert films[label].mean() == pytest.approx(grey.of_class(label).pixels.mean(), abs=6)


def test_classes_match_whatever_the_case_and_others_are_left_out_with_a_note(tmp_path, theirs):
    root = write_films(tmp_path / "films", theirs, names=("A", "b", "C"))
    shutil.copytree(root / "A", root / "Effusion")
    generator = fitted(root)
    assert shown(generator.sample(np.zeros(6, np.int64), CONTEXT)) == shown(theirs.of_class(0).pixels)
    assert "class 'Effusion' is left out with 6 films: no training film is of that class" in generator.diagnosis()


def test_unreadable_films_are_left_out_with_a_note(folder, theirs):
    torn = sorted((folder / "a").iterdir())[0]
    torn.write_bytes(torn.read_bytes()[:40])
    (folder / "b" / "none.png").write_bytes(b"")
    generator = fitted(folder)
    note = generator.diagnosis()[-1]
    assert note.startswith("2 files could not be read and are left out: a/000.png: ")
    assert "b/none.png: empty file (0 bytes)" in note
    assert len(np.unique(generator.sample(np.zeros(20, np.int64), CONTEXT), axis=0)) == 5
    assert len(np.unique(generator.sample(np.ones(20, np.int64), CONTEXT), axis=0)) == 6


def test_diagnosis_tells_how_many_films_there_are_and_when_they_repeat(folder):
    expected = [f"class {name!r} has 6 films, which repeat above ratio 0.6" for name in "abc"]
    assert fitted(folder).diagnosis() == expected


def test_diagnosis_survives_saving(folder, tmp_path):
    (tmp_path / "saved").mkdir()
    generator = fitted(folder)
    generator.save(tmp_path / "saved")
    assert PoolFolder(str(folder)).load(tmp_path / "saved").diagnosis() == generator.diagnosis()


# ---------------------------------------------------------------- how the harness asks


def pooled(generator, counts):
    """The films of a pool, as the harness asks for them."""
    chunks = sample_chunks(generator, counts, TRAIN.classes, TRAIN.size, CONTEXT)
    return np.concatenate([films for _, films in chunks])


def test_a_pool_longer_than_a_chunk_holds_no_film_twice_and_begins_with_the_shorter_one(tmp_path):
    count = SAMPLE_CHUNK + 20
    theirs = toy_films(16, per_class=count, seed=5)
    generator = fitted(write_films(tmp_path / "films", theirs))
    pool = pooled(generator, dict.fromkeys(range(3), count))
    assert shown(pool) == shown(theirs.pixels)
    assert np.array_equal(pooled(generator, {0: 70}), pool[:70])


@pytest.mark.parametrize(
    ("kind", "asked"), [(Classical, {SAMPLE_CHUNK}), (Copy, {90}), (Noise, {90})], ids=["classical", "copy", "noise"]
)
def test_only_those_that_give_back_what_they_keep_are_asked_once(kind, asked):
    generator, sizes = kind().fit(TRAIN, CONTEXT), set()
    sample = generator.sample

    def counted(labels, ctx):
        sizes.add(len(labels))
        return sample(labels, ctx)

    generator.sample = counted
    pooled(generator, dict.fromkeys(range(3), 90))
    assert sizes == asked


# ---------------------------------------------------------------- what is refused


def test_a_missing_class_is_named_beside_those_that_were_found(tmp_path, theirs):
    root = write_films(tmp_path / "films", theirs, names=("covid", "b", "c"))
    with pytest.raises(UsageError, match="has no class 'a'; it has 'b', 'c', 'covid': rename its folders"):
        fitted(root)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", r"pool:path=DIR"),
        ("nowhere", "nowhere does not exist"),
        ("phantom", "phantom does not exist"),  # and is not taken for the data set of that name
        ("films/a/000.png", "000.png is no folder"),
    ],
)
def test_a_path_that_is_no_folder_is_refused_before_the_run(folder, monkeypatch, path, message):
    monkeypatch.chdir(folder.parent)
    for refuses in (lambda: PoolFolder(path).preflight(16), lambda: fitted(path)):
        with pytest.raises(UsageError, match=f"generator 'pool'.*{message}"):
            refuses()


def test_an_empty_class_folder_is_refused_by_name_before_the_run(folder):
    (folder / "d").mkdir()
    with pytest.raises(UsageError, match=r"generator 'pool': class 'd' in .* has no image"):
        PoolFolder(str(folder)).preflight(16)


def test_a_folder_without_class_folders_is_refused_before_the_run(folder):
    with pytest.raises(UsageError, match=r"generator 'pool': .*holds no class"):
        PoolFolder(str(folder / "a")).preflight(16)


def test_a_class_of_one_film_is_refused_by_name(folder):
    for film in sorted((folder / "c").iterdir())[1:]:
        film.unlink()
    with pytest.raises(UsageError, match=r"class 'c' in .* has too few readable films [(]1[)]; two are the least"):
        fitted(folder)


# ---------------------------------------------------------------- whole runs


def test_the_digest_depends_on_every_film_its_name_and_its_class(folder):
    def digest():
        return PoolFolder(str(folder)).preflight(16)["films"]

    seen = [digest()]
    assert digest() == seen[0]
    film = sorted((folder / "b").iterdir())[2]
    Image.fromarray(255 - np.asarray(Image.open(film))).save(film)
    seen.append(digest())
    film.rename(folder / "a" / film.name)
    seen.append(digest())
    (folder / "a").rename(folder / "aa")
    seen.append(digest())
    assert len(set(seen)) == 4


def test_a_folder_of_films_is_benchmarked_and_one_changed_film_makes_other_trials(cli, tmp_path):
    phantom = Phantom(patients_per_class=12, max_films=1, seed=7)
    listed = phantom.listing().films
    drawn = np.stack([phantom.read(film, 40) for film in listed])[:, None]
    films = Images(drawn, np.asarray([film.label for film in listed]), CLASSES)
    folder, results = write_films(tmp_path / "films", films), tmp_path / "results"
    name = f"pool:path={folder}"
    asked = Asked(
        data="phantom:patients_per_class=8", tier="smoke", device="cpu", controls="none", generators=name, ratios="0,1"
    )

    def keys():
        _, plan = prepare(asked, request_of(asked), lambda index: index)
        return {trial.key for trial in plan.trials if trial.generator is not None}

    options = [f"--{option}={getattr(asked, option)}" for option in ("data", "tier", "device", "controls", "ratios")]
    assert cli("run", *options, "--generators", name, "--results", results, "--quiet") == 0
    records = {record.key: record for record in Store(results)}
    assert {record.status for record in records.values()} == {"ok"}
    assert {record.trial.kind for key, record in records.items() if key in keys()} == {
        "fidelity",
        "memorization",
        "utility",
    }
    page = (results / "LEADERBOARD.md").read_text()
    assert name in page
    assert f"(seed 0): class {CLASSES[0]!r} has 12 films, which repeat above ratio" in page

    before = keys()
    assert before <= set(records)
    film = sorted((folder / CLASSES[0]).iterdir())[0]
    Image.fromarray(255 - np.asarray(Image.open(film))).save(film)
    assert not before & keys()


def test_a_wrong_path_ends_the_command_before_any_trial(cli, tmp_path, capsys):
    code = cli("run", "--generators", "pool:path=/nowhere/films", "--tier", "smoke", "--results", tmp_path / "r")
    assert code == UsageError.exit_code
    assert capsys.readouterr().err.startswith("cxrbench: generator 'pool': /nowhere/films does not exist")
