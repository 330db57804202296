"""Two records of train steps: what counts as a fall, and what is not compared."""

import json
import sys

import pytest
import torch

from bench import throughput_compare
from cxrbench.errors import UsageError


def ratio(median, spread=0.0, pairs=16):
    return {"median": median, "low": median - spread / 2, "high": median + spread / 2, "pairs": pairs}


def record(rows, device="cpu", machine="a CPU, 2 cores", kinds=("conv fp32", "conv bf16")):
    found = {name: {"plugin": name, "size": 64} | ({"ratio": each} if each else {}) for name, each in rows.items()}
    return {
        "device": device,
        "machine": {"device": machine, "threads": 2},
        "rows": found,
        "peaks_gflops": dict.fromkeys(kinds, 1.0),
    }


def test_the_standard_error_of_a_normal_median_is_met():
    torch.manual_seed(0)
    draws = torch.randn(4000, 25, dtype=torch.float64)
    low, high = torch.quantile(draws, torch.tensor([0.25, 0.75], dtype=torch.float64), dim=1)
    stated = [throughput_compare.standard_error(ratio(0, s, 25)) for s in (high - low).tolist()]
    assert float(draws.median(dim=1).values.std()) == pytest.approx(sum(stated) / len(stated), rel=0.1)


def test_a_fall_beyond_margin_and_noise_fails_and_nothing_else_does():
    fallen = {"a": ratio(2.0), "b": ratio(2.0, 0.8), "c": ratio(2.0), "d": ratio(2.0)}
    now = {"a": ratio(1.79), "b": ratio(1.79), "c": ratio(1.81), "d": ratio(5.0)}
    found, told = throughput_compare.compare(record(fallen), record(now))
    assert found == ["a: ours / plain 2.00 before, 1.79 now: fell by more than the 0.20 allowed"]
    assert [line.partition(":")[0] for line in told] == ["b", "c", "d"]
    assert throughput_compare.compare(record(now), record(now))[0] == []


def test_rows_of_one_record_only_and_other_machines_are_named():
    old, new = record({"a": ratio(2.0), "b": ratio(2.0)}), record({"a": ratio(2.0), "c": None}, machine="another")
    found, told = throughput_compare.compare(old, new)
    assert found == []
    assert told[0] == "device: a CPU, 2 cores before, another now"
    assert "b: only in the old record" in told
    assert "c: only in the new record" in told


def test_rows_of_other_sizes_or_parameters_are_not_compared():
    new = record({"a": ratio(1.0), "b": ratio(1.0)})
    new["rows"]["a"]["size"], new["rows"]["b"]["plugin"] = 128, "b:width=4"
    assert throughput_compare.compare(record({"a": ratio(2.0), "b": ratio(2.0)}), new) == (
        [],
        ["a: a at 64 px before, a at 128 px now", "b: b at 64 px before, b:width=4 at 64 px now"],
    )


def test_a_ratio_that_is_no_more_is_a_fall():
    assert throughput_compare.compare(record({"a": ratio(2.0)}), record({"a": None}))[0] == [
        "a: no ratio in the new record"
    ]


def test_records_of_two_devices_are_not_compared():
    with pytest.raises(UsageError, match="one record is of cpu with bf16 and fp32, the other of cuda with"):
        throughput_compare.compare(record({}), record({}, device="cuda"))


def test_a_cpu_without_bf16_is_compared_with_its_like(tmp_path, monkeypatch, capsys):
    with_bf16, without = record({"a": ratio(2.0)}), record({"a": ratio(1.5)}, kinds=("conv fp32",))
    with pytest.raises(UsageError, match="one record is of cpu with bf16 and fp32, the other of cpu with fp32"):
        throughput_compare.compare(with_bf16, without)
    paths = [tmp_path / f"{name}.json" for name in ("old", "other", "new")]
    for path, content in zip(paths, (with_bf16, without, without), strict=True):
        path.write_text(json.dumps(content))
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, paths)])
    assert throughput_compare.main() == 0
    assert "a: ours / plain 1.50 before, 1.50 now" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["compare", str(paths[0]), str(paths[2])])
    assert throughput_compare.main() == 2
    assert "compare like with like" in capsys.readouterr().err


def test_comparing_ends_in_one_line_per_fall(tmp_path, monkeypatch, capsys):
    old, new = record({"a": ratio(2.0), "b": ratio(3.0)}), record({"a": ratio(1.0), "b": ratio(1.0)})
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    for path, content in zip(paths, (old, new), strict=True):
        path.write_text(json.dumps(content))
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, paths)])
    assert throughput_compare.main() == 1
    assert capsys.readouterr().err.count("\n") == 2
    paths[1].write_text("[]")
    assert throughput_compare.main() == 2
    assert "is no record of bench.throughput" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["compare", str(paths[0]), str(tmp_path / "none.json")])
    assert throughput_compare.main() == 2
    assert "cannot be read" in capsys.readouterr().err
