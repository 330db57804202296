"""The catalogue of `cxrbench data`: what it names, and how it is shown."""

import subprocess
import sys

import pytest

from cxrbench.fetch.catalogue import catalogue, size_text
from cxrbench.registry import DATASETS

ADAPTERS = {"radiography", "covid-chestxray", "vinbigdata", "kermany", "covidx", "chestxray14", "medmnist"}

pytestmark = pytest.mark.usefixtures("empty_folder")


def test_every_entry_is_complete_and_has_an_adapter():
    assert {source.adapter for source in catalogue().values()} == ADAPTERS
    assert set(DATASETS.names()) >= ADAPTERS
    for source in catalogue().values():
        assert source.files or source.kaggle
        for remote in source.files:
            assert remote.url.startswith("https://")
            assert not remote.allow_http
            assert remote.filename.endswith((".zip", ".npz"))
        if source.kaggle:
            assert source.homepage.endswith(source.kaggle)
            assert "/" in source.kaggle or source.terms, "a competition has rules to accept"
    assert {"covid19-radiography", "kermany", "chestxray14", "pneumoniamnist-28", "chestmnist-224"} <= set(catalogue())


def test_sizes_for_people():
    assert [size_text(n) for n in (0, 999, 1000, 20_600_000, 1_235_512_464, 206 * 10**9)] == [
        "0 B", "999 B", "1 kB", "20.6 MB", "1.24 GB", "206 GB",
    ]  # fmt: skip


def test_list_and_info_name_what_matters(capsys, cli):
    assert cli("list") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in catalogue())
    assert cli("info", "kermany") == 0
    shown = capsys.readouterr().out
    for wanted in (
        "CC-BY-4.0",
        "10.17632/rscbjbr9sj.2",
        "sha256:13efc055",
        "1.24 GB",
        "data/kermany",
        "read by:  kermany",
    ):
        assert wanted in shown
    assert cli("info", "covid-chestxray") == 0
    assert "the first fetch records it" in capsys.readouterr().out
    assert cli("info", "vinbigdata", "--to", "elsewhere") == 0
    shown = capsys.readouterr().out
    assert "accept its rules" in shown
    assert "elsewhere" in shown


@pytest.mark.parametrize("command", ["info", "fetch"])
def test_an_unknown_name_gets_the_nearest(capsys, command, cli):
    assert cli(command, "kermani") == 2
    assert "did you mean kermany" in capsys.readouterr().err
    assert cli(command, "zzz") == 2
    assert "cxrbench data list" in capsys.readouterr().err


def test_the_catalogue_costs_neither_numpy_nor_torch_nor_kagglehub():
    code = "import sys; sys.argv = ['cxrbench', 'data', 'list']\nfrom cxrbench.cli import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n"
    code += "    print([name for name in ('torch', 'numpy', 'kagglehub') if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip().endswith("[]")
