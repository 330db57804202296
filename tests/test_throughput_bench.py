"""Train steps against plain loops: that both train the same, the arithmetic, and the page."""

import itertools
import json
import math
import re
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from bench import throughput, throughput_cells, throughput_compare
from bench.reference.loops import reference_loop
from bench.throughput_cells import CELLS, LARGE_CELLS, REGISTRIES, Cell, cells_of, draw_films
from bench.throughput_peaks import Sizes, measure_peaks, share_of_peak
from bench.throughput_profile import profile_page
from bench.throughput_timing import Loop, interleaved, measure_cell, ratio_of, warmed_up
from cxrbench.checks import toy_films
from cxrbench.contracts import RunContext, Steppable
from cxrbench.errors import Diverged
from cxrbench.registry import GENERATORS

NARROW = {
    "cgan": "cgan:width=4:discriminator_width=4:batch=4",
    "cgan-seed": "cgan-seed:width=4",
    "dcgan": "dcgan:width=4:batch=4",
    "acgan": "acgan:width=4:batch=4",
    "wgan-gp": "wgan-gp:width=4:batch=4:critic_steps=2",
    "flow": "flow:batch=4:fine_batch=2:base_width=8:width=8:depth=1",
    "pca-flow": "pca-flow:batch=4:fine_batch=2:components=4:hidden=16:layers=1:width=8:depth=1",
    "flow-quilt": "flow-quilt:batch=4:width=8",
    "small-cnn": "small-cnn:width=4:batch=4",
    "resnet18": "resnet18:batch=2",
    "squeezenet1_1": "squeezenet1_1:batch=2",
    "alexnet": "alexnet:batch=2",
    "googlenet": "googlenet:batch=2",
}
QUICK = Cell("generator", NARROW["cgan"] + ":penalty_every=2", size=32)


@pytest.fixture
def ctx(tmp_path):
    return RunContext(0, "cpu", 100, tmp_path)


@pytest.fixture
def few_films(monkeypatch):
    """Twelve films a size instead of 234."""
    for module in ("throughput_timing", "throughput_profile", "throughput"):
        monkeypatch.setattr(f"bench.{module}.draw_films", lambda size: toy_films(size, per_class=4))
    monkeypatch.setattr("bench.throughput_timing.ROUND_SECONDS", 0.001)


@dataclass
class Sleeper:
    """Three steps to a cycle, the first of which does more."""

    bad: bool = False

    def setup(self, train, ctx):
        self.done = []

    def images_per_step(self):
        return 4

    def steps_per_cycle(self):
        return 3

    def training_step(self, step):
        self.done.append(step)
        weight = torch.ones(8, 8) @ torch.ones(8, 8) if step % 3 == 0 else torch.ones(1)
        return {"loss": weight.mean() * (math.nan if self.bad else 1.0)}


def steps_of(sleeper, train, ctx):
    sleeper.setup(train, ctx)
    return (sleeper.training_step(step) for step in itertools.count())


def loop_of(steps):
    return Loop(iter(steps), "cpu", {}, 0, 0.0)


def test_every_steppable_plugin_of_ours_has_a_cell():
    for kind, registry in REGISTRIES.items():
        ours = {name for name in registry.names() if registry.origin(name) == "cxrbench"}
        steppable = {name for name in ours if issubclass(registry.get(name), Steppable)}
        assert {cell.plugin.partition(":")[0] for cell in CELLS.values() if cell.kind == kind} == steppable
    assert sum(cell.seconds for cell in CELLS.values()) < 540  # of ten minutes, the rest for peaks and imports


@pytest.mark.parametrize("name", CELLS)
def test_plain_and_ours_train_equally_many_parameters(name, ctx):
    """And the plain loop stays in float32 and the default memory format; no net has groups, which count wrongly."""
    cell = replace(CELLS[name], plugin=NARROW[name])
    train = toy_films(64 if cell.kind == "classifier" else 32)
    plugin = cell.create()
    plugin.setup(train, ctx)
    reference = reference_loop(type(plugin))
    assert reference is not None
    steps = reference(plugin, train, ctx)
    layouts, precisions = [], set()

    def look(module, inputs, maps):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.groups == 1
            layouts.append(maps.is_contiguous() or module.kernel_size == (1, 1))  # attention turns its maps by itself
            precisions.add(maps.dtype)

    count = len(train.classes) if name == "dcgan" else 1  # a pair of nets for each class, by turns
    trained = trained_parameters(lambda: [plugin.training_step(step) for step in range(count)])
    hook = register_module_forward_hook(look)
    try:
        also_trained = trained_parameters(lambda: list(itertools.islice(steps, count)))
    finally:
        hook.remove()
    assert trained == also_trained > 0
    assert layouts
    assert all(layouts)
    assert precisions == {torch.float32}


def trained_parameters(work):
    """How many weights optimizers step during ``work``, each counted once."""
    sizes = {}

    def note(optimizer, *_):
        for group in optimizer.param_groups:
            sizes.update({id(weight): weight.numel() for weight in group["params"] if weight.grad is not None})

    hook = register_optimizer_step_post_hook(note)
    try:
        work()
    finally:
        hook.remove()
    return sum(sizes.values())


