"""The page that sets our extraction beside torch-fidelity's, on a few small films."""

import json
import sys

import numpy as np
import pytest
import torch

from bench import feature_speed
from bench.feature_speed import differences, measure, page, read_films, torch_fidelity_ways, write_random_weights

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((24, 8)).astype(np.float32)


def test_equal_features_differ_in_nothing():
    assert set(differences(FEATURES, FEATURES.copy()).values()) == {0}


def test_longer_features_give_a_longer_distance():
    found = differences(FEATURES * np.float32(1.01), FEATURES)
    assert found["fd_median"] == pytest.approx(1.01**2 - 1, rel=1e-3)  # a Frechet distance is a square
    assert found["fd_worst"] == pytest.approx(found["fd_median"], rel=1e-3)
    assert found["largest"] == pytest.approx(0.01 * abs(FEATURES).max(), rel=1e-3)
    assert found["relative"] > 0.01  # features are not centred, their spread is


def test_what_all_films_share_changes_no_frechet_distance():
    found = differences(FEATURES + np.float32(0.5), FEATURES)
    assert found["fd_worst"] < 1e-5
    assert found["largest"] == pytest.approx(0.5, rel=1e-3)
    assert found["kid_worst"] > 1e-3  # its kernel has an origin


def test_each_way_is_taken_in_every_round_after_a_warm_up():
    calls = []

    def way(name):
        return lambda pixels: calls.append((name, len(pixels))) or FEATURES

    rows = measure({"one": way("one"), "other": way("other")}, np.zeros((24, 1, 8, 8), np.uint8), rounds=2)
    assert calls == [("one", 4), ("other", 4), *[("one", 24), ("other", 24)] * 2]
    assert [row["way"] for row in rows] == ["one", "other"]
    assert rows[0]["times_as_fast"] == 1
    assert all(len(row["seconds"]) == 2 for row in rows)


def test_films_are_taken_from_each_class_by_turns():
    pixels, name = read_films("phantom:patients_per_class=6", 9, 16)
    assert (pixels.shape, pixels.dtype, name) == ((9, 1, 16, 16), np.uint8, "phantom:patients_per_class=6")
    more, _ = read_films("phantom:patients_per_class=6", 12, 16)
    np.testing.assert_array_equal(more[:9], pixels)


def test_batch_norms_normalise_the_films_they_have_seen(tmp_path):
    films = np.random.default_rng(0).integers(0, 256, (4, 1, 75, 75), dtype=np.uint8)
    write_random_weights(tmp_path / "plain.pth")
    write_random_weights(tmp_path / "normalised.pth", films)
    plain, seen = (torch.load(tmp_path / f"{name}.pth", weights_only=True) for name in ("plain", "normalised"))
    name = "Mixed_7c.branch_pool"
    assert torch.equal(plain[f"{name}.conv.weight"], seen[f"{name}.conv.weight"])
    assert plain[f"{name}.conv.weight"].std() == pytest.approx((2 / 2048) ** 0.5, rel=0.02)
    assert (plain[f"{name}.bn.running_var"] == 1).all()
    assert not (seen[f"{name}.bn.running_var"] == 1).any()
    call, alone = torch_fidelity_ways(tmp_path / "plain.pth", "cpu").values()
    # Features reach 1, and some are 0 but for what rounding to float32 leaves of sums: 1.2e-7 is its epsilon.
    np.testing.assert_allclose(call(films), alone(films), rtol=1e-4, atol=1.2e-7)


@pytest.fixture
def small(monkeypatch):
    """Both networks and their ways, in small."""

    def ways(path, device):
        assert path.read_bytes() == b"weights"
        return {
            "theirs": lambda pixels: pixels[:, 0, 0, :4] / np.float32(3),
            "ours": lambda pixels: pixels[:, 0, 0, :4],
        }

    monkeypatch.setattr(feature_speed, "inception_ways", ways)
    monkeypatch.setattr(feature_speed, "lite0_ways", lambda device: {"lite0": lambda pixels: pixels[:, 0, 5]})
    monkeypatch.setattr(feature_speed, "write_random_weights", lambda path, films=None: path.write_bytes(b"weights"))


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["feature_speed", *map(str, arguments)])
    return feature_speed.main()


def test_both_files_are_written_and_say_what_was_found(small, tmp_path, monkeypatch):
    assert run(monkeypatch, tmp_path, "--films", "16", "--size", "32", "--rounds", "1") == 0
    record = json.loads((tmp_path / "features.json").read_text())
    assert record["asked"] == {"data": "phantom", "films": 16, "size": 32, "rounds": 1}
    assert list(record["nets"]) == [*feature_speed.NETS, "lite0"]
    text = (tmp_path / "FEATURES.md").read_text()
    assert text == page(record)
    rows = [line for line in text.splitlines() if line.startswith("| He's start | ")]
    assert [line.split(" | ")[-1] for line in rows] == ["yes |", "no |"]
    assert f"torch {torch.__version__.partition('+')[0]}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--films", "15"), "--films must be at least 16"),
        (("--rounds", "0"), "--rounds at least 1"),
        (("--data", "phantom:patients_per_class=4"), "96 are needed; ask for fewer with --films"),
        (("--weights", "/nowhere.pth"), "--weights /nowhere.pth is no file"),
        (("--weights", __file__), "the published file 6726825d"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(small, arguments, message, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, tmp_path, *arguments) != 0
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown
    assert shown.count("\n") == 1
    assert not list(tmp_path.iterdir())
