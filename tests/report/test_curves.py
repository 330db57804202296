"""Curves: what is drawn, where its numbers come from, that nothing overlaps, and that the bytes stay the same."""

from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from cxrbench.metrics.calibration import expected_calibration_error, reliability_bins
from cxrbench.report import curves
from cxrbench.report.curves import pr_curves, reliability, roc_curves

CLASSES = ("COVID", "Normal", "Viral Pneumonia")
DRAWN_BY = [roc_curves, pr_curves, reliability]


def predictions(seed, films=90, classes=3, skill=1.5):
    """Test films of every class, and what a classifier of some skill says of them."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(films) % classes)
    odds = np.exp(rng.standard_normal((films, classes)) + skill * np.eye(classes)[labels])
    return labels, (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def some_arms(names, seeds=2, **more):
    return {name: [predictions(10 * i + seed, **more) for seed in range(seeds)] for i, name in enumerate(names)}


def one_hot(labels, classes=3):
    return np.eye(classes, dtype=np.float32)[labels]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn; they are laid out where a test asks for it, and not written, which is slow."""
    made = []

    class Recorded(Figure):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            made.append(self)

        def savefig(self, *arguments, **more):
            assert more["metadata"] == {"Software": None}

    monkeypatch.setattr(curves, "Figure", Recorded)
    return made


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def line_of(axis, name):
    (line,) = [line for line in axis.lines if line.get_label().endswith(name)]
    return line


@pytest.mark.parametrize("draw", DRAWN_BY)
def test_a_picture_is_written_into_a_new_folder(draw, tmp_path):
    path = tmp_path / "new" / "curves.png"
    assert draw(some_arms(["real only", "cgan x 1"]), CLASSES, path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10


@pytest.mark.parametrize("draw", DRAWN_BY)
def test_the_same_predictions_give_the_same_bytes_whatever_the_settings(draw, tmp_path):
    arms = some_arms(["real only", "cgan x 1", "classical x 1"])
    assert draw(arms, CLASSES, tmp_path / "one.png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.antialiased": False}):
        assert draw(arms, CLASSES, tmp_path / "other.png")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


@pytest.mark.parametrize("draw", DRAWN_BY)
@pytest.mark.parametrize("arms", [{}, {"real only": []}, {"real only": [predictions(0, films=0)]}])
def test_nothing_is_drawn_of_nothing(draw, arms, tmp_path):
    assert draw(arms, CLASSES, tmp_path / "none.png") is False
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize("draw", [roc_curves, pr_curves])
def test_nothing_is_drawn_where_no_class_has_a_rest(draw, tmp_path):
    labels = np.zeros(5, np.int64)
    assert draw({"real only": [(labels, one_hot(labels))]}, CLASSES, tmp_path / "none.png") is False
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize("draw", DRAWN_BY)
def test_malformed_probabilities_are_refused(draw, tmp_path):
    labels, probabilities = predictions(0)
    with pytest.raises(ValueError, match="sum to one"):
        draw({"cgan x 1": [(labels, probabilities / 2)]}, CLASSES, tmp_path / "none.png")
    with pytest.raises(ValueError, match=r"float32 \[90, 2\]"):
        draw({"cgan x 1": [(labels, probabilities)]}, ("a", "b"), tmp_path / "none.png")


@pytest.mark.parametrize(
    ("draw", "reference"), [(roc_curves, roc_auc_score), (pr_curves, average_precision_score)], ids=["roc", "pr"]
)
def test_the_legend_has_mean_and_spread_over_seeds_and_the_line_has_that_area(draw, reference, figures, tmp_path):
    arms = some_arms(["real only", "cgan x 1"], seeds=3, films=300)
    assert draw(arms, CLASSES, tmp_path / "curves.png")
    for i, axis in enumerate(figures[0].axes):
        assert axis.get_title() == CLASSES[i]
        for name, seeds in arms.items():
            areas = [reference(labels == i, probabilities[:, i]) for labels, probabilities in seeds]
            assert f"{np.mean(areas):.3f} ± {np.std(areas, ddof=1):.3f}  {name}" in legend(axis)
            x, y = line_of(axis, name).get_data()
            assert np.trapezoid(y, x) == pytest.approx(np.mean(areas), abs=0.005)


def test_the_roc_curves_of_perfect_constant_and_inverted_predictors(figures, tmp_path):
    labels = np.arange(60) % 2
    arms = {
        "perfect": [(labels, one_hot(labels, 2))],
        "constant": [(labels, np.full((60, 2), 0.5, np.float32))],
        "inverted": [(labels, one_hot(1 - labels, 2))],
    }
    assert roc_curves(arms, ("a", "b"), tmp_path / "roc.png")
    for axis in figures[0].axes:
        heights = {name: line_of(axis, name).get_ydata() for name in arms}
        assert heights["perfect"][0] == 0
        assert (heights["perfect"][1:] == 1).all()
        assert heights["constant"] == pytest.approx(line_of(axis, "constant").get_xdata())
        assert (heights["inverted"][:-1] == 0).all()
        assert [text.split()[0] for text in legend(axis)] == ["1.000", "0.500", "0.000"]


