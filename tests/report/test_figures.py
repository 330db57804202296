"""Pictures: what is drawn, of what, and where it is kept."""

import numpy as np
import pytest
from matplotlib import colors
from PIL import Image

from cxrbench.report import figures, films
from cxrbench.report.figures import COLOURS, confusion_matrices, draw_figures, gains_plot, ratio_curves

FEW = 1 / 3


@pytest.fixture
def kept(monkeypatch):
    """The figures that are drawn; they are not written, which is slow."""
    made = []
    monkeypatch.setattr(films, "save_picture", lambda figure, path: made.append(figure))
    monkeypatch.setattr(figures, "save_picture", lambda figure, path: made.append(figure))
    return made


def test_every_picture_of_a_whole_run_is_drawn_and_none_is_blank(rendered):
    folder = rendered.store.root / "figures" / rendered.section().slug
    pictures = {path.name: np.asarray(Image.open(path).convert("L")) for path in folder.iterdir()}
    names = ("gains", "ratio_curves", "roc", "pr", "calibration", "confusion", "samples", "suspicious")
    assert set(pictures) == {f"{name}.png" for name in names}
    for name, picture in pictures.items():
        assert min(picture.shape) > 200, name
        assert np.ptp(picture) == 255, name


def test_nothing_is_drawn_of_nothing(results):
    results.put("data", counts={"films": 1, "groups": 1, "near_copy_pairs": 0})
    assert draw_figures(results.analysis(), results.store) == {}
    assert not (results.store.root / "figures").exists()


def test_every_gain_is_a_line_from_low_to_high_in_the_colour_of_its_verdict(results, kept, tmp_path):
    results.runs(0.70)
    for name, auroc in (("cgan", 0.80), ("dcgan", 0.60), ("flow", 0.70)):
        results.runs(auroc, name)
    analysis = results.analysis()
    assert gains_plot(analysis, tmp_path / "x.png")
    (axis,) = kept[0].axes
    drawn = {}
    for line in axis.lines:
        x, y = line.get_xdata(), line.get_ydata()
        if len(x) == 2 and len(set(y)) == 1:
            drawn[axis.get_yticklabels()[round(y[0])].get_text()] = (*x, line.get_color())
    expected = {
        f"{e.trial.generator.name} x 1": (e.gain.low, e.gain.high, COLOURS[e.verdict.word]) for e in analysis.effects
    }
    assert drawn == expected
    assert len({colour for *_, colour in drawn.values()}) == 3


def test_arms_without_an_interval_are_not_drawn(results, kept, tmp_path):
    results.run(0.70)
    results.run(0.80, "cgan")
    assert not gains_plot(results.analysis(), tmp_path / "x.png")
    assert kept == []


def test_ratio_curves_start_from_real_films_alone_and_leave_controls_out(results, kept, tmp_path):
    results.runs(0.70)
    results.runs(0.75, "cgan", 0.5)
    results.runs(0.80, "cgan", 1.0)
    results.runs(0.70, "copy")
    results.runs(0.90, "cgan", arm="synthetic-only")
    assert ratio_curves(results.analysis(), tmp_path / "x.png")
    (axis,) = kept[0].axes
    (line,) = [line for line in axis.lines if line.get_label() == "cgan"]
    assert list(line.get_xdata()) == [0.0, 0.5, 1.0]
    assert list(line.get_ydata()) == pytest.approx([0.70, 0.75, 0.80], abs=0.01)
    assert {text.get_text() for text in axis.get_legend().get_texts()} == {"cgan", "real only"}


def test_there_is_no_ratio_curve_without_a_generator(results, kept, tmp_path):
    assert not ratio_curves_of(results, tmp_path)
    results.runs(0.70)
    assert not ratio_curves_of(results, tmp_path)
    assert kept == []


def ratio_curves_of(results, folder):
    results.put("data", counts={"films": 1})
    return ratio_curves(results.analysis(), folder / "x.png")


def predictions_of(results, leaking=()):
    return figures._predictions(results.section(), results.store, leaking)


