"""What is said of generators that return films they know, or must not know."""

import pytest

from cxrbench.report.copies import LEAK, by_class, copy_findings, flag_meaning, memorization_table, parts_meaning


def finding_of(results):
    (row,) = copy_findings(memorization_table(results.section())).to_dict("records")
    return row


def told_of(results):
    return flag_meaning(finding_of(results), by_class(memorization_table(results.section())))


def test_every_class_split_and_seed_has_a_row(results):
    results.memorization("cgan", seed=1, split=1)
    table = memorization_table(results.section())
    assert table[["generator", "class", "split", "seed", "n"]].to_dict("records") == [
        {"generator": "cgan", "class": "all", "split": 1, "seed": 1, "n": 100}
    ]


def test_findings_are_means_over_seeds_and_the_p_value_is_the_largest(results):
    for seed, (share, p) in enumerate(((0.02, 0.001), (0.04, 0.4))):
        record = results.memorization("cgan", share, seed=seed)
        results.store.replace(record.model_copy(update={"scores": record.scores | {"all/nn_p": p}}))
    row = finding_of(results)
    assert row["copies"] == pytest.approx(0.03)
    assert row["nn_p"] == 0.4
    assert (row["n"], row["seeds"]) == (200, 2)


@pytest.mark.parametrize(
    ("copies", "held_out", "flag"),
    [(0.01, 0.02, ""), (0.05, 0.07, ""), (0.07, 0.02, "copies"), (0.01, 0.08, LEAK), (0.5, 0.08, LEAK)],
)
def test_a_flag_is_raised_only_above_what_chance_does(results, copies, held_out, flag):
    results.memorization("cgan", copies, held_out)  # expected of the latter: 0.02
    assert finding_of(results)["flag"] == flag


def test_too_few_held_out_films_call_nothing_a_copy(results):
    results.memorization("cgan", copies=None)
    row = finding_of(results)
    assert "copies" not in row
    assert row["flag"] == ""


def test_a_leak_is_told_with_both_shares(results):
    results.memorization("cgan", held_out_copies=0.3)
    told = told_of(results)
    assert "`cgan` returns validation or test films: 30% of its films" in told
    assert "of the training films 2% are" in told
    assert told.endswith("disqualified")


def test_copies_of_training_films_are_told(results):
    results.memorization("cgan", 0.4)
    assert "`cgan` returns near-copies of training films: 40% of its films" in told_of(results)


def with_parts(results, share, copies=0.01):
    record = results.memorization("quilt", copies)
    results.store.replace(record.model_copy(update={"scores": record.scores | {"all/copied_parts": share}}))


@pytest.mark.parametrize(("share", "where"), [(0.02, ""), (0.3, ""), (0.4, "all"), (0.9, "all")])
def test_films_made_from_parts_are_flagged(results, share, where):
    with_parts(results, share)
    assert finding_of(results)["parts_class"] == where


def test_films_made_from_parts_are_told(results):
    with_parts(results, 0.9)
    told = parts_meaning(finding_of(results), by_class(memorization_table(results.section())))
    assert "`quilt` makes films from parts of training films: 90% of its films" in told


def test_near_copies_of_all_films_need_no_word_on_their_parts(results):
    with_parts(results, 1.0, copies=0.4)
    row = finding_of(results)
    assert (row["flag"], row["parts_class"]) == ("copies", "")


def test_near_copies_of_a_rare_class_do_not_hide_that_films_are_made_from_parts(results):
    with_parts(results, 0.9)
    (record,) = results.store
    of_rare = {"rare/copies": 0.5, "rare/copies_limit": 0.2, "rare/copied_parts": 0.9}
    of_rare |= {"rare/held_out_copies": 0.0, "rare/held_out_copies_expected": 0.0, "rare/authpct": 50.0}
    scores, counts = record.scores | of_rare, {**record.counts, "n/rare": 10}
    results.store.replace(record.model_copy(update={"scores": scores, "counts": counts}))
    row = finding_of(results)
    assert (row["flag"], row["flag_class"], row["parts_class"]) == ("copies", "rare", "all")


def test_records_from_before_parts_were_measured_say_nothing_of_them(results):
    with_parts(results, 0.9)
    results.memorization("cgan", 0.01)
    rows = copy_findings(memorization_table(results.section())).to_dict("records")
    assert {row["generator"]: row["parts_class"] for row in rows} == {"quilt": "all", "cgan": ""}


def test_a_section_without_memorization_has_no_findings(results):
    results.run(0.7)
    assert copy_findings(memorization_table(results.section())).empty


def rare(**scores):
    """A pool of 100 films, 10 of them of a rare class with scores of its own."""
    from cxrbench.records import Record

    def of(record: Record) -> Record:
        found = {f"rare/{name}": value for name, value in scores.items()}
        return record.model_copy(
            update={"scores": {**record.scores, **found}, "counts": {**record.counts, "n/rare": 10}}
        )

    return of


@pytest.mark.parametrize(
    ("scores", "flag", "of"),
    [
        ({"copies": 0.6, "copies_limit": 0.05}, "copies", "rare"),
        ({"copies": 0.09, "copies_limit": 0.05}, "", ""),
        ({"copies": 0.0, "held_out_copies": 0.6}, "LEAK", "rare"),
        ({"copies": 0.0, "held_out_copies": 0.2}, "", ""),  # two films may be chance
    ],
)
def test_a_rare_class_is_flagged_although_it_hardly_counts_among_all(results, scores, flag, of):
    record = results.memorization("cgan")
    common = {"held_out_copies": 0.0, "held_out_copies_expected": 0.0, **scores}
    results.store.put(rare(**common)(record), {}, {}, publish=True)
    row = finding_of(results)
    assert (row["flag"], row["flag_class"]) == (flag, of)
    if flag:
        assert "of its films of class rare" in told_of(results)
