"""The reference classifiers learn, choose their checkpoint on validation films, and load real weights."""

import functools
import hashlib
import http.server
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from cxrbench.checks import toy_films
from cxrbench.contracts import RunContext
from cxrbench.errors import UsageError
from cxrbench_baselines.classifiers.small_cnn import SmallCNN
from cxrbench_baselines.classifiers.torchvision_nets import AlexNet, ResNet18, SqueezeNet


def context(tmp_path, seed=0, budget=40):
    return RunContext(seed, "cpu", budget, tmp_path)


def test_small_cnn_learns_an_easy_task(tmp_path):
    train, val, test = (toy_films(16, per_class=20, seed=seed) for seed in range(3))
    probabilities = SmallCNN(width=8).fit(train, val, context(tmp_path)).predict_proba(test.pixels, context(tmp_path))
    assert (probabilities.argmax(axis=1) == test.labels).mean() > 0.9


def test_the_checkpoint_with_the_lowest_validation_loss_is_kept(tmp_path, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 5.0, 4.0, 9.0, 8.0, 7.0])
    kept = []

    def look(self, val, ctx):
        kept.append({k: v.clone() for k, v in self._net.state_dict().items()})
        return next(losses)

    monkeypatch.setattr(SmallCNN, "_validation_loss", look)
    classifier = SmallCNN(width=4).fit(toy_films(16), toy_films(16, seed=1), context(tmp_path, budget=16))
    for key, value in classifier._net.state_dict().items():
        assert torch.equal(value, kept[1][key])


def test_rare_classes_weigh_more(tmp_path):
    films = toy_films(16, per_class=20)
    rare = films.subset(np.flatnonzero((films.labels != 2) | (np.arange(len(films)) < 12)))
    classifier = SmallCNN(width=4)
    classifier.setup(rare, context(tmp_path))
    weights = classifier._state.class_weights
    assert weights[2] == pytest.approx(len(rare) / (3 * 4))
    assert weights[2] > 4 * weights[0]


def test_a_class_without_training_films_is_named(tmp_path):
    films = toy_films(16)
    with pytest.raises(UsageError, match="no training film of class 'c'"):
        SmallCNN().setup(films.subset(np.flatnonzero(films.labels != 2)), context(tmp_path))


def test_a_net_that_needs_larger_films_says_so_before_the_run():
    with pytest.raises(UsageError, match="alexnet needs films of at least 64 px"):
        AlexNet().preflight(32)


@pytest.fixture(scope="module")
def imagenet_file(tmp_path_factory):
    """A state dict in torchvision's own format, named as torchvision names its files."""
    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    draft = folder / "draft.pth"
    torch.save(torchvision.models.squeezenet1_1().state_dict(), draft)
    return draft.rename(folder / f"squeezenet1_1-{hashlib.sha256(draft.read_bytes()).hexdigest()[:8]}.pth")


def test_pretrained_weights_are_fetched_checked_and_loaded(imagenet_file, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(imagenet_file.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{imagenet_file.name}"
        known = SimpleNamespace(DEFAULT=SimpleNamespace(url=url))
        monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: known)
        facts = SqueezeNet(pretrained="imagenet").preflight(64)
        server.shutdown()
    assert facts == {"weights": hashlib.sha256(imagenet_file.read_bytes()).hexdigest()}
    net = SqueezeNet(pretrained="imagenet").build(3, 64)
    stored = torch.load(imagenet_file, weights_only=True)
    assert torch.equal(net[1].features[0].weight, stored["features.0.weight"])
    assert net[1].classifier[1].out_channels == 3


def test_offline_the_message_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _no_network)
    with pytest.raises(UsageError, match="pass --pretrained FILE"):
        ResNet18(pretrained="imagenet").preflight(64)


def _no_network(*args, **kwargs):
    from urllib.error import URLError

    raise URLError("no route to host")


def test_a_local_file_of_another_net_is_refused(imagenet_file):
    with pytest.raises(UsageError, match="is no resnet18"):
        ResNet18(pretrained=str(imagenet_file)).build(3, 64)


def test_a_missing_weights_file_is_named():
    with pytest.raises(UsageError, match="/nowhere does not exist"):
        ResNet18(pretrained="/nowhere").preflight(64)


def test_from_scratch_no_file_is_read():
    assert ResNet18().preflight(64) == {}
    assert isinstance(ResNet18().build(3, 64), nn.Sequential)
