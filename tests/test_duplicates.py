"""Near-copies."""

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from cxrbench import duplicates
from cxrbench.datasets.phantom import Phantom
from cxrbench.datasets.radiography import Radiography
from cxrbench.duplicates import SYMMETRIES, THUMBNAIL, agreements, find_copies, near_copies

SIDE = 128


@pytest.fixture(scope="module")
def originals():
    """One 128-pixel film of each of 60 patients."""
    phantom = Phantom(patients_per_class=20, max_films=1)
    return [Image.fromarray(phantom.read(film, SIDE)) for film in phantom.listing().films]


def thumbnails(films):
    size = (THUMBNAIL, THUMBNAIL)
    return np.stack([np.asarray(film.resize(size, Image.Resampling.BICUBIC)) for film in films])


def recompressed(film):
    buffer = io.BytesIO()
    film.save(buffer, "JPEG", quality=40)
    return Image.open(buffer)


def relit(factor, offset):
    return lambda film: film.point(lambda grey: grey * factor + offset)


def cropped(left, top, right, bottom):
    return lambda film: film.crop((left, top, SIDE - right, SIDE - bottom)).resize((SIDE, SIDE))


def mirrored(film):
    return film.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


COPIES = {
    "same file": lambda film: film,
    "recompressed": recompressed,
    "brighter": relit(0.8, 40),
    "darker": relit(0.7, 0),
    "rescaled": lambda film: film.resize((90, 90)).resize((200, 200)),
    "cropped by a pixel all round": cropped(1, 1, 1, 1),
    "cropped on one side": cropped(6, 0, 0, 0),
    "cropped unevenly, relit and recompressed": lambda film: recompressed(relit(0.8, 20)(cropped(4, 1, 2, 5)(film))),
    "turned by a degree": lambda film: film.rotate(1, Image.Resampling.BICUBIC),
    "mirrored": mirrored,
    "mirrored, cropped and recompressed": lambda film: recompressed(cropped(2, 3, 1, 2)(mirrored(film))),
    "upside down": lambda film: film.transpose(Image.Transpose.ROTATE_180),
    "turned clockwise": lambda film: film.transpose(Image.Transpose.ROTATE_270),
    "inverted": lambda film: film.point(lambda grey: 255 - grey),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_changed_copies_of_a_film_are_found(originals, change):
    n = len(originals)
    found = {tuple(pair) for pair in near_copies(thumbnails([*originals, *map(change, originals)])).tolist()}
    assert sum((i, n + i) in found for i in range(n)) >= 0.98 * n
    strangers = [pair for pair in found if (pair[1] - pair[0]) % n]
    assert len(strangers) <= 0.01 * n * n  # phantoms differ less than people do


@pytest.mark.parametrize(
    ("change", "symmetry"),
    [
        ("same file", "unturned"),
        ("mirrored", "mirrored"),
        ("upside down", "upside down"),
        ("inverted", "unturned, inverted"),
    ],
)
def test_a_copy_says_how_it_was_turned(originals, change, symmetry):
    copies = find_copies(thumbnails([*originals, COPIES[change](originals[7])]))
    row = copies.pairs.tolist().index([7, len(originals)])
    assert SYMMETRIES[copies.symmetry[row]].name == symmetry
    assert copies.agreement[row] > 0.95


def test_films_of_different_patients_are_no_copies(originals):
    assert len(near_copies(thumbnails(originals))) <= 1


def test_films_that_share_their_coarse_shape_and_a_black_border_are_no_copies():
    rng = np.random.default_rng(0)
    shape = np.kron(rng.uniform(60, 200, (4, 4)), np.ones((16, 16)))
    films = np.clip(shape + rng.normal(0, 12, (30, 64, 64)), 0, 255).astype(np.uint8)
    films[:, :8] = films[:, -8:] = 0
    assert np.corrcoef(films.reshape(30, -1)).min() > 0.9
    assert len(near_copies(films)) == 0


def test_a_letter_written_on_a_copy_does_not_hide_it(originals):
    films = thumbnails([originals[0], originals[0]])
    films[1, 2:14, 2:12] = 255
    assert agreements(films[:1], films[1:])[0] > duplicates.AGREEMENT


def test_pairs_do_not_depend_on_the_block_size(originals, monkeypatch):
    films = thumbnails([*originals, *map(recompressed, originals)])
    whole = near_copies(films)
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    assert near_copies(films).tolist() == whole.tolist()


def test_pairs_are_ordered_and_stand_once(originals):
    pairs = near_copies(thumbnails([*originals[:9]] * 3)).tolist()
    assert all(i < j for i, j in pairs)
    assert all(one < other for one, other in pairwise(pairs))
    assert {tuple(pair) for pair in pairs} >= {(i, i + 9) for i in range(9)}


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_films_have_no_copies(originals, count):
    assert near_copies(thumbnails(originals)[:count]).shape == (0, 2)


def test_two_equal_films_alone_are_copies(originals):
    assert near_copies(thumbnails([originals[3], originals[3]])).tolist() == [[0, 1]]


@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=lambda symmetry: symmetry.name)
def test_turning_a_film_turns_its_spectrum_alike(symmetry):
    films = np.random.default_rng(1).integers(0, 256, (3, 16, 16)).astype(np.uint8)

    def spectrum(pictures):
        pictures = pictures.astype(np.float32)
        return dctn(pictures - pictures.mean(axis=(1, 2), keepdims=True), axes=(1, 2), norm="ortho").astype(np.float32)

    turned = spectrum(symmetry.apply(films))
    assert np.allclose(symmetry.apply_to_spectrum(spectrum(films)), turned, atol=1e-2)


def test_the_sixteen_symmetries_differ():
    film = np.arange(9, dtype=np.uint8).reshape(1, 3, 3)
    assert len({symmetry.apply(film).tobytes() for symmetry in SYMMETRIES}) == 16


def test_changed_copies_of_real_films_are_found_and_other_patients_are_not(real_data):
    root = real_data / "external"
    dataset = Radiography(str(root))
    films = dataset.listing().films[::3]
    originals = [Image.fromarray(dataset.read(film, SIDE)) for film in films]
    n = len(films)
    change = COPIES["cropped unevenly, relit and recompressed"]
    pairs = near_copies(thumbnails([*originals, *map(change, originals)])).tolist()
    assert sum([i, n + i] in pairs for i in range(n)) >= 0.95 * n  # recompressed at 128 pixels, which is harsh
    people = [film.patient_id for film in films]
    joined = [(people[i % n], people[j % n]) for i, j in pairs if (i - j) % n]
    assert sum(None not in pair and pair[0] != pair[1] for pair in joined) == 0
