"""The monitors: each speaks of its injected fault, all are silent in a healthy fit, and looking changes nothing."""

import copy
import csv
import itertools
import json
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.checks import toy_films
from cxrbench.errors import UsageError
from cxrbench_baselines.diagnosis import Look, find_all
from cxrbench_baselines.monitors import Watch

EVERY = 10
TRAIN = toy_films(16, per_class=20)
PER_CLASS = 16


def mix(films, others, share):
    return np.round(share * films + (1 - share) * others).astype(np.uint8)


@pytest.fixture
def healthy_films(fresh):
    def films(look, looks=20):
        """From one kind of film slowly to others, each unlike the training films."""
        return mix(fresh(3), fresh(2), look / (looks - 1))

    return films


def values(watch):
    return [look["values"] for look in watch.state_dict()["looks"]]


# ---------------------------------------------------------------- when to look


@given(st.integers(1, 3000))
def test_about_twenty_looks_whatever_the_budget_the_first_and_the_last_among_them(budget):
    watch = Watch.__new__(Watch)
    due = [number for number in range(budget) if watch.due(number, budget)]
    assert due[0] == 0
    assert due[-1] == budget - 1
    assert all(after - before >= EVERY for before, after in itertools.pairwise(due[:-1]))
    assert len(due) <= 22
    assert budget < 200 or len(due) >= 11


# ---------------------------------------------------------------- faults, each found


def test_a_healthy_fit_has_no_findings(tmp_path, Fit, healthy_films):
    fit = Fit(tmp_path)
    for look in range(20):
        said = fit.look(healthy_films(look), generator_loss=1.0, discriminator_loss=1.2, discriminator_accuracy=0.7)
    assert said == []
    assert set(values(fit.watch)[-1]) == {
        *("generator_loss", "discriminator_loss", "discriminator_accuracy", "train_distance", "movement", "turn"),
        *("gradient/generator", "weights/generator", "gradient/discriminator", "weights/discriminator"),
        *("diversity/a", "diversity/b", "diversity/c"),
    }


def test_constant_films_have_collapsed_and_only_the_class_that_has_is_named(tmp_path, Fit, fresh):
    fit = Fit(tmp_path)
    films = fresh(1)
    films[PER_CLASS : 2 * PER_CLASS] = films[PER_CLASS]
    fit.look(fresh(1))
    fit.look(films)
    (said,) = fit.look(films)
    assert said.startswith("class b has collapsed: its films are 0% as different from one another as real ones")
    assert "since step 11" in said
    assert "usually done: " in said


def test_a_class_of_two_kinds_of_film_has_not_collapsed_and_nearly_one_kind_has(tmp_path, Fit, fresh):
    fit = Fit(tmp_path)
    films = fresh(1)
    films[:PER_CLASS] = films[[0, 1] * (PER_CLASS // 2)]
    assert fit.look(films) == []
    films[1:PER_CLASS] = films[0]
    assert len(fit.look(films)) == 1


def test_films_that_turn_into_training_films_are_told_with_their_course(tmp_path, Fit, fresh):
    fit = Fit(tmp_path)
    copies = np.concatenate([TRAIN.of_class(label).pixels[:PER_CLASS] for label in range(3)])
    for share in (0.0, 0.3, 0.6, 0.9, 1.0):
        said = fit.look(mix(copies, fresh(1), share))
    (said,) = said
    assert said.startswith("the films come near to copies: they lie 0% as far from the training films")
    assert "at step 1, below 50% since step 21" in said


def test_mirrored_copies_are_copies(tmp_path, Fit):
    copies = np.concatenate([TRAIN.of_class(label).pixels[:PER_CLASS, ..., ::-1] for label in range(3)])
    assert "near to copies" in Fit(tmp_path).look(np.ascontiguousarray(copies))[0]


def test_films_that_move_away_from_the_training_films_again_are_not_blamed(tmp_path, Fit, fresh):
    fit = Fit(tmp_path)
    copies = np.concatenate([TRAIN.of_class(label).pixels[:PER_CLASS] for label in range(3)])
    for share in (0.97, 0.95, 0.9, 0.8):
        said = fit.look(mix(copies, fresh(1), share))
    assert said == []


def test_two_sets_of_films_in_turn_go_back_and_forth(tmp_path, Fit, fresh):
    fit = Fit(tmp_path)
    for look in range(10):
        said = fit.look(fresh(1 + look % 2))
    (said,) = said
    assert said.startswith("the films go back and forth: in 5 of the last 5 looks, from step 51 on")
    assert "cosine -1.00" in said


def test_a_fit_that_has_calmed_down_is_not_blamed_for_its_beginning(tmp_path, Fit, fresh, healthy_films):
    fit = Fit(tmp_path)
    for look in range(20):
        said = fit.look(fresh(1 + look % 2) if look < 8 else healthy_films(look))
    assert said == []


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("discriminator_accuracy", [0.6] * 6 + [1.0] * 6, "since step 61 it judges 100.0% of the films rightly"),
        ("discriminator_accuracy", [0.6] * 8 + [1.0] * 3 + [0.9], ""),
        ("discriminator_accuracy", [1.0] * 6 + [0.7] * 6, ""),
        ("discriminator_accuracy", [1.0, 1.0], ""),
        ("discriminator_loss", [1.2] * 6 + [0.01] * 6, "since step 61 its loss is below 0.05"),
        ("discriminator_loss", [0.01] * 6 + [0.8] * 6, ""),
        ("discriminator_loss", [-3.0] * 12, ""),
    ],
)
def test_a_discriminator_that_is_always_right_has_won(tmp_path, name, values, expected, Fit):
    fit = Fit(tmp_path)
    for value in values:
        said = fit.look(**{name: value})
    assert [expected in sentence for sentence in said] == ([True] if expected else [])