def test_the_precision_of_perfect_and_constant_predictors(figures, tmp_path):
    labels = np.asarray([0] * 15 + [1] * 45)
    arms = {"perfect": [(labels, one_hot(labels, 2))], "constant": [(labels, np.full((60, 2), 0.5, np.float32))]}
    assert pr_curves(arms, ("a", "b"), tmp_path / "pr.png")
    for axis, share in zip(figures[0].axes, (0.25, 0.75), strict=True):
        assert (line_of(axis, "perfect").get_ydata() == 1).all()
        assert line_of(axis, "constant").get_ydata() == pytest.approx(share)


def test_precision_at_a_recall_is_that_of_the_highest_threshold_that_reaches_it(figures, tmp_path):
    # From the top: another class, then three of four, another, the last. Nothing is found at the first threshold.
    scores = np.asarray([0.9, 0.8, 0.7, 0.6, 0.3, 0.2], np.float32)
    labels = np.asarray([0, 1, 1, 1, 0, 1])
    assert pr_curves({"arm": [(labels, np.stack([1 - scores, scores], axis=1))]}, ("a", "b"), tmp_path / "pr.png")
    x, y = line_of(figures[0].axes[1], "arm").get_data()
    for low, high, precision in [(0, 0.25, 1 / 2), (0.25, 0.5, 2 / 3), (0.5, 0.75, 3 / 4), (0.75, 1, 4 / 6)]:
        assert y[(x > low + 1e-6) & (x <= high + 1e-6)] == pytest.approx(precision)
    assert y[0] == pytest.approx(1 / 2)


@pytest.mark.parametrize("draw", [roc_curves, pr_curves])
def test_the_band_is_the_spread_over_seeds_and_one_seed_has_none(draw, figures, tmp_path):
    both = predictions(0), predictions(1, skill=0.3)
    assert draw({"two": both, "one": both[:1]}, CLASSES, tmp_path / "curves.png")
    assert draw({"two": both[1:], "one": both[:1]}, CLASSES, tmp_path / "curves.png")
    several, single = figures
    for axis in several.axes:
        (band,) = axis.collections
        line = line_of(axis, "two")
        assert band.get_facecolor()[0, :3] == pytest.approx(matplotlib.colors.to_rgb(line.get_color()))
        middle = band.get_paths()[0].get_extents()
        assert middle.y0 <= line.get_ydata()[1:].min()
        assert middle.y1 >= line.get_ydata()[1:].max()
    assert "band: ± 1 standard deviation" in several.get_suptitle().replace("\n", " ")
    assert not any(axis.collections for axis in single.axes)
    assert single.get_suptitle().endswith("one seed")


@pytest.mark.parametrize("draw", [roc_curves, pr_curves])
def test_a_class_without_films_has_no_panel(draw, figures, tmp_path):
    labels, probabilities = predictions(0)
    arms = {"real only": [(np.where(labels == 1, 2, labels), probabilities)]}
    assert draw(arms, CLASSES, tmp_path / "curves.png")
    assert [axis.get_title() for axis in figures[0].axes] == ["COVID", "Viral Pneumonia"]


def test_a_seed_without_films_of_a_class_is_left_out_of_its_panel_alone(figures, tmp_path):
    complete, (labels, probabilities) = predictions(0), predictions(1)
    lacking = (np.where(labels == 1, 2, labels), probabilities)
    assert roc_curves({"real only": [complete, lacking], "cgan x 1": [lacking]}, CLASSES, tmp_path / "roc.png")
    covid, normal, _ = figures[0].axes
    alone = roc_auc_score(complete[0] == 1, complete[1][:, 1])
    assert legend(normal) == [f"{alone:.3f}  real only"]
    assert len(legend(covid)) == 2
    assert all("±" in text for text in legend(covid)[:1])


@pytest.mark.parametrize("draw", DRAWN_BY)
def test_real_films_alone_are_black_dashed_and_first_wherever_they_stand(draw, figures, tmp_path):
    assert draw(some_arms(["cgan x 1", "real only", "cgan x 2"]), CLASSES, tmp_path / "curves.png")
    for axis in figures[0].axes:
        assert legend(axis)[0].endswith("real only")
        line = line_of(axis, "real only")
        assert (line.get_color(), line.get_linestyle()) == ("black", "--")
    drawn = [line for axis in figures[0].axes for line in axis.lines if "x " in line.get_label()]
    assert len({line.get_color() for line in drawn}) == 2
    assert "black" not in {line.get_color() for line in drawn}


