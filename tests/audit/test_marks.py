"""Burnt-in marks, borders and near-blank films."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics import roc_auc_score

from cxrbench.audit import marks
from cxrbench.audit.marks import measure_marks, plant_blank, plant_border, plant_text
from cxrbench.datasets.phantom import Phantom

SIDE = 224
PLANTS = {"text": plant_text, "border": plant_border, "contrast": plant_blank}
SIGN = {"text": 1, "border": 1, "contrast": -1}  # a planted film has more text, more border, less contrast


@pytest.fixture(scope="module")
def phantoms():
    """One 224-pixel film of each of 60 patients, by turns of the three hospitals and the three classes."""
    phantom = Phantom(patients_per_class=20, max_films=1)
    return np.stack([phantom.read(film, SIDE) for film in phantom.listing().films])


@pytest.fixture(scope="module")
def soft():
    """A film-like picture without any mark: slow waves and grain."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    grain = np.random.default_rng(0).normal(0, 3, (SIDE, SIDE))
    return np.rint(110 + 60 * np.sin(5 * x) * np.cos(7 * y) + 20 * np.sin(60 * y) + grain).astype(np.uint8)


@pytest.fixture(scope="module")
def real_films(real_data):
    """Every 18th or so of the real films, about 300."""
    from cxrbench.datasets.radiography import Radiography

    dataset = Radiography(real_data / "covid19-radiography")
    films = dataset.listing().films
    return np.stack([dataset.read(film, SIDE) for film in films[:: max(1, len(films) // 300)]])


def scores(films, measure):
    return SIGN[measure] * getattr(measure_marks(films), measure)


def written(film, draw, grey=255):
    """``film`` with what ``draw`` draws on it, antialiased."""
    layer = Image.new("L", (4 * SIDE, 4 * SIDE))
    draw(ImageDraw.Draw(layer))
    cover = np.asarray(layer.reduce(4)) / 255
    return np.rint(film + cover * (grey - film)).astype(np.uint8)


def word(text, at, size=18):
    font = ImageFont.load_default(4 * size)
    return lambda pen: pen.text((4 * at[0], 4 * at[1]), text, fill=255, font=font)


def arrow(pen):
    pen.line((400, 400, 480, 480), fill=255, width=9)
    pen.polygon((510, 510, 460, 490, 490, 460), fill=255)


def text_of(film):
    return float(measure_marks(film[None]).text[0])


def border_of(film):
    return float(measure_marks(film[None]).border[0])


# What the scores say of planted films.


@pytest.mark.parametrize(("measure", "least"), [("text", 0.95), ("border", 0.96), ("contrast", 0.999)])
def test_planted_phantoms_score_beyond_untouched_ones(phantoms, measure, least):
    planted = PLANTS[measure](phantoms, np.random.default_rng(0))
    both = np.concatenate([scores(phantoms, measure), scores(planted, measure)])
    assert roc_auc_score(np.repeat([0, 1], len(phantoms)), both) >= least


@pytest.mark.parametrize(("measure", "least"), [("text", 0.95), ("border", 0.98), ("contrast", 0.999)])
def test_planted_real_films_score_beyond_untouched_ones(real_films, measure, least):
    planted = PLANTS[measure](real_films, np.random.default_rng(0))
    both = np.concatenate([scores(real_films, measure), scores(planted, measure)])
    assert roc_auc_score(np.repeat([0, 1], len(real_films)), both) >= least


def test_nearly_every_film_scores_higher_once_written_on(phantoms):
    planted = plant_text(phantoms, np.random.default_rng(1))
    assert (scores(planted, "text") > scores(phantoms, "text")).mean() >= 0.9


# Text.


def test_a_film_without_marks_scores_nothing(soft):
    assert text_of(soft) < 0.05
    assert border_of(soft) == 0


def test_untouched_phantoms_score_little(phantoms):
    """They have a lead marker, and those of one hospital a black frame of 3 % of each side."""
    found = measure_marks(phantoms)
    assert found.text.max() < 3
    assert np.median(found.border) < 0.1
    assert found.border.max() < 0.25


@pytest.mark.parametrize("grey", [255, 0])
@pytest.mark.parametrize(
    "draw",
    [
        word("Day 6", (80, 180)),
        word("2020/01/01", (60, 100)),
        arrow,
        lambda pen: pen.ellipse((300, 300, 480, 440), outline=255, width=9),
    ],
    ids=["word", "date", "arrow", "circle"],
)
def test_each_kind_of_mark_is_seen_in_white_and_in_black(soft, draw, grey):
    assert text_of(written(soft, draw, grey)) > 1.5


def test_a_single_white_letter_in_a_corner_is_no_mark(soft):
    letters = [text_of(written(soft, word(text, at))) for text, at in (("R", (8, 8)), ("L", (200, 8)), ("R", (8, 60)))]
    assert max(letters) < 1.2
    assert min(letters) < 0.1
    assert text_of(written(soft, word("Admission", (8, 8)))) > 3.0
    assert text_of(written(soft, word("R", (105, 105)))) > 2.0


def test_a_longer_word_scores_higher_than_its_beginning(soft):
    few, many = (text_of(written(soft, word(text, (40, 100)))) for text in ("Da", "Day 12"))
    assert many > few > 0


def test_a_soft_stroke_is_anatomy(soft):
    from scipy.ndimage import gaussian_filter

    sharp = written(soft, arrow)
    blurred = soft + gaussian_filter(sharp.astype(float) - soft, 3)
    assert text_of(np.rint(blurred).astype(np.uint8)) < 0.1 < text_of(sharp)


# Border.


@pytest.mark.parametrize("grey", [0, 120, 255])
@pytest.mark.parametrize("turn", range(4))
def test_a_band_is_measured_as_the_share_it_takes(soft, grey, turn):
    film = soft.copy()
    np.rot90(film, turn)[:45] = grey  # a view, so this writes into the film
    assert border_of(film) == pytest.approx(45 / SIDE, abs=0.02)


def test_bands_of_two_greys_on_adjacent_sides_both_count(soft):
    film = soft.copy()
    film[:40], film[:, :50] = 255, 0
    assert border_of(film) == pytest.approx(1 - (1 - 40 / SIDE) * (1 - 50 / SIDE), abs=0.02)


def test_letterboxing_counts_on_both_sides(soft):
    film = soft.copy()
    film[:, :40] = film[:, -30:] = 0
    assert border_of(film) == pytest.approx(70 / SIDE, abs=0.02)


def test_writing_in_a_band_does_not_end_it(soft):
    film = soft.copy()
    film[-40:] = 0
    assert border_of(written(film, word("A1", (20, 195)))) == pytest.approx(40 / SIDE, abs=0.02)


@pytest.mark.parametrize("degrees", [-3, -1.5, 1.5, 3])
def test_a_film_slightly_aslant_still_has_its_border(soft, degrees):
    small = Image.new("L", (SIDE, SIDE))
    small.paste(Image.fromarray(soft).crop((0, 0, 150, 150)), (37, 37))
    aslant = np.asarray(small.rotate(degrees, Image.Resampling.BILINEAR))
    assert border_of(aslant) == pytest.approx(1 - (150 / SIDE) ** 2, abs=0.1)


def test_dark_air_beside_the_body_is_no_border(soft):
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    body = np.abs(x - 0.5) < 0.15 + 0.35 * np.clip((y - 0.1) / 0.4, 0, 1)  # a neck, then shoulders
    assert border_of(np.where(body, soft, 0).astype(np.uint8)) == 0


def test_a_wholly_uniform_film_has_no_border():
    assert border_of(np.full((SIDE, SIDE), 90, np.uint8)) == 0


# Contrast.


def test_contrast_counts_the_grey_levels_of_the_middle():
    film = np.full((SIDE, SIDE), 77, np.uint8)
    assert measure_marks(film[None]).contrast[0] == 0
    film[:20] = 255  # a border is not the middle
    assert measure_marks(film[None]).contrast[0] == 0
    film[:, ::2] = 107
    assert measure_marks(film[None]).contrast[0] == 30


# Properties.


@pytest.mark.parametrize("measure", PLANTS)
def test_a_mirror_image_scores_the_same(phantoms, measure):
    films = PLANTS[measure](phantoms[:15], np.random.default_rng(2))
    for mirrored in (films[:, :, ::-1], films[:, ::-1]):
        np.testing.assert_allclose(scores(mirrored, measure), scores(films, measure), atol=1e-4)


def test_an_inverted_film_has_the_same_border_and_contrast(phantoms):
    films = plant_border(phantoms[:15], np.random.default_rng(3))
    plain, inverted = measure_marks(films), measure_marks(255 - films)
    np.testing.assert_allclose(inverted.border, plain.border, atol=0.02)
    np.testing.assert_allclose(inverted.contrast, plain.contrast, atol=0.5)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_change_nothing(phantoms, chunk, monkeypatch):
    films = plant_text(phantoms[:16], np.random.default_rng(4))
    before = measure_marks(films)
    monkeypatch.setattr(marks, "CHUNK", chunk)
    after = measure_marks(films)
    for measure in PLANTS:
        np.testing.assert_array_equal(getattr(after, measure), getattr(before, measure))


def test_progress_ends_at_the_number_of_films(phantoms):
    calls = []
    measure_marks(np.concatenate([phantoms, phantoms]), lambda done, total: calls.append((done, total)))
    assert calls == [(64, 120), (120, 120)]


def test_no_films_have_no_marks():
    found = measure_marks(np.empty((0, SIDE, SIDE), np.uint8))
    assert found.text.shape == found.border.shape == found.contrast.shape == (0,)


@pytest.mark.parametrize("measure", PLANTS)
def test_results_are_float32_in_their_ranges(phantoms, measure):
    found = getattr(measure_marks(PLANTS[measure](phantoms[:10], np.random.default_rng(5))), measure)
    assert found.dtype == np.float32
    assert found.shape == (10,)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= {"text": 20, "border": 1, "contrast": 255}[measure]


# Planting.


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_planting_changes_a_copy_of_every_film_and_repeats_itself(phantoms, plant):
    films = phantoms[:20].copy()
    planted = plant(films, np.random.default_rng(6))
    assert planted.dtype == np.uint8
    assert planted.shape == films.shape
    np.testing.assert_array_equal(films, phantoms[:20])
    assert (planted != films).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(planted, plant(films, np.random.default_rng(6)))
    assert (planted != plant(films, np.random.default_rng(7))).any()


def test_writing_leaves_most_of_the_film_as_it_was(phantoms):
    planted = plant_text(phantoms, np.random.default_rng(8))
    changed = (planted != phantoms).mean(axis=(1, 2))
    assert changed.max() < 0.25
    assert changed.min() > 0.0005


@pytest.mark.parametrize("grey", [0, 60, 128, 200, 255])
def test_writing_shows_on_films_of_any_grey(grey):
    films = np.full((20, SIDE, SIDE), grey, np.uint8)
    planted = plant_text(films, np.random.default_rng(9)).astype(int)
    assert (np.abs(planted - grey).max(axis=(1, 2)) >= 40).all()


def test_planted_bands_are_measured_at_their_size(phantoms):
    """A film of no air: what the bands take is known from where the film is left."""
    films = np.random.default_rng(10).integers(60, 200, (20, SIDE, SIDE), dtype=np.uint8)
    planted = plant_border(films, np.random.default_rng(10))
    for film, found in zip(planted, measure_marks(planted).border, strict=True):
        inside = np.abs(film.astype(int) - film[[0, 0, -1, -1], [0, -1, 0, -1]][:, None, None]).min(axis=0) > 15
        rows, columns = inside.any(axis=1).sum(), inside.any(axis=0).sum()
        assert found == pytest.approx(1 - rows * columns / SIDE**2, abs=0.03)
        assert found >= 0.1
