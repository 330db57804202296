"""The command line: what it says of bad input, and the commands that run nothing."""

import pytest
from PIL import Image

from cxrbench.datasets.phantom import Phantom

SMOKE = ["--tier", "smoke", "--device", "cpu"]


BAD_INPUT = [
    (["--generators", "cgn"], 2, "did you mean cgan"),
    (["--generators", "cgan:widht=3"], 2, "no parameter 'widht'"),
    (["--generators", "cgan:width=big"], 2, "width='big'"),
    (["--classifiers", "small-cn"], 2, "did you mean small-cnn"),
    (["--classifiers", "alexnet"], 2, "at least 64 px"),
    (["--tier", "qick"], 2, "did you mean quick"),
    (["--ratios", "-1"], 2, "at least 0"),
    (["--ratios", "nan"], 2, "finite"),
    (["--ratios", "abc"], 2, "'abc' is no number"),
    (["--seeds", "0"], 2, "at least one repetition"),
    (["--seeds", "two"], 2, "valid integer"),
    (["--sedes", "2"], 2, "No such option"),
    (["--device", "tpu"], 2, "unknown device"),
    (["--data", "/nowhere/films"], 2, "does not exist"),
    (["--data", "phantm"], 2, "did you mean phantom"),
    (["--data", "phantom:shortcut=2"], 2, "shortcut must lie in"),
    (["--data", "phantom:patients_per_class=2"], 4, "split needs at least 5"),
    (["--split-by", "hospital"], 2, "unknown --split-by 'hospital'; there are auto, patient, source, official"),
    (["--split-by", "official"], 4, "no film is named as an official train film"),
    (["--labels", "COVID"], 2, "'COVID' is no OLD=NEW"),
    (["--labels", "Covid=x"], 2, "no class 'Covid'; there are 'COVID', 'Normal', 'Viral Pneumonia'"),
    (["--labels", "COVID=-,Normal=-"], 4, "only the class 'Viral Pneumonia'"),
    (["--external", "/nowhere/films"], 2, "does not exist"),
    (["--external", "phantom:patients_per_class=8"], 4, "identical files"),
    (["--external", "phantom", "--labels", "COVID=-,Normal=x,Viral Pneumonia=x"], 4, "only the class 'x'"),
    (["--pretrained", "/nowhere.pth"], 2, "no parameter 'pretrained'"),
    (["--classifiers", "resnet18", "--pretrained", "/nowhere.pth"], 2, "does not exist"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD_INPUT, ids=[" ".join(b[0]) for b in BAD_INPUT])
def test_bad_input_ends_in_one_clear_line(cli, tmp_path, capsys, monkeypatch, arguments, code, message):
    monkeypatch.setattr("cxrbench.runner.slow_precision_note", lambda device: "this CPU is slow")  # nothing is trained
    base = ["--tier", "smoke", "--device", "cpu", "--generators", "classical", "--data", "phantom:patients_per_class=8"]
    assert cli("run", "--results", tmp_path / "r", *base, *arguments) == code
    complaint = capsys.readouterr().err
    assert message in complaint
    assert "Traceback" not in complaint
    assert len(complaint.strip().splitlines()) == 1
    assert not list((tmp_path / "r").rglob("records/*.json"))


def write_films(root, films=14):
    phantom = Phantom(patients_per_class=films, max_films=1)
    for film in phantom.listing().films:
        folder = root / film.file.split("/")[0] / "images"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantom.read(film, 48)).save(folder / f"{film.file.split('/')[1]}.png")
    return root


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        (lambda root: [p.unlink() for p in (root / "Normal" / "images").iterdir()], 4, "class 'Normal'"),
        (lambda root: [(root / n / "images").rename(root / n / "x") for n in ("Normal", "COVID")], 4, "two classes"),
        (lambda root: (root / "metadata.csv").write_bytes(b"file\n\xff\xfe"), 4, "not UTF-8"),
    ],
)
def test_data_that_cannot_be_benchmarked_end_with_exit_4(cli, tmp_path, capsys, spoil, code, message):
    data = write_films(tmp_path / "d")
    spoil(data)
    assert cli("run", "--data", data, *SMOKE, "--results", tmp_path / "r") == code
    assert message in capsys.readouterr().err


def test_results_that_cannot_be_written_are_a_usage_error(cli, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert cli("run", *SMOKE, "--results", tmp_path / "file" / "results") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_list_shows_a_broken_plugin_as_a_row_not_a_crash(cli, monkeypatch, capsys):
    from importlib.metadata import EntryPoint

    import cxrbench.registry

    real = cxrbench.registry.entry_points
    broken = EntryPoint("broken-gan", "no_such_module:GAN", "cxrbench.generators")
    monkeypatch.setattr(
        cxrbench.registry,
        "entry_points",
        lambda group: [*real(group=group), *([broken] if group == "cxrbench.generators" else [])],
    )
    monkeypatch.setenv("COLUMNS", "200")
    assert cli("list") == 0
    shown = capsys.readouterr().out
    assert "broken-gan" in shown
    assert "cannot be imported" in shown
    assert "cgan-seed" in shown


def test_info_explains_a_plugin_and_suggests_near_names(cli, capsys):
    assert cli("info", "dcgan") == 0
    shown = capsys.readouterr().out
    assert "Radford" in shown
    assert "latent = 100" in shown
    assert cli("info", "dcgn") == 2
    assert "did you mean" in capsys.readouterr().err


def test_plan_shows_what_is_done_and_runs_nothing(cli, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    small = ["--data", "phantom:patients_per_class=8", *SMOKE, "--generators", "classical"]
    assert cli("plan", *small, "--results", tmp_path / "r") == 0
    assert "29 trials, 0 done, 29 to run" in capsys.readouterr().out
    assert not list((tmp_path / "r").rglob("*.json"))