@pytest.mark.parametrize("draw", DRAWN_BY)
def test_at_most_eight_arms_are_drawn_and_the_title_tells(draw, figures, tmp_path):
    names = [f"generator-{i} x 1" for i in range(9)]
    assert draw(some_arms([*names, "real only"], seeds=1, films=30, classes=2), ("a", "b"), tmp_path / "many.png")
    assert draw(some_arms(names[:8], seeds=1, films=30, classes=2), ("a", "b"), tmp_path / "eight.png")
    shown = [{text.split("  ")[1] for axis in figure.axes for text in legend(axis)} for figure in figures]
    assert shown == [{"real only", *names[:7]}, set(names[:8])]
    titles = [figure.get_suptitle().replace("\n", " ") for figure in figures]
    assert titles[0].endswith("; 2 arms that rank lower are left out")
    assert "left out" not in titles[1]


def test_reliability_shows_the_bins_of_all_seeds_and_the_error_of_each(figures, tmp_path):
    arms = some_arms(["real only", "cgan x 1", "cgan x 2"], seeds=3)
    assert reliability(arms, CLASSES, tmp_path / "reliability.png")
    assert len(figures[0].axes) == 2  # one for each arm beside real films alone
    for axis, name in zip(figures[0].axes, ("cgan x 1", "cgan x 2"), strict=True):
        for shown, dots in zip(("real only", name), axis.collections, strict=True):
            bins = reliability_bins(*(np.concatenate(parts) for parts in zip(*arms[shown], strict=True)))
            filled = bins.share > 0
            middles = np.stack([bins.confidence[filled], bins.accuracy[filled]], axis=1)
            assert np.asarray(dots.get_offsets()) == pytest.approx(middles)
            assert dots.get_sizes() == pytest.approx(curves.LARGEST_DOT * bins.share[filled])
            errors = [expected_calibration_error(*seed) for seed in arms[shown]]
            assert f"{np.mean(errors):.3f} ± {np.std(errors, ddof=1):.3f}  {shown}" in legend(axis)


def test_the_reliability_line_passes_by_bins_of_a_few_films(figures, tmp_path):
    top = np.repeat(np.asarray([0.55, 0.75, 0.95], np.float32), [20, 19, 40])
    labels = np.arange(79) % 2
    assert reliability({"arm": [(labels, np.stack([top, 1 - top], axis=1))]}, ("a", "b"), tmp_path / "r.png")
    (axis,) = figures[0].axes
    assert line_of(axis, "arm").get_xdata() == pytest.approx([0.55, 0.95])
    assert len(axis.collections[0].get_sizes()) == 3


def test_reliability_of_real_films_alone_has_one_panel(figures, tmp_path):
    assert reliability(some_arms(["real only"], seeds=1), CLASSES, tmp_path / "reliability.png")
    (axis,) = figures[0].axes
    assert len(legend(axis)) == 1


def test_names_are_no_mathematics_and_long_ones_keep_both_ends(figures, tmp_path):
    long = "a-generator-whose-author-liked-long-names x 0.5"
    assert roc_curves(some_arms(["$\\bad{$ x 1", long]), ("a$_$b", "_b", "c"), tmp_path / "roc.png")
    first, second = legend(figures[0].axes[0])
    assert first.endswith("\\$\\bad{\\$ x 1")
    assert "a-generator" in second
    assert second.endswith(" x 0.5")
    assert len(second.split("  ")[1]) < len(long)


@pytest.mark.parametrize("draw", DRAWN_BY)
@pytest.mark.parametrize(("classes", "arms"), [(2, 1), (3, 8), (5, 2)])
def test_no_text_overlaps_another_or_leaves_the_figure(draw, classes, arms, figures, tmp_path):
    names = ["real only", *(f"a-generator-of-{i}-with-a-long-name x 0.25" for i in range(1, arms))]
    titles = tuple(f"a finding with a long name {i}" for i in range(classes))
    assert draw(some_arms(names, films=60, classes=classes), titles, tmp_path / "curves.png")
    (figure,) = figures
    figure.draw_without_rendering()
    boxes = [figure._suptitle.get_window_extent()]
    for axis in figure.axes:
        boxes += [axis.title.get_window_extent()] if axis.get_title() else []
        boxes += [axis.xaxis.label.get_window_extent(), axis.yaxis.label.get_window_extent(), axis.get_window_extent()]
        low, high = axis.get_xlim()
        texts = [label for label in axis.get_xticklabels() if low <= label.get_position()[0] <= high]
        texts += [axis.get_legend().get_title(), *axis.get_legend().get_texts()]
        boxes += [text.get_window_extent() for text in texts]
        assert axis.bbox.height > 0.75 * axis.bbox.width
    width, height = figure.get_size_inches() * figure.dpi
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
