"""Small trees in the true layout of every data set, and single files, written by the tests themselves."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid


def save_film(path, grey=100):
    """A 12x12 film whose grey level tells it from the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((12, 12), grey, np.uint8)
    pixels[:6, :6] = 0
    Image.fromarray(pixels).save(path)


def save_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def save_dicom(path, pixels, stored=None, syntax=ExplicitVRLittleEndian, **tags):
    """A DICOM file of ``pixels``; ``stored`` is the number of bits, ``tags`` add to or change the header (None
    removes). Returns the data set."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = generate_uid()
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = stored or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    ds.PixelData = pixels.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return ds


def save_xlsx(path, rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def radiography(root):
    for number, name in enumerate(("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")):
        for i in (1, 2):
            save_film(root / name / "images" / f"{name}-{i}.png", 40 * number + 10 * i + 20)
            save_film(root / name / "masks" / f"{name}-{i}.png", 255)
    save_xlsx(
        root / "Normal.metadata.xlsx",
        [
            ("FILE NAME", "FORMAT", "SIZE", "URL"),
            ("NORMAL-1", "PNG", "256*256", "https://www.kaggle.com/c/rsna-pneumonia-detection-challenge/data"),
            ("NORMAL-2", "PNG", "256*256", "https://www.kaggle.com/paultimothymooney/chest-xray-pneumonia"),
            ("NORMAL-3", "PNG", "256*256", "https://example.org/not-there"),
        ],
    )
    save_text(root / "README.md.txt", "notes")
    return root


COVID_HEADER = (
    "patientid,offset,sex,age,finding,RT_PCR_positive,survival,intubated,intubation_present,went_icu,in_icu,"
    "needed_supplemental_O2,extubated,temperature,pO2_saturation,leukocyte_count,neutrophil_count,lymphocyte_count,"
    "view,modality,date,location,folder,filename,doi,url,license,clinical_notes,other_notes,"
)


def covid_row(patient, finding, view, modality, file, folder="images", location="", url="", sex="", age=""):
    facts = f"{patient},0,{sex},{age},{finding},Y,,,,,,,,,,,,,{view},{modality},2020"
    return f'{facts},"{location}",{folder},{file},,{url},CC BY,"a note, with a comma",,'


def covid_chestxray(root):
    rows = [
        covid_row(2, "Pneumonia/Viral/COVID-19", "PA", "X-ray", "a.jpg", location="Hanoi, Vietnam", sex="M", age="65"),
        covid_row(2, "Pneumonia/Viral/COVID-19", "AP Supine", "X-ray", "b.png", url="https://www.nejm.org/doi/1"),
        covid_row(2, "Pneumonia/Viral/COVID-19", "L", "X-ray", "lateral.png"),
        covid_row("3a", "Pneumonia/Bacterial/Streptococcus", "AP", "X-ray", "c.png"),
        covid_row(4, "Pneumonia/Bacterial", "AP semi erect", "X-ray", "d.png"),
        covid_row(4, "Pneumonia/Bacterial", "AP erect", "X-ray", "gone.png"),
        covid_row(5, "todo", "PA", "X-ray", "e.png"),
        covid_row(6, "Pneumonia/Viral/COVID-19", "Axial", "CT", "v.nii.gz", folder="volumes"),
        covid_row(6, "Pneumonia/Viral/COVID-19", "Coronal", "CT", "w.nii.gz", folder="volumes"),
        covid_row(7, "Pneumonia", "AP", "X-ray", "f.png"),
    ]
    save_text(root / "metadata.csv", "\n".join([COVID_HEADER, *rows]) + "\n")
    for number, name in enumerate(("a.jpg", "b.png", "c.png", "d.png", "e.png", "f.png", "lateral.png")):
        save_film(root / "images" / name, 50 + number)
    return root


VINBIG_ROWS = """\
image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max
n1,No finding,14,R1,,,,
n1,No finding,14,R2,,,,
n1,Cardiomegaly,3,R3,1,2,3,4
o1,Lung Opacity,7,R1,1,2,3,4
o1,Lung Opacity,7,R1,5,6,7,8
o1,Lung Opacity,7,R2,1,2,3,4
o1,Consolidation,4,R2,1,2,3,4
o1,No finding,14,R3,,,,
one,Lung Opacity,7,R9,1,2,3,4
split,Lung Opacity,7,R1,1,2,3,4
split,Cardiomegaly,3,R2,1,2,3,4
split,No finding,14,R3,,,,
twice,Lung Opacity,7,R1,1,2,3,4
twice,Lung Opacity,7,R1,5,6,7,8
twice,ILD,5,R2,5,6,7,8
gone,No finding,14,R1,,,,
"""


def vinbigdata(root):
    ramp = np.arange(144, dtype=np.uint16).reshape(12, 12) * 28
    for number, image in enumerate(("n1", "o1", "split", "twice")):
        save_dicom(root / "train" / f"{image}.dicom", ramp + number, stored=12)
    save_film(root / "train" / "one.png", 90)
    save_dicom(root / "test" / "t1.dicom", ramp, stored=12)
    save_text(root / "train.csv", VINBIG_ROWS)
    return root


KERMANY_FILES = {
    "train/NORMAL": ["IM-0115-0001.jpeg", "IM-0117-0001.jpeg", "NORMAL2-IM-1427-0001.jpeg"],
    "train/PNEUMONIA": ["person1_bacteria_1.jpeg", "person1_bacteria_2.jpeg", "person80_virus_150.jpeg"],
    "val/NORMAL": ["NORMAL2-IM-1430-0001.jpeg"],
    "val/PNEUMONIA": ["person1946_bacteria_4874.jpeg"],
    "test/NORMAL": ["IM-0001-0001.jpeg", "NORMAL2-IM-0052-0001.jpeg"],
    "test/PNEUMONIA": ["person1_virus_6.jpeg", "person78_bacteria_378.jpeg"],
}


def kermany(root):
    grey = 60
    for folder, names in KERMANY_FILES.items():
        for name in names:
            save_film(root / folder / name, grey)
            grey += 5
    return root


def covidx(root):
    lists = {
        "train": "COVID 1 COVID(1).png COVID-19 sirm\n3 SARS-10.jpeg pneumonia cohen\n\nab-c ab-c.png normal rnsa\n",
        "test": "419639-003251 MIDRC-0.png COVID-19 ricord\nx x.png pneumonia rsna\ny y.png normal rsna\n",
    }
    for split, text in lists.items():
        save_text(root / f"{split}_COVIDx9A.txt", text)
    for number, file in enumerate(("train/COVID(1).png", "train/SARS-10.jpeg", "train/ab-c.png")):
        save_film(root / file, 60 + number)
    for number, file in enumerate(("test/MIDRC-0.png", "test/x.png", "test/y.png")):
        save_film(root / file, 90 + number)
    return root


NIH_ROWS = """\
Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],\
OriginalImagePixelSpacing[x,y]
00000001_000.png,Pneumonia|Infiltration,0,1,058Y,M,PA,2682,2749,0.143,0.143
00000001_001.png,No Finding,1,1,58,M,AP,2894,2729,0.143,0.143
00000002_000.png,No Finding,0,2,412,F,PA,2500,2048,0.168,0.168
00000003_000.png,Hernia,0,3,74,F,PA,2500,2048,0.168,0.168
00000003_001.png,Pneumonia,1,3,75,F,PA,2500,2048,0.168,0.168
00000004_000.png,Pneumonia,0,4,75,F,PA,2500,2048,0.168,0.168
"""


def chestxray14(root):
    save_text(root / "Data_Entry_2017_v2020.csv", NIH_ROWS)
    names = ["00000001_000", "00000001_001", "00000002_000", "00000003_000", "00000003_001"]
    for number, name in enumerate(names):
        save_film(root / f"images_00{1 + number // 3}" / "images" / f"{name}.png", 70 + number)
    save_text(root / "train_val_list.txt", "00000001_000.png\n00000001_001.png\n00000002_000.png\n")
    save_text(root / "test_list.txt", "00000003_000.png\n00000003_001.png\n")
    return root


def medmnist(root):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
    root.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(root / "pneumoniamnist.npz", **arrays)
    return root / "pneumoniamnist.npz"


def folder(root):
    for number, name in enumerate(("healthy/0.png", "sick/0.jpg", "sick/1.png")):
        save_film(root / name, 80 + number)
    save_dicom(root / "sick" / "2.dcm", np.arange(144, dtype=np.uint16).reshape(12, 12) * 28, stored=12)
    return root


TREES = {
    "medmnist": medmnist,
    "chestxray14": chestxray14,
    "vinbigdata": vinbigdata,
    "covid-chestxray": covid_chestxray,
    "covidx": covidx,
    "kermany": kermany,
    "radiography": radiography,
    "folder": folder,
}


@pytest.fixture
def tree(tmp_path):
    """``tree(name)`` writes the data set of that name and returns its root."""
    return lambda name: TREES[name](tmp_path / name)


@pytest.fixture
def kaggle(tmp_path):
    """Two classes in Kaggle's layout: films of 2 and 3, a mask for each."""
    root = tmp_path / "kaggle"
    for name, count in (("Normal", 3), ("COVID", 2)):
        for i in range(count):
            save_film(root / name / "images" / f"{name}-{i}.png", 10 * len(name) + i)
            save_film(root / name / "masks" / f"{name}-{i}.png", 255)
    (root / "README.md.txt").write_text("notes")
    return root


@pytest.fixture(name="folder")
def folder_fixture(tmp_path):
    """One folder per class."""
    root = tmp_path / "films"
    for name, count in (("sick", 2), ("healthy", 1)):
        for i in range(count):
            save_film(root / name / f"{i}.png", 10 * len(name) + i)
    return root


@pytest.fixture
def write_film():
    return save_film


@pytest.fixture(scope="session")
def write_dicom():
    return save_dicom


@pytest.fixture
def write_xlsx():
    return save_xlsx


@pytest.fixture
def covid_table():
    """The header of metadata.csv and the function that writes one of its lines."""
    return COVID_HEADER, covid_row


@pytest.fixture
def swap():
    """``swap(path, old, new)`` changes a text file and fails where ``old`` is not in it."""

    def replace(path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return replace


@pytest.fixture
def png_bytes():
    """The bytes of a small PNG of an 8-bit or 16-bit array."""

    def encode(pixels: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()

    return encode