def test_the_share_of_right_judgements_counts_more_than_the_loss(tmp_path, Fit):
    fit = Fit(tmp_path)
    for _ in range(12):
        said = fit.look(discriminator_accuracy=0.7, discriminator_loss=0.01)
    assert said == []


def test_a_gradient_that_has_vanished_is_told_and_one_that_came_back_is_not(tmp_path, Fit):
    fit = Fit(tmp_path)
    for gradient in (1.0, 1e-9, 1e-9, 1e-9):
        said = fit.look(gradient=gradient)
    assert "the gradient of the generator has vanished: since step 11 its norm is 1e-09 or less" in said[0]
    assert fit.look(gradient=1e-3) == []


# ---------------------------------------------------------------- what the numbers mean


def test_new_real_films_are_as_different_and_as_far_as_real_films_and_copies_lie_at_nought(tmp_path, Fit, fresh):
    fit = Fit(tmp_path)
    fit.look(fresh(9))
    fit.look(np.concatenate([TRAIN.of_class(label).pixels[:PER_CLASS] for label in range(3)]))
    new, copies = values(fit.watch)
    assert new["train_distance"] == pytest.approx(1.0, abs=0.05)
    assert [new[f"diversity/{name}"] for name in "abc"] == pytest.approx([1.0] * 3, abs=0.05)
    assert copies["train_distance"] == pytest.approx(0.0, abs=2e-3)


def test_every_look_asks_for_the_same_films_of_each_class(tmp_path, Fit):
    fit = Fit(tmp_path)
    fit.look()
    assert fit.asked.dtype == np.int64
    assert np.bincount(fit.asked).tolist() == [PER_CLASS] * 3


def test_a_class_without_a_spread_is_not_judged(tmp_path, Fit):
    rows = np.flatnonzero((TRAIN.labels != 1) | (np.arange(len(TRAIN)) == 1))
    fit = Fit(tmp_path, train=TRAIN.subset(rows))
    fit.look()
    assert {key for key in values(fit.watch)[0] if key.startswith("diversity")} == {"diversity/a", "diversity/c"}


def test_a_single_training_film_is_watched_without_a_word(tmp_path, Fit, fresh):
    fit = Fit(tmp_path, train=TRAIN.subset(np.arange(1)))
    for _ in range(3):
        said = fit.look(fresh(1)[:PER_CLASS])
    assert said == []
    assert set(values(fit.watch)[0]) == {f"{what}/{who}" for what in ("gradient", "weights") for who in fit.nets}


def test_an_average_has_weights_and_no_gradient(tmp_path, Fit, net):
    fit = Fit(tmp_path, average=copy.deepcopy(net()).requires_grad_(False))
    fit.nets["average"].weight.grad = None
    fit.look()
    assert not any(key.endswith("/average") for key in values(fit.watch)[0])