def test_a_changed_training_loop_has_no_plain_one():
    small = REGISTRIES["classifier"].get("small-cnn")

    class Changed(small):
        def training_step(self, step):
            return {}

    assert reference_loop(small) is not None
    assert reference_loop(Changed) is None
    assert reference_loop(Sleeper) is None


def test_rounds_go_a_b_b_a_in_whole_cycles():
    order = []
    loops = {name: loop_of(map(order.append, itertools.repeat(name))) for name in ("a", "b")}
    rounds = interleaved(loops, steps=2, seconds=0)
    assert order == 2 * (2 * ["a"] + 4 * ["b"] + 2 * ["a"])
    assert [len(found) for found in rounds.values()] == [4, 4]


def test_rounds_end_before_the_time_is_over(monkeypatch):
    """A turn of a, b, b and a takes 6 of 20 seconds: there is time for three."""
    passed = []
    monkeypatch.setattr("bench.throughput_timing.time", SimpleNamespace(perf_counter=lambda: float(sum(passed))))
    loops = {name: loop_of(map(passed.append, itertools.repeat(took))) for name, took in (("a", 1), ("b", 2))}
    assert interleaved(loops, steps=1, seconds=20.0) == {"a": 6 * [1.0], "b": 6 * [2.0]}


def test_the_ratio_is_the_median_of_pairs_and_blind_to_what_slows_both():
    ours, plain = [1.0, 2.0, 1.0, 4.0], [2.0, 4.0, 3.0, 8.0]
    found = ratio_of(ours, plain)
    assert (found.median, found.pairs) == (2.0, 4)
    assert (found.low, found.high) == pytest.approx((2.0, 2.25))
    slowed = ratio_of([5 * s for s in ours[:2]] + ours[2:], [5 * s for s in plain[:2]] + plain[2:])
    assert slowed == found
    turned = ratio_of(plain, ours)
    assert turned.median == pytest.approx(0.5)
    assert turned.low < turned.median


def test_share_of_peak_is_the_time_at_the_peaks_over_the_time():
    peaks = {"conv fp32": 200.0, "conv bf16": 400.0, "matmul fp32": 100.0}
    assert share_of_peak({"conv fp32": 100e9}, 1.0, peaks) == pytest.approx(0.5)
    assert share_of_peak({"conv bf16": 100e9, "matmul fp32": 10e9}, 0.5, peaks) == pytest.approx((0.25 + 0.1) / 0.5)
    assert share_of_peak({"conv float64": 1e9}, 1.0, peaks) is None


def test_peaks_are_measured_in_the_precisions_that_plugins_use():
    peaks = measure_peaks("cpu", Sizes(side=64, films=2, channels=8, pixels=8), seconds=0.01)
    assert set(peaks) in ({"matmul fp32", "conv fp32"}, {"matmul fp32", "conv fp32", "matmul bf16", "conv bf16"})
    assert all(0 < speed < 1e6 for speed in peaks.values())


def test_warm_up_counts_one_cycle_and_no_more(ctx):
    sleeper = Sleeper()
    loop = warmed_up(lambda: steps_of(sleeper, toy_films(8), ctx), sleeper, "cpu")
    assert sleeper.done == [0, 1, 2, 3]
    assert loop.flops == {"matmul fp32": 2 * 8**3 / 3}  # per step
    loop.run(6)
    assert sleeper.done == list(range(10))


def test_a_loss_that_is_no_number_is_noticed(ctx):
    sleeper = Sleeper(bad=True)
    with pytest.raises(Diverged, match="loss became nan"):
        warmed_up(lambda: steps_of(sleeper, toy_films(8), ctx), sleeper, "cpu")


def test_a_row_holds_both_loops_and_their_ratio(few_films):
    row = measure_cell(QUICK, "cpu", {"conv fp32": 1.0, "matmul fp32": 1.0, "conv bf16": 1.0, "matmul bf16": 1.0}, 0.0)
    ours, plain = row["ours"], row["plain"]
    assert row["status"] == "ok"
    assert row["steps_per_cycle"] == 2
    assert row["steps_per_round"] % 2 == 0
    assert row["ratio"]["pairs"] == len(ours["rounds"]) == len(plain["rounds"]) >= 4
    assert ours["images_per_second"] * ours["step_seconds"] == pytest.approx(4)
    assert sum(plain["flops_per_step"].values()) > sum(ours["flops_per_step"].values()) > 0  # it has D's gradients in G
    assert ours["memory_bytes"] > 0


def test_a_cell_that_cannot_be_timed_is_a_row_that_says_why(few_films):
    peaks = {}
    for cell, reason in (
        (Cell("classifier", "alexnet", size=32), "at least 64 px"),
        (Cell("generator", "classical", size=32), "no training_step"),
        (Cell("generator", "cgn"), "did you mean cgan"),
    ):
        row = measure_cell(cell, "cpu", peaks, 0.0)
        assert row["status"] == "failed"
        assert reason in row["error"]


