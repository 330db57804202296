"""Kermany's paediatric films: split and class from the folder, patient and kind from the file name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.datasets.kermany import Kermany, parse_name
from cxrbench.errors import DataError, UsageError

NUMBER = st.integers(1, 99999)


def facts(root, **options):
    return [(f.file, f.label, f.split, f.patient_id) for f in Kermany(str(root), **options).listing().films]


def test_class_official_split_and_patient_are_read(tree):
    found = facts(tree("kermany"))
    assert len(found) == 12
    assert found[0] == ("train/NORMAL/IM-0115-0001.jpeg", 0, "train", "IM-0115")
    assert ("train/NORMAL/NORMAL2-IM-1427-0001.jpeg", 0, "train", "NORMAL2-IM-1427") in found
    assert ("train/PNEUMONIA/person1_bacteria_2.jpeg", 1, "train", "person1_bacteria") in found
    assert ("val/PNEUMONIA/person1946_bacteria_4874.jpeg", 1, "val", "person1946_bacteria") in found
    assert ("test/PNEUMONIA/person1_virus_6.jpeg", 1, "test", "person1_virus") in found


def test_no_patient_stands_in_two_parts_though_the_numbers_do(tree):
    patients = {part: {p for _, _, split, p in facts(tree("kermany")) if split == part} for part in ("train", "test")}
    assert not patients["train"] & patients["test"]


def test_two_films_of_one_patient_share_an_id(tree):
    patients = [patient for _, _, _, patient in facts(tree("kermany"))]
    assert patients.count("person1_bacteria") == 2


def test_the_kind_of_pneumonia_can_be_the_class(tree):
    found = {file: label for file, label, _, _ in facts(tree("kermany"), labels="NORMAL,bacteria,virus")}
    assert found["train/PNEUMONIA/person1_bacteria_1.jpeg"] == 1
    assert found["test/PNEUMONIA/person1_virus_6.jpeg"] == 2
    assert found["test/NORMAL/IM-0001-0001.jpeg"] == 0


def test_classes_that_overlap_leave_films_out(tree, write_film):
    root = tree("kermany")
    write_film(root / "train" / "PNEUMONIA" / "unnamed.jpeg", 200)
    listing = Kermany(str(root), labels="NORMAL,bacteria,virus").listing()
    assert listing.left_out == {"labelled with none of the classes NORMAL, bacteria, virus": 1}
    listing = Kermany(str(root), labels="NORMAL,PNEUMONIA,virus")
    with pytest.raises(DataError, match=r"class 'virus' in .* has no image"):
        listing.listing()


def test_a_name_that_says_nothing_has_no_patient(tree, write_film):
    root = tree("kermany")
    write_film(root / "train" / "PNEUMONIA" / "unnamed.jpeg", 200)
    assert ("train/PNEUMONIA/unnamed.jpeg", 1, "train", None) in facts(root)


def test_junk_of_macos_and_the_second_copy_are_ignored(tree, write_film):
    root = tree("kermany")
    plain = facts(root)
    for folder in ("__MACOSX/chest_xray/train/NORMAL", "train/NORMAL"):
        write_film(root / folder / "IM-0999-0001.jpeg", 9)
        (root / folder / "IM-0999-0001.jpeg").rename(root / folder / "._IM-0115-0001.jpeg")
    (root / "train" / ".DS_Store").write_bytes(b"junk")
    write_film(root / "chest_xray" / "train" / "NORMAL" / "IM-0777-0001.jpeg", 3)
    (root / "chest_xray" / "train" / "PNEUMONIA").mkdir()
    assert facts(root) == plain


@pytest.mark.parametrize("inside", ["chest_xray", "chest_xray/chest_xray"])
def test_the_films_may_lie_deeper(tree, tmp_path, inside):
    plain = tree("kermany")
    outer = tmp_path / "archive"
    (outer / inside).parent.mkdir(parents=True)
    plain.rename(outer / inside)
    assert Kermany.recognises(outer)
    assert facts(outer)[0] == (f"{inside}/train/NORMAL/IM-0115-0001.jpeg", 0, "train", "IM-0115")


def test_a_tree_without_its_folders_is_a_data_error(tmp_path):
    (tmp_path / "films").mkdir()
    with pytest.raises(DataError, match="has no train/NORMAL and train/PNEUMONIA"):
        Kermany(str(tmp_path / "films")).listing()
    with pytest.raises(UsageError, match="'normal' is no label of this data set; it has NORMAL, PNEUMONIA, bacteria"):
        Kermany(str(tmp_path / "films"), labels="normal,virus").listing()


@given(number=NUMBER, film=NUMBER, kind=st.sampled_from(["bacteria", "virus"]))
def test_names_of_sick_children_are_parsed(number, film, kind):
    assert parse_name(f"person{number}_{kind}_{film}") == (f"person{number}_{kind}", kind)


@given(number=st.integers(1, 9999), films=st.lists(st.integers(1, 99), min_size=1, max_size=3), second=st.booleans())
def test_names_of_normal_films_are_parsed(number, films, second):
    patient = f"{'NORMAL2-' if second else ''}IM-{number:04d}"
    assert parse_name("-".join([patient, *(f"{film:04d}" for film in films)])) == (patient, None)


@given(st.text(max_size=30))
def test_any_name_is_parsed_or_refused(stem):
    patient, kind = parse_name(stem)
    assert (patient is not None) or (kind is None)
    assert patient is None or stem.lower().startswith(patient.lower())


@pytest.mark.parametrize(
    ("stem", "parsed"),
    [
        ("VIRUS-1008087-0001", ("1008087", "virus")),
        ("BACTERIA-1008087-0002", ("1008087", "bacteria")),
        ("NORMAL-1003233-0001", ("1003233", None)),
    ],
)
def test_names_of_the_other_version_of_the_set(stem, parsed):
    assert parse_name(stem) == parsed
