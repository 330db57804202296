"""bf16 against float32: the statistic, the page, and that the two ways are two."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench import precision_parity
from bench.precision_parity import FITS, kept_rows, measure, page, paired
from bench.quality import index_real, load_yardstick
from cxrbench.cache import Cache
from cxrbench_baselines import nets

DATA = "phantom:patients_per_class=36"


def test_the_interval_is_students_over_seeds():
    apart, reach = paired({"bf16": [1.0, 2.0, 3.0], "float32": [1.0, 1.0, 1.0]})
    assert apart == pytest.approx(1.0)
    assert reach == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)  # t of two degrees of freedom, deviation 1


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "no difference seen"), (50.0, "**differs**")])
def test_the_page_says_differs_where_all_seeds_do(shift, verdict):
    scores = {"bf16": [100.0 + shift, 112.0 + shift, 90.0 + shift], "float32": [101.0, 110.0, 91.0]}
    row = {"fit": {"plugin": "cgan", "kind": "generator", "steps": 5}, "scores": scores}
    row["seconds"] = {"bf16": [1.0, 1.0, 1.0], "float32": [2.0, 2.0, 2.0]}
    machine = {"device": "a CPU", "threads": 1, "python": "3", "versions": {}}
    text = page({"rows": {"cgan": row}, "data": "toy", "n": 6, "rounded": False, "machine": machine})
    line = next(line for line in text.splitlines() if line.startswith("| `cgan`"))
    assert verdict in line
    assert "| 2.00 |" in line
    assert f"{shift:+.1f}" in line or shift == 0


def test_both_ways_are_trained_and_neither_leaves_a_trace(private_cache, monkeypatch):
    monkeypatch.setattr(precision_parity, "PER_CLASS", 16)
    stick = load_yardstick(index_real(DATA), precision_parity.SIZE, 16, "cpu", Cache(private_cache))
    before = nets._cpu_has_bf16
    seen = []

    def noted(fit, stick, seed, device):
        assert nets._cpu_has_bf16() == torch.cuda.is_bf16_supported()
        seen.append((nets._cpu_has_bf16(), seed))
        return float(len(seen))

    monkeypatch.setattr(precision_parity, "score_of", noted)
    found = measure(replace(FITS["small-cnn"], steps=2), stick, 2, "cpu")
    assert seen == [(True, 0), (False, 0), (False, 1), (True, 1)]  # by turns
    assert found["scores"] == {"bf16": [1.0, 4.0], "float32": [2.0, 3.0]}
    assert nets._cpu_has_bf16 is before


def test_a_whole_run_writes_record_and_page(private_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(precision_parity, "PER_CLASS", 16)
    monkeypatch.setattr(precision_parity, "FITS", {name: replace(fit, steps=3) for name, fit in FITS.items()})
    words = [str(tmp_path), "--data", DATA, "--seeds", "2", "--rounded", "--only", "small-cnn,cgan-seed"]
    assert precision_parity.main(words) == 0
    record = json.loads((tmp_path / "parity.json").read_text())
    assert set(record["rows"]) == {"small-cnn", "cgan-seed"}
    for row in record["rows"].values():
        assert row["scores"]["bf16"] != row["scores"]["float32"]
    assert "Student's" in (tmp_path / "PARITY.md").read_text()

    assert precision_parity.main([*words[:-1], "small-cnn"]) == 0
    again = json.loads((tmp_path / "parity.json").read_text())
    assert list(again["rows"]) == ["cgan-seed", "small-cnn"]
    assert again["rows"]["cgan-seed"] == record["rows"]["cgan-seed"]


def test_a_cpu_without_bf16_compares_scores_where_asked_and_shows_no_times(
    private_cache, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(precision_parity, "cpu_has_bf16", lambda: False)
    monkeypatch.setattr(precision_parity, "PER_CLASS", 16)
    monkeypatch.setattr(precision_parity, "FITS", {"small-cnn": replace(FITS["small-cnn"], steps=3)})
    words = [str(tmp_path), "--data", DATA, "--seeds", "2"]
    assert precision_parity.main(words) == 2
    assert "--rounded compares scores all the same" in capsys.readouterr().err
    assert precision_parity.main([*words, "--rounded"]) == 0
    shown = (tmp_path / "PARITY.md").read_text()
    assert "This CPU has no bf16" in shown
    assert next(line for line in shown.splitlines() if "`small-cnn`" in line).count("|  |") == 1


def test_rows_of_other_films_or_another_machine_are_not_kept(tmp_path):
    facts = {"data": "toy", "data_hash": "ab", "n": 6, "rounded": False, "machine": {"device": "a CPU"}}
    (tmp_path / "parity.json").write_text(json.dumps({**facts, "rows": {"cgan": {"scores": {}}}}))
    assert kept_rows(tmp_path / "parity.json", facts) == {"cgan": {"scores": {}}}
    assert kept_rows(tmp_path / "parity.json", {**facts, "machine": {"device": "another"}}) == {}
    assert kept_rows(tmp_path / "parity.json", {**facts, "data_hash": "cd"}) == {}
    assert kept_rows(tmp_path / "none.json", facts) == {}


def test_one_seed_has_no_interval(tmp_path, capsys):
    assert precision_parity.main([str(tmp_path), "--data", DATA, "--seeds", "1"]) == 2
    assert "at least 2 are needed" in capsys.readouterr().err
