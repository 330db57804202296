"""Every registered plug-in keeps its contract: the public check drives our own suite."""

import numpy as np
import pytest
import torch
from PIL import Image

from cxrbench.checks import ContractBroken, check_classifier, check_generator, toy_films
from cxrbench.contracts import RunContext
from cxrbench.errors import UsageError
from cxrbench.registry import CLASSIFIERS, GENERATORS

SIZE = 64  # the smallest that every net accepts
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
REFUSES_ONE_FILM = {
    "dcgan": "at least 2 training films in every class",
    "flow-quilt": "needs 5 training films of class 'c', there are 1",
    "mixup": "'c'",
    "quilt": "needs 5 training films of class 'c', there are 1",
}
NARROWER = {  # what a CPU takes long for as it is
    "acgan": {"width": 8},
    "cgan-seed": {"width": 8},
    "flow": {"width": 16, "base_width": 16},
    "pca-flow": {"width": 16, "hidden": 128},
    "wgan-gp": {"width": 16},
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", GENERATORS.names())
def test_generator_keeps_its_contract(name, device, tmp_path):
    generator = GENERATORS.create(name, **NARROWER.get(name, {}))
    if name == "pool":
        generator = GENERATORS.create(name, path=str(write_films(tmp_path / "films")))
    check_generator(generator, size=32, device=device)


@pytest.mark.parametrize("name", [name for name in GENERATORS.names() if name not in ("pool", "oracle")])
def test_a_class_of_one_film_is_trained_or_refused_in_one_line(name, tmp_path):
    films = toy_films(32, per_class=5)  # what quilting needs of a class
    rare = films.subset(np.flatnonzero((films.labels != 2) | (np.arange(len(films)) < 3)))
    assert np.bincount(rare.labels).tolist() == [5, 5, 1]
    generator = GENERATORS.create(name, **NARROWER.get(name, {}))
    labels = np.asarray([2, 0, 2], np.int64)
    if name in REFUSES_ONE_FILM:
        with pytest.raises(UsageError, match=REFUSES_ONE_FILM[name]):
            generator.fit(rare, RunContext(0, "cpu", 1, tmp_path))
        return
    films = generator.fit(rare, RunContext(0, "cpu", 1, tmp_path)).sample(labels, RunContext(1, "cpu", 1, tmp_path))
    assert films.shape == (3, 1, 32, 32)
    assert films.dtype == np.uint8


def write_films(root):
    """A folder of PNGs for each class of the check's films."""
    films = toy_films(40, seed=3)
    for number, (film, label) in enumerate(zip(films.pixels, films.labels, strict=True)):
        folder = root / films.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(film[0]).save(folder / f"{number}.png")
    return root


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CLASSIFIERS.names())
def test_classifier_keeps_its_contract(name, device):
    check_classifier(CLASSIFIERS.create(name), size=SIZE, device=device)


@pytest.mark.parametrize("size", [32, 48, 50, 75, 300])
def test_gans_reach_any_size_by_construction(size):
    from cxrbench_baselines.generators.cgan_nets import CGANDiscriminator, CGANGenerator
    from cxrbench_baselines.generators.cgan_seed import SeedDiscriminator, SeedGenerator
    from cxrbench_baselines.generators.dcgan import DCGANDiscriminator, DCGANGenerator

    noise, labels = torch.zeros(2, 10), torch.tensor([0, 1])
    pairs = [
        (CGANGenerator(size, 2, 4, 10), CGANDiscriminator(size, 2, 4)),
        (SeedGenerator(size, 2, 4, 10), SeedDiscriminator(size, 2, 4, 0.5)),
    ]
    for generator, discriminator in pairs:
        films = generator(noise, labels)
        assert films.shape == (2, 1, size, size)
        assert discriminator(films, labels).shape == (2,)
    for stabilised in (True, False):
        films = DCGANGenerator(size, 4, 10)(noise)
        assert films.shape == (2, 1, size, size)
        assert DCGANDiscriminator(size, 4, stabilised)(films).shape == (2,)


def broken(**methods):
    from cxrbench_baselines.generators.classical import Classical

    return type("Broken", (Classical,), methods)()


@pytest.mark.parametrize(
    ("methods", "clause"),
    [
        ({"fit": lambda self, train, ctx: None}, "return self"),
        ({"sample": lambda self, labels, ctx: np.zeros((len(labels), 1, 32, 32), np.float32)}, "uint8"),
        ({"sample": lambda self, labels, ctx: np.zeros((1, 1, 32, 32), np.uint8)}, "uint8"),
        ({"sample": lambda self, labels, ctx: np.zeros((len(labels), 1, 32, 32), np.uint8)}, "another seed"),
        (
            {"sample": lambda self, labels, ctx: np.random.randint(0, 255, (len(labels), 1, 32, 32), np.uint8)},  # noqa: NPY002
            "same seed",
        ),
    ],
)
def test_the_check_names_the_clause_that_is_broken(methods, clause):
    with pytest.raises(ContractBroken, match=clause):
        check_generator(broken(**methods))
