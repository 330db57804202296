"""Tables of fidelity and memorization as they are shown: distances beside their floors, abstentions said."""

from cxrbench.report.film_views import agreement_view, audit_view, copies_view, fidelity_view
from cxrbench.report.formats import MISSING


def cells(table):
    return [str(cell) for row in table.itertuples(index=False) for cell in row]


def fidelity_of(results, who="all"):
    analysis = results.analysis()
    return fidelity_view(analysis.fidelity, "lite0", analysis.section.extractors["lite0"], who)


def test_a_distance_is_shown_as_its_excess_beside_value_and_floor(results):
    results.fidelity(None, {"fid": 11.0, "fid_floor": 10.0, "fid_floor_sd": 0.5})
    results.fidelity("cgan", {"fid": 60.0, "fid_low": 58.0, "fid_high": 62.0})
    shown = fidelity_of(results).set_index("generator").loc["cgan"]
    assert shown["FD-lite0, excess over floor"] == "+50.0"
    assert shown["FD-lite0 (95 % interval)"] == "60.0 (58.0 to 62.0)"
    assert shown["floor"] == "10.0 ± 0.5"


def test_the_lowest_distance_comes_first(results):
    for name, distance in (("cgan", 60.0), ("noise", 900.0), ("copy", 5.0)):
        results.fidelity(name, {"fid": distance})
    assert list(fidelity_of(results)["generator"]) == ["copy", "cgan", "noise"]


def test_other_measures_have_their_floor_in_brackets(results):
    results.fidelity(None, {"recall": 0.9, "recall_floor": 0.91, "fid": 1.0})
    results.fidelity("cgan", {"recall": 0.4, "vendi": 12.3, "fid": 1.0})
    shown = fidelity_of(results).set_index("generator").loc["cgan"]
    assert (shown["recall"], shown["Vendi"]) == ("0.40 (0.91)", "12.3")


def test_too_few_films_are_said_and_not_passed_over(results):
    results.fidelity("cgan", {"label_agreement": 0.9}, n=6)
    (shown,) = fidelity_of(results).to_dict("records")
    assert shown["FD-lite0"] == shown["KID-lite0 x 1000"] == "too few films"
    assert shown["label agreement"] == "0.90"
    assert "nan" not in cells(fidelity_of(results))


def test_a_class_has_a_table_of_its_own_whatever_it_is_called(results):
    results.classes = ("COVID/ARDS", "Normal")
    results.fidelity("cgan", {"fid": 5.0, "COVID/ARDS/fid": 7.0})
    (shown,) = fidelity_of(results, "COVID/ARDS").to_dict("records")
    assert shown["FD-lite0 (95 % interval)"] == "7.0"
    assert fidelity_of(results, "Normal").empty


def test_copies_are_shown_beside_what_is_expected(results):
    results.memorization("cgan", 0.123, 0.3)
    (shown,) = copies_view(results.analysis().copies).to_dict("records")
    assert shown["near-copies"] == "12.3%"
    assert (shown["copies of held-out films"], shown["expected"], shown["flag"]) == ("30.0%", "2.0%", "LEAK")
    assert shown["AuthPct (real films)"] == "70 (69)"


def test_films_made_from_parts_are_shown_and_flagged(results):
    record = results.memorization("quilt", 0.01)
    results.store.replace(record.model_copy(update={"scores": record.scores | {"all/copied_parts": 0.88}}))
    results.memorization("cgan", 0.5)
    rows = copies_view(results.analysis().copies).to_dict("records")
    assert [(row["generator"], row["made from parts"], row["flag"]) for row in rows] == [
        ("quilt", "88.0%", "copied parts"),
        ("cgan", MISSING, "copies"),
    ]


def test_copies_that_could_not_be_called_are_said(results):
    results.memorization("cgan", None)
    (shown,) = copies_view(results.analysis().copies).to_dict("records")
    assert shown["near-copies"] == "too few held-out films"


def test_copies_that_could_be_called_of_one_generator_only_are_said(results):
    results.memorization("cgan", None)
    results.memorization("copy", 1.0)
    analysis = results.analysis()
    shown = copies_view(analysis.copies).set_index("generator")["near-copies"]
    assert dict(shown) == {"cgan": "too few held-out films", "copy": "100.0%"}
    assert analysis.validity.status == "PARTLY VALIDATED"


def test_a_copy_control_that_could_not_be_called_is_not_broken(results):
    results.memorization("cgan", 0.01)
    results.memorization("copy", None)
    assert results.analysis().validity.status == "NOT VALIDATED"


def test_only_inception_distances_are_called_fid(results):
    results.runs(0.70, seeds=2)
    for i, name in enumerate(("cgan", "dcgan", "flow", "vae")):
        results.runs(0.60 + 0.05 * i, name, seeds=2)
        results.fidelity(name, {"fid": 50.0 - i, "recall": 0.1 * i}, extractors=("lite0", "inception"))
    analysis = results.analysis()
    shown = audit_view(analysis.metric_audit, analysis.section.extractors)
    assert set(shown["measure"]) == {"FD-lite0", "FID", "recall (lite0)", "recall (inception)"}
    assert "FID" not in " ".join(cells(fidelity_of(results))) + " ".join(fidelity_of(results).columns)


def test_an_agreement_of_tied_ranks_is_said(results):
    for name in ("cgan", "dcgan"):
        results.fidelity(name, {"fid": 7.0}, extractors=("lite0", "inception"))
    assert list(agreement_view(results.analysis().agreement)["Kendall's tau"]) == ["ranks are tied"]