# ---------------------------------------------------------------- files, resume, and no harm done


def test_a_resumed_fit_has_the_history_of_one_that_was_not_killed(tmp_path, Fit, fresh):
    through, killed, resumed = Fit(tmp_path / "a"), Fit(tmp_path / "b"), Fit(tmp_path / "c")
    for look in range(6):
        through.look(fresh(look % 2), generator_loss=0.1 * look)
        if look < 3:
            killed.look(fresh(look % 2), generator_loss=0.1 * look)
    resumed.watch.load_state_dict(json.loads(json.dumps(killed.watch.state_dict())))
    assert resumed.watch.state_dict() == killed.watch.state_dict()
    for name in ("history.csv", "evolution.png"):
        assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    resumed.done = 3
    for look in range(3, 6):
        resumed.look(fresh(look % 2), generator_loss=0.1 * look)
    assert resumed.watch.state_dict() == through.watch.state_dict()
    assert resumed.watch.findings() == through.watch.findings()
    for name in ("history.csv", "evolution.png"):
        assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


def test_the_table_has_a_row_per_look_and_no_number_where_none_was_measured(tmp_path, Fit):
    fit = Fit(tmp_path)
    fit.look(generator_loss=1.0)
    fit.look(generator_loss=2.0, discriminator_loss=3.0)
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "11"]
    assert [row["generator_loss"] for row in rows] == ["1.0", "2.0"]
    assert [row["discriminator_loss"] for row in rows] == ["", "3.0"]


def test_files_that_cannot_be_written_are_told_in_one_line(tmp_path, Fit):
    (tmp_path / "history.csv").mkdir()
    with pytest.raises(UsageError, match=r"the history of the fit cannot be written to .* \(Is a directory\)"):
        Fit(tmp_path).look()


def test_looking_leaves_modes_gradients_and_random_numbers_as_they_were(tmp_path, Fit, fresh):
    norm = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Dropout())
    norm[1].eval()
    fit = Fit(tmp_path, generator=norm)
    norm[0].weight.grad = torch.ones(2)
    fit.watch = Watch(TRAIN, lambda labels: (norm.eval(), fresh(1))[1], fit.nets, tmp_path)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002 - the one that must not move
    weights = copy.deepcopy(norm.state_dict())
    fit.watch.look(0, {"loss": torch.tensor(1.0)})
    assert [module.training for module in norm.modules()] == [True, True, False]
    assert norm[0].weight.grad.tolist() == [1.0, 1.0]
    assert all(torch.equal(value, weights[key]) for key, value in norm.state_dict().items())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002


def test_a_history_without_numbers_has_no_findings():
    assert find_all([]) == []
    assert find_all([Look(1, {})]) == []


# ---------------------------------------------------------------- TensorBoard


class Written:
    def __init__(self, folder):
        self.folder, self.scalars, self.flushed = folder, [], 0
        Written.last = self

    def add_scalar(self, tag, value, step):
        self.scalars.append((tag, value, step))

    def flush(self):
        self.flushed += 1


def test_tensorboard_gets_the_numbers_where_it_is_asked_for(tmp_path, monkeypatch, Fit):
    stub = types.ModuleType("torch.utils.tensorboard")
    stub.SummaryWriter = Written
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stub)
    monkeypatch.setenv("CXRBENCH_TENSORBOARD", "1")
    fit = Fit(tmp_path)
    fit.look(generator_loss=2.0)
    assert Written.last.folder == str(tmp_path / "tensorboard")
    assert ("generator_loss", 2.0, 1) in Written.last.scalars
    assert len(Written.last.scalars) == len(values(fit.watch)[0])
    assert Written.last.flushed == 1


def test_tensorboard_that_is_not_installed_is_told_before_the_fit(tmp_path, monkeypatch, Fit):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setenv("CXRBENCH_TENSORBOARD", "1")
    with pytest.raises(UsageError, match=r"pip install 'cxrbench\[tensorboard\]'"):
        Fit(tmp_path)


def test_nothing_is_written_for_tensorboard_unasked(tmp_path, monkeypatch, Fit):
    monkeypatch.delenv("CXRBENCH_TENSORBOARD", raising=False)
    Fit(tmp_path).look()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evolution.png", "history.csv"]
