"""Flags: wrong labels are told from labels that nobody can see, and from extractors that see no classes."""

import pandas as pd
import pytest

from cxrbench.report.fidelity import HELD_OUT
from cxrbench.report.flags import find_flags, flag_sentences, label_flag


@pytest.mark.parametrize(
    ("agreement", "real", "classes", "flag"),
    [
        (0.8, 0.8, 3, ""),
        (0.6, 0.8, 3, ""),
        (0.34, 0.8, 3, "classes hardly told apart"),
        (0.10, 0.8, 3, "wrong labels"),  # (1 - 0.8) / 2: the labels of the two other classes
        (0.2, 0.8, 2, "wrong labels"),
        (0.5, 0.8, 2, "classes hardly told apart"),
        (0.0, 0.4, 3, ""),  # this extractor sees no classes in real films either
        (0.0, 1.0, 1, ""),
    ],
)
def test_what_label_agreement_says(agreement, real, classes, flag):
    assert label_flag(agreement, real, classes) == flag


def fidelity(**agreements):
    rows = [
        {"extractor": "lite0", "class": "all", "generator": name.replace("_", " "), "control": None, "metric": metric}
        | {"value": value}
        for name, values in agreements.items()
        for metric, value in zip(("label_agreement", "fid"), values, strict=True)
    ]
    table = pd.DataFrame(rows).replace({"generator": {"held out": HELD_OUT}})
    table.loc[table["generator"] == "noise", "control"] = "noise"
    return table


def test_flags_of_all_kinds_are_gathered_by_generator():
    table = fidelity(held_out=(0.8, 10.0), noise=(0.33, 100.0), gan=(0.1, 120.0), good=(0.8, 12.0))
    copies = pd.DataFrame(
        [
            {"generator": "good", "flag": "copies", "parts_class": "all"},
            {"generator": "gan", "flag": "", "parts_class": ""},
        ]
    )
    flags = find_flags(table, copies, 3)
    assert flags["gan"] == ["farther off than noise", "wrong labels"]
    assert flags["good"] == ["copies", "copied parts"]
    assert flags["noise"] == ["classes hardly told apart"]


def test_sentences_are_about_the_generators_asked_for_and_not_about_copies():
    flags = {"gan": ["copies", "wrong labels"], "noise": ["classes hardly told apart"]}
    (sentence,) = flag_sentences(flags, ["gan", "good"])
    assert sentence.startswith("`gan`: most of its films look like another class")


def test_nothing_measured_is_no_flag():
    assert find_flags(pd.DataFrame(), pd.DataFrame(), 3) == {}
