"""Near-copies."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.fft import idctn

from cxrbench.datasets.phantom import Phantom
from cxrbench.duplicates import CANDIDATE_BITS, COPY_CORRELATION, near_copies, perceptual_hashes

SIDE = 128


@pytest.fixture(scope="module")
def originals():
    """One 128-pixel film of each of 60 patients."""
    phantom = Phantom(patients_per_class=20, max_films=1)
    return [Image.fromarray(phantom.read(film, SIDE)) for film in phantom.listing().films]


def thumbnails(films):
    return np.stack([np.asarray(film.resize((32, 32), Image.Resampling.BICUBIC)) for film in films])


def recompressed(film):
    buffer = io.BytesIO()
    film.save(buffer, "JPEG", quality=40)
    return Image.open(buffer)


def relit(factor, offset):
    return lambda film: film.point(lambda grey: grey * factor + offset)


COPIES = {
    "same file": lambda film: film,
    "recompressed": recompressed,
    "brighter": relit(0.8, 40),
    "darker": relit(0.7, 0),
    "rescaled": lambda film: film.resize((90, 90)).resize((200, 200)),
    "cropped by a pixel all round": lambda film: film.crop((1, 1, SIDE - 1, SIDE - 1)),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_changed_copies_of_a_film_are_found(originals, change):
    count = len(originals)
    pairs = near_copies(thumbnails([*originals, *map(change, originals)]))
    found = set(map(tuple, pairs.tolist()))
    assert sum((i, i + count) in found for i in range(count)) >= 0.95 * count


def test_films_of_different_patients_are_mostly_no_copies(originals):
    possible = len(originals) * (len(originals) - 1) / 2
    assert len(near_copies(thumbnails(originals))) <= 0.001 * possible


def test_films_that_agree_only_in_their_coarse_shape_are_no_copies():
    rng = np.random.default_rng(0)
    spectrum = np.zeros((6, 32, 32))
    spectrum[:, :9, :9] = rng.normal(0, 30, (9, 9))
    spectrum[:, :3, :3] *= 25
    spectrum[:, 10:, 10:] = rng.normal(0, 6, (6, 22, 22))
    films = np.clip(128 + idctn(spectrum, axes=(1, 2), norm="ortho"), 0, 255).astype(np.uint8)
    hashes = perceptual_hashes(films)
    assert np.bitwise_count(hashes[:, None] ^ hashes).max() <= CANDIDATE_BITS
    assert np.corrcoef(films.reshape(6, -1)).min() > COPY_CORRELATION
    assert len(near_copies(films)) == 0


def test_a_mirrored_film_is_no_copy(originals):
    mirrored = [film.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for film in originals]
    pairs = near_copies(thumbnails([*originals, *mirrored]))
    assert not any(j - i == len(originals) for i, j in pairs)


@pytest.mark.parametrize("block", [1, 7, 50, 1024])
def test_pairs_do_not_depend_on_the_block_size(originals, block):
    films = thumbnails(originals[:20] * 2 + originals[:5])
    pairs = near_copies(films, block=block)
    assert np.all(pairs[:, 0] < pairs[:, 1])
    assert sorted(pairs.tolist()) == sorted(near_copies(films).tolist())
    assert len(pairs) >= 20 + 2 * 5


def test_a_single_film_has_no_copies(originals):
    assert near_copies(thumbnails(originals[:1])).shape == (0, 2)


def test_the_perceptual_hash_ignores_brightness_but_not_the_picture(originals):
    one, brighter, other = perceptual_hashes(thumbnails([originals[0], relit(0.8, 20)(originals[0]), originals[1]]))
    assert np.bitwise_count(one ^ brighter) <= 2
    assert np.bitwise_count(one ^ other) > 2