def test_a_cell_that_finds_no_memory_costs_no_other_cell(few_films, monkeypatch):
    def setup(self, train, ctx):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(QUICK.create().__class__, "setup", setup)
    row = measure_cell(QUICK, "cpu", {}, 0.0)
    assert (row["status"], row["error"]) == ("failed", "OutOfMemoryError: CUDA out of memory")


def test_a_gpu_has_larger_cells_too(tmp_path):
    large = set(cells_of("cuda")) - set(cells_of("cpu"))
    assert set(cells_of("cpu")) == set(CELLS)
    assert large == set(LARGE_CELLS)
    for name in large:
        assert "," not in name  # --only lists names with commas between them
        cell = LARGE_CELLS[name]
        assert cell.create().images_per_step() > 0
        assert any(cell.plugin.startswith(known) for known in CELLS)  # so there is a plain loop


def test_films_are_the_same_number_at_every_size_and_enlarged_above_what_is_drawn(monkeypatch):
    monkeypatch.setattr(throughput_cells, "PATIENTS_PER_CLASS", 1)
    draw = draw_films.__wrapped__
    small, large = draw(64), draw(150)
    assert (small.size, large.size) == (64, 150)
    assert (small.labels == large.labels).all()
    assert (large.pixels[:, :, [0, 74, 149], 75] == small.pixels[:, :, [0, 31, 63], 32]).all()


@pytest.fixture
def run(tmp_path, monkeypatch, few_films):
    """The command, with two narrow cells and one that has no plain loop."""
    monkeypatch.setattr(GENERATORS, "_decorated", GENERATORS._decorated | {"sleeper": Sleeper})
    monkeypatch.setattr(
        throughput_cells,
        "CELLS",
        {
            "cgan": QUICK,
            "sleeper": Cell("generator", "sleeper", size=32),
            "small-cnn": Cell("classifier", NARROW["small-cnn"], size=32),
        },
    )
    monkeypatch.setattr("bench.throughput_peaks.SIZES", {"cpu": Sizes(64, 2, 8, 8)})
    monkeypatch.setattr(throughput, "measure_peaks", lambda device: measure_peaks(device, seconds=0.01))

    def command(*options):
        monkeypatch.setattr(sys, "argv", ["bench", str(tmp_path), *options])
        return throughput.main()

    return command


def test_a_run_writes_a_record_and_a_page_and_compares_well_with_itself(run, tmp_path, monkeypatch, capsys):
    assert run("--seconds", "0") == 0
    stored = json.loads((tmp_path / "throughput.json").read_text())
    assert list(stored["rows"]) == ["cgan", "sleeper", "small-cnn"]
    assert "plain" not in stored["rows"]["sleeper"]
    page = (tmp_path / "THROUGHPUT.md").read_text()
    head, *rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {head.count("|")}
    assert len(rows) == 1 + 3
    assert "No plain loop is written for sleeper" in page
    path = str(tmp_path / "throughput.json")
    monkeypatch.setattr(sys, "argv", ["compare", path, path])
    assert throughput_compare.main() == 0
    assert "sleeper: no ratio in the old and the new record" in capsys.readouterr().out


def test_a_run_of_fewer_rows_does_not_replace_a_record(run, tmp_path, capsys):
    assert run("--seconds", "0", "--kind", "generator") == 0
    before = (tmp_path / "throughput.json").read_bytes()
    assert run("--seconds", "0", "--only", "cgan") == 2
    assert "holds rows for sleeper" in capsys.readouterr().err
    assert (tmp_path / "throughput.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "cgn"], "--only cgn: there are cgan"),
        (["--kind", "generators"], "--kind generators: there are generator, classifier"),
        (["--kind", "classifier", "--only", "cgan"], "leaves none"),
        (["--device", "tpu"], "unknown device"),
        (["--profile", "nonsense"], "there are cgan"),
    ],
)
def test_bad_options_end_in_one_line(run, options, message, capsys):
    assert run(*options) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_a_profile_names_the_operators_that_take_the_time_and_what_they_leave_to_gain(few_films):
    page = profile_page("small-cnn", Cell("classifier", NARROW["small-cnn"], size=32), "cpu", seconds=0.5)
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    own = [float(row[1]) for row in rows]
    assert own == sorted(own, reverse=True)
    calls = {row[0]: float(row[3]) for row in rows}
    assert calls["`aten::convolution_backward`"] == 4  # four convolutions, in each step once

    wall, arithmetic, ratio, limit = (
        float(re.search(pattern, " ".join(page.split()))[1])
        for pattern in (
            r"([\d.]+) ms of wall time",
            r"products of matrices alone take ([\d.]+) ms",
            r"ours is ([\d.]+) times as fast",
            r"it would be \*\*([\d.]+) times",
        )
    )
    shown = sum(float(row[1]) for row in rows if any(part in row[0] for part in ("convolution", "mm")))
    assert shown <= arithmetic + 0.1  # some of those that are not shown count, too
    assert arithmetic < wall
    assert limit == pytest.approx(ratio * wall / arithmetic, rel=0.2)  # what the page says is rounded
