"""``cxrbench compare``: films and feature files give the same numbers, and what is left out is said."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cxrbench.datasets.phantom import CLASSES
from cxrbench.feature_files import load_features, save_features
from cxrbench.registry import EXTRACTORS


def scores(found, who="all", extractor="tiny"):
    return found["extractors"][extractor]["classes"][who]["scores"]


def test_identical_films_are_at_distance_zero_under_whatever_names(compare, films, tmp_path):
    real = films("real", 17)
    (tmp_path / "copy").mkdir()
    for label in CLASSES[:2]:
        (tmp_path / "copy" / label).mkdir()
        for number, path in enumerate(sorted((real / label).iterdir(), reverse=True)):
            shutil.copy(path, tmp_path / "copy" / label / f"{number}.png")
    found = compare(tmp_path / "copy", real)
    assert scores(found)["fid"] == pytest.approx(0, abs=1e-9)
    assert scores(found)["precision"] == scores(found)["coverage"] == 1
    assert any("34 of 34 GENERATED films have the very features" in note for note in found["notes"])
    hashes = [found["extractors"]["tiny"][side]["films_hash"] for side in ("generated", "reference")]
    assert hashes[0] == hashes[1]


def test_noise_is_worse_than_other_real_films_and_far_beyond_the_floor(compare, films):
    real = films("real", 36, seed=1)
    other, noise = compare(films("other", 17), real), compare(films("noise", 17, noise=True), real)
    for who in ("all", *CLASSES[:2]):
        good, bad = scores(other, who), scores(noise, who)
        assert bad["fid"] > 10 * good["fid"]
        assert bad["kid_mean"] > 10 * good["kid_mean"]
        assert bad["recall"] == 0 < good["recall"]
        assert bad["coverage"] < good["coverage"]
        assert bad["fid_excess"] == bad["fid"] - bad["fid_floor"] > 10 * bad["fid_floor_sd"]
        assert abs(good["fid_excess"]) < bad["fid_excess"] / 10


def test_lite0_tells_noise_from_films(compare, films):
    real = films("real", 12)
    bad = compare(films("noise", 12, noise=True), real, extractor="lite0")["extractors"]["lite0"]
    assert bad["labels"]["fid"] == "FD-lite0"
    assert bad["classes"]["all"]["scores"]["fid_low"] > 0
    assert bad["classes"]["all"]["scores"]["kid_mean"] > 0.5


def test_films_and_the_features_kept_of_them_give_the_same_numbers(compare, films, tmp_path, cli):
    generated, real = films("generated", 17), films("real", 36, seed=1)
    kept = tmp_path / "kept"
    from_films = compare(generated, real, "--save-features", kept)
    files = kept / "generated-tiny.npz", kept / "reference-tiny.npz"
    assert sorted(kept.iterdir()) == sorted(files)
    pairs = [files, (files[0], real), (generated, files[1])]
    for one, other in pairs:
        for extractor in ("", "tiny", "auto"):
            again = compare(one, other, extractor=extractor)
            assert again["extractors"] == from_films["extractors"]
    assert "fid_floor" in scores(from_films)


def test_features_need_neither_the_extractor_nor_its_weights(compare, films, tmp_path, monkeypatch, capsys):
    kept = tmp_path / "kept"
    before = compare(films("generated", 17), films("real", 17, seed=1), "--save-features", kept)
    monkeypatch.delitem(EXTRACTORS._decorated, "tiny")
    after = compare(kept / "generated-tiny.npz", kept / "reference-tiny.npz", extractor="")
    assert after["extractors"] == before["extractors"]
    assert "FD-tiny" in capsys.readouterr().out


def test_an_extractor_of_another_place_is_called_by_its_own_name(compare, material, tmp_path, capsys):
    theirs = replace(load_features(material["kept"]), extractor="[/their net]")
    save_features(tmp_path / "theirs.npz", theirs)
    found = compare(tmp_path / "theirs.npz", tmp_path / "theirs.npz", extractor="")
    assert found["extractors"]["[/their net]"]["labels"]["fid"] == "FD-[/their net]"
    assert "FD-[/their net]" in capsys.readouterr().out


def test_a_feature_file_says_to_what_size_films_are_decoded(cli, films, tmp_path):
    generated, real, kept = films("generated", 17), films("real", 17, seed=1), tmp_path / "kept"
    usual = ["--extractors", "tiny", "--device", "cpu", "--resamples", "4", "--quiet", "--out", tmp_path / "o.json"]
    assert cli("compare", generated, real, *usual, "--size", "16", "--save-features", kept) == 0
    before = (tmp_path / "o.json").read_text()
    assert cli("compare", generated, kept / "reference-tiny.npz", *usual) == 0
    again = json.loads((tmp_path / "o.json").read_text())
    assert again["extractors"] == json.loads(before)["extractors"]
    assert again["extractors"]["tiny"]["generated"]["size"] == 16


def test_224_px_is_the_default_size_and_the_output_says_so(cli, films, capsys):
    real = films("real", 8)
    assert cli("compare", real, real, "--extractors", "tiny", "--device", "cpu", "--resamples", "4") == 0
    shown = capsys.readouterr().out
    assert "films decoded to 224 px (square), then no further; weights sha256 aaaa" in shown


def test_the_files_names_and_order_change_nothing(compare, films, draw_hospital, tmp_path, write_table):
    def patients(number):
        return {"patient_id": f"p{number // 2}"}

    rows = draw_hospital(tmp_path / "one", patients, patients=34)
    for number, row in enumerate(rows):
        (tmp_path / "one" / row["file"]).rename(tmp_path / "one" / f"{(number * 7) % 102:03d}.png")
        row["file"] = f"{(number * 7) % 102:03d}.png"
    write_table(tmp_path / "one", sorted(rows, key=lambda row: row["file"]))
    draw_hospital(tmp_path / "other", patients, patients=34)
    generated = films("generated", 16, seed=1)
    found = [compare(generated, tmp_path / name) for name in ("one", "other")]
    assert found[0]["extractors"] == found[1]["extractors"]
    assert "fid_floor" in scores(found[0])


def test_the_floor_keeps_patients_apart(compare, films, draw_hospital, tmp_path):
    draw_hospital(tmp_path / "real", lambda number: {"patient_id": f"p{number // 34}"}, patients=34)  # one per class
    found = compare(films("generated", 16, seed=1), tmp_path / "real")
    assert "no two halves" in found["extractors"]["tiny"]["classes"]["COVID"]["notes"][0]


def test_films_without_class_folders_are_one_class(compare, films, tmp_path):
    generated, real = films("generated", 17), films("real", 36, seed=1)
    loose = tmp_path / "loose"
    loose.mkdir()
    for number, path in enumerate(sorted(generated.rglob("*.png"))):
        shutil.copy(path, loose / f"{number}.png")
    (loose / "notes.txt").touch()
    found = compare(loose, real)["extractors"]["tiny"]
    assert list(found["classes"]) == ["all"]
    assert found["generated"]["classes"] == ["all"]
    assert found["classes"]["all"]["n"] == 34
    assert found["classes"]["all"]["scores"]["fid"] < 0.05


def test_one_class_folder_is_enough(compare, films):
    found = compare(films("generated", 17, classes=["Normal"]), films("real", 36, seed=1, classes=CLASSES))
    assert list(found["extractors"]["tiny"]["classes"]) == ["Normal", "all"]
    assert scores(found, "Normal") == scores(found)
    assert [note for note in found["notes"] if "'COVID' is not compared" in note]


def test_the_json_says_what_the_numbers_rest_on(compare, films):
    found = compare(films("generated", 17), films("real", 36, seed=1), "--seed", "3")
    assert (found["resamples"], found["seed"]) == (20, 3)
    assert [given.rsplit("/", 1)[1] for given in found["given"]] == ["generated", "real"]
    assert found["machine"]["versions"]["numpy"] == np.__version__
    tiny = found["extractors"]["tiny"]
    assert tiny["generated"] == {
        "films": 34,
        "dim": 8,
        "size": 32,
        "classes": ["COVID", "Normal"],
        "extractor": "tiny",
        "weights_sha256": "a" * 64,
        "resize": "no further",
        "films_hash": tiny["generated"]["films_hash"],
    }
    assert tiny["reference"]["films"] == 72
    assert {who: facts["n"] for who, facts in tiny["classes"].items()} == {"COVID": 17, "Normal": 17, "all": 34}
    covid = tiny["classes"]["COVID"]["scores"]
    for metric in ("fid", "kid_mean", "precision", "recall", "density", "coverage", "vendi"):
        assert covid[f"{metric}_low"] <= covid[metric] <= covid[f"{metric}_high"]
        assert covid[f"{metric}_excess"] == covid[metric] - covid[f"{metric}_floor"]
    assert covid["fid_infinity_low"] <= covid["fid_infinity"] <= covid["fid_infinity_high"]


def test_the_table_shows_values_floors_and_abstentions(cli, films, capsys):
    generated, real = films("generated", 12), films("real", 24, seed=1)
    usual = ["--extractors", "tiny", "--size", "32", "--device", "cpu", "--resamples", "4"]
    assert cli("compare", generated, real, *usual) == 0
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines()]
    assert ["COVID", "n", "=", "12", "of", "12", "and", "24"] in rows
    assert ["FD-tiny", "abstains", "below", "n", "=", "16"] in rows
    both = [row for row in rows if row[:1] == ["FD-tiny"]][-1]  # 24 films: value, low to high, floor, excess
    assert float(both[1]) - float(both[5]) == pytest.approx(float(both[6]), rel=0.1)
    assert cli("compare", generated, films("few", 12, seed=2), *usual) == 0
    assert "no floor: REFERENCE has fewer than 2 n films (12 of 24 'COVID')" in capsys.readouterr().out


def test_quiet_prints_nothing(cli, films, capsys):
    real = films("real", 8)
    assert cli("compare", real, real, "--extractors", "tiny", "--device", "cpu", "--resamples", "4", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_films_that_cannot_be_read_are_left_out_and_counted(compare, films, capsys):
    generated = films("generated", 17)
    for name in ("000.png", "001.png"):
        Image.fromarray(np.full((32, 32), 90, np.uint8)).save(generated / "COVID" / name)
    (generated / "Normal" / "torn.png").write_bytes(b"\x89PNG")
    found = compare(generated, films("real", 17, seed=1))
    assert "GENERATED: 3 of 35 films cannot be read and are left out" in found["notes"][0]
    assert found["extractors"]["tiny"]["classes"]["COVID"]["n"] == 15
    assert found["extractors"]["tiny"]["generated"]["films"] == 32
    assert f"note: {found['notes'][0]}" in capsys.readouterr().out


def test_one_film_in_a_class_abstains_there_and_says_so(compare, films):
    generated = films("generated", 17)
    for path in sorted((generated / "COVID").iterdir())[1:]:
        path.unlink()
    found = compare(generated, films("real", 36, seed=1))["extractors"]["tiny"]["classes"]
    assert (found["COVID"]["n"], found["COVID"]["scores"], found["COVID"]["abstained"]["kid_mean"]) == (1, {}, 8)
    assert found["all"]["n"] == 18
    assert "fid" in found["all"]["scores"]


def test_equal_features_of_all_films_are_warned_of(compare, films):
    found = compare(films("generated", 17), films("real", 17, seed=1), extractor="constant")
    assert "constant: GENERATED: the features of all 34 films are equal, as of one film over and over" in found["notes"]
    assert scores(found, extractor="constant")["fid"] == 0


def test_an_extractor_without_weights_is_left_out_with_a_note(compare, films, cli, capsys):
    real = films("real", 8)
    found = compare(real, real, extractor="absent,tiny")
    assert list(found["extractors"]) == ["tiny"]
    assert found["notes"][0] == "FD-absent is left out: its weights are nowhere"
    assert cli("compare", real, real, "--extractors", "absent", "--device", "cpu") == 2
    assert "no feature extractor can be used" in capsys.readouterr().err