def test_curves_show_real_films_first_and_no_control(results):
    for name, ratio in (("flow", 1.0), ("cgan", 2.0), ("cgan", 0.5), (None, 0.0), ("copy", 1.0)):
        results.runs(0.7, name, ratio, seeds=2)
    results.runs(0.7, "oracle", real_share=FEW)
    results.runs(0.6, real_share=FEW)
    results.runs(0.7, arm="longer")
    results.runs(0.7, "cgan", arm="synthetic-only")
    results.runs(0.7, "vae", kept=False)
    arms = predictions_of(results)
    assert next(iter(arms)) == "real only"
    assert set(arms) == {"real only", "cgan x 0.5", "cgan x 2", "flow x 1"}
    assert {len(runs) for runs in arms.values()} == {2}


def test_of_many_arms_curves_show_the_best(results):
    for name, auroc in (("acgan", 0.6), ("cgan", 0.8), ("flow", 0.9), (None, 0.7)):
        results.runs(auroc, name, seeds=2)
    assert list(predictions_of(results)) == ["real only", "flow x 1", "cgan x 1", "acgan x 1"]
    assert list(predictions_of(results, ["flow"])) == ["real only", "cgan x 1", "acgan x 1"]


def test_curves_of_several_classifiers_show_each_on_real_films_first(results):
    for classifier in ("small-cnn", "large-cnn"):
        results.run(0.7, "cgan", classifier=classifier)
        results.run(0.7, classifier=classifier)
    assert list(predictions_of(results)) == [
        "large-cnn: real only",
        "small-cnn: real only",
        "large-cnn: cgan x 1",
        "small-cnn: cgan x 1",
    ]


def test_a_confusion_matrix_counts_every_film_of_every_run(results, kept, tmp_path):
    results.runs(0.70, seeds=2)
    results.runs(0.80, "cgan", seeds=3)
    assert confusion_matrices(predictions_of(results), results.section(), tmp_path / "x.png")
    counted = {axis.get_title(): sum(int(text.get_text()) for text in axis.texts) for axis in kept[0].axes}
    assert counted == {"real only": 2 * 200, "cgan x 1": 3 * 200}
    assert not confusion_matrices({}, results.section(), tmp_path / "x.png")


def test_the_sample_grid_has_a_row_of_each_class_and_generator_and_no_control(results, kept, tmp_path):
    results.fidelity(None, {"fid": 1.0})
    for name in ("dcgan", "cgan", "noise"):
        results.fidelity(name, {"fid": 1.0})
    assert films.sample_grid(results.section(), results.store, tmp_path / "x.png")
    labels = [axis.get_ylabel() for axis in kept[0].axes]
    assert labels == [f"{c}\n{name}" for c in ("COVID", "Normal") for name in ("real", "cgan", "dcgan")]


def test_suspicious_films_stand_above_the_films_they_resemble(results, kept, tmp_path):
    results.memorization("cgan", seed=1)
    results.memorization("cgan", seed=0)
    assert films.suspicious_pairs(results.section(), results.store, tmp_path / "x.png")
    (axis,) = kept[0].axes
    pairs = results.store.pictures(results.memorization("cgan", seed=0).key)["suspicious"]
    drawn = np.asarray(axis.images[0].get_array())
    assert drawn.shape == (2 * 8, 8 * 8)
    np.testing.assert_array_equal(drawn[:8, :8], pairs[0, 0, 0])
    np.testing.assert_array_equal(drawn[8:, :8], pairs[0, 1, 0])


def test_there_is_no_grid_without_films(results, kept, tmp_path):
    results.run(0.7)
    assert not films.sample_grid(results.section(), results.store, tmp_path / "x.png")
    assert not films.suspicious_pairs(results.section(), results.store, tmp_path / "x.png")


def test_pictures_of_private_films_stay_in_the_private_folder(results):
    results.publish = False
    results.fidelity("cgan", {"fid": 1.0})
    results.memorization("cgan")
    drawn = draw_figures(results.analysis(), results.store)
    assert set(drawn) == {"sample grid", "most suspicious films"}
    assert all(path.is_relative_to(results.store.private) for path in drawn.values())
    assert not (results.store.root / "figures").exists()


def test_one_private_record_keeps_all_films_private(results):
    results.fidelity("cgan", {"fid": 1.0})
    results.publish = False
    results.memorization("cgan")
    assert all(
        path.is_relative_to(results.store.private) for path in draw_figures(results.analysis(), results.store).values()
    )


def test_verdicts_have_colours_that_can_be_told_apart():
    assert len({colors.to_rgb(colour) for colour in COLOURS.values()}) == 3
