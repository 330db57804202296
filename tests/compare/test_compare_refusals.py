"""What ``cxrbench compare`` refuses: in one clear line, before anything is written."""

import pytest

USUAL = ["--extractors", "tiny", "--size", "32"]
REFUSED = [
    ("nowhere", "real", USUAL, 2, "GENERATED: data path"),
    ("generated", "nowhere", USUAL, 2, "REFERENCE: data path"),
    ("gone", "real", USUAL, 2, "does not exist"),
    ("empty", "real", USUAL, 4, "holds no film and no class folder with films"),
    ("mixed", "real", USUAL, 4, "holds loose films and a folder of films; name the folder that is meant"),
    ("generated", "blank", USUAL, 4, "16 of 16 films cannot be read"),
    ("pickled", "real", USUAL, 4, "never opened"),
    ("real", "torn", USUAL, 4, "REFERENCE:"),
    ("others", "kept", USUAL, 4, "no class in common"),
    ("generated", "real", ["--extractors", "tinny"], 2, "did you mean tiny"),
    ("generated", "real", ["--extractors", ","], 2, "no extractor given"),
    ("generated", "real", ["--extractors", "broken", "--size", "32"], 4, "GENERATED: broken returned features"),
    ("generated", "real", [*USUAL, "--size", "8"], 2, "use 0 or 16 to 2048 pixels"),
    ("generated", "real", [*USUAL, "--size", "-1"], 2, "use 0 or 16 to 2048 pixels"),
    ("generated", "real", [*USUAL, "--resamples", "1"], 2, "needs at least 2"),
    ("generated", "real", [*USUAL, "--seed", "-1"], 2, "must not be negative"),
    ("generated", "real", [*USUAL, "--device", "tpu"], 2, "unknown device"),
    ("generated", "real", [*USUAL, "--weights", "/nowhere.pth"], 2, "there is no such file or folder"),
    ("generated", "kept", ["--extractors", "constant"], 2, "the .npz is of tiny; leave the option out"),
    ("generated", "kept", ["--extractors", "constant,tiny"], 2, "the .npz is of tiny"),
    ("generated", "kept", ["--size", "64"], 2, "the .npz is of films of 32 px"),
    ("generated", "other weights", [], 2, "tiny has two different weights"),
    ("kept", "other weights", [], 2, "sha256 of the weights differs"),
    ("kept", "other extractor", [], 2, "extractor differs, tiny and constant"),
    ("kept", "other size", [], 2, "film size differs, 32 and 64"),
    ("other extractor", "generated", ["--extractors", "tiny"], 2, "the .npz is of constant"),
]


@pytest.mark.parametrize(
    ("generated", "reference", "options", "code", "message"),
    REFUSED,
    ids=[" ".join([a, b, *c]) for a, b, c, *_ in REFUSED],
)
def test_what_cannot_be_compared_ends_in_one_clear_line_and_nothing_is_written(
    cli, material, tmp_path, capsys, generated, reference, options, code, message
):
    given = material[generated], material[reference]
    out, kept = tmp_path / "result.json", tmp_path / "features"
    assert cli("compare", *given, "--device", "cpu", "--out", out, "--save-features", kept, *options) == code
    complaint = capsys.readouterr()
    assert message in complaint.err
    assert len(complaint.err.strip().splitlines()) == 1
    assert complaint.out == ""
    assert not out.exists()
    assert not kept.exists()


def test_outputs_that_cannot_be_written_are_refused_before_any_work(cli, films, tmp_path, capsys, monkeypatch, Tiny):
    real = films("real", 8)
    monkeypatch.setattr(Tiny, "extract", lambda *args: pytest.fail("worked"))
    (tmp_path / "file").touch()
    usual = ["compare", real, real, "--extractors", "tiny", "--device", "cpu"]
    for options, message in (
        (["--out", tmp_path], "is a folder"),
        (["--out", real], "is a folder"),
        (["--out", tmp_path / "file" / "o.json"], "is no folder that can be written to"),
        (["--save-features", tmp_path / "file"], "is no folder that can be written to"),
    ):
        assert cli(*usual, *options) == 2
        assert message in capsys.readouterr().err
    assert cli("compare", "a.npz", "b.npz", "--out", "a.npz") == 2
    assert "is what is to be read" in capsys.readouterr().err
