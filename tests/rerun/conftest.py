"""One small run of films with patients and hospitals, whose rows are re-run."""

import csv
import dataclasses

import pytest
from PIL import Image

from cxrbench.asked import Asked, prepare, request_of
from cxrbench.cache import Cache
from cxrbench.datasets.phantom import CLASSES, Phantom
from cxrbench.progress import Silent
from cxrbench.runner import run_plan
from cxrbench.store import Store


def draw_films(root, seed):
    """A folder of one film for each of a phantom's patients, of hospitals of its own."""
    root.mkdir()
    phantom, rows = Phantom(patients_per_class=15, max_films=1, seed=seed), []
    for number, film in enumerate(phantom.listing().films):
        name = f"{number}.png"
        Image.fromarray(phantom.read(film, 48)).save(root / name)
        rows.append({"file": name, "label": CLASSES[film.label], "patient_id": str(number), "source": f"h{seed}"})
    with (root / "metadata.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


@dataclasses.dataclass
class Ran:
    """A small run: its folder (``inside`` and ``outside`` films, ``results``), its options and its plan."""

    root: object
    asked: Asked
    plan: object

    def record(self, kind, generator="classical", **wanted):
        """The record of one trial of the shared run."""
        for record in Store(self.root / "results"):
            trial = record.trial
            name = trial.generator.name if trial.generator else ""
            if trial.kind == kind and name == generator and all(getattr(trial, k) == v for k, v in wanted.items()):
                return record
        raise AssertionError(f"there is no {kind} record of {generator!r}")


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    draw_films(root / "inside", 0)
    draw_films(root / "outside", 1)
    asked = Asked(
        data=str(root / "inside"),
        external=str(root / "outside"),
        generators="classical",
        ratios="0,1",
        tier="smoke",
        controls="none",
        device="cpu",
        classifier_seeds=2,
    )
    index, plan = prepare(asked, request_of(asked), lambda found: found)
    wanted = [t for t in plan.trials if t.arm == "augment" and t.real_share == 1]
    few = dataclasses.replace(plan, trials=wanted)
    cache = Cache(root / "cache")
    done = run_plan(few, index, Store(root / "results"), cache, Silent(), command="test", asked=asked.model_dump())
    assert not done.failed
    return Ran(root, asked, plan)
