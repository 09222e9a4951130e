"""Core ML packages."""

import sys

import numpy as np
import pytest
import torch
from helpers.packable import packable

from sparsify.errors import InputError, UsageError
from sparsify.export.coreml import export_coreml
from sparsify.job import Job
from sparsify.recipe import Recipe


@pytest.fixture
def pruned():
    return packable()


def test_without_coremltools_it_says_what_to_install_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    job = Job(tmp_path / "never opened.pt", Recipe(("shrink",)), outputs=(tmp_path / "m.mlpackage",))
    with pytest.raises(UsageError, match=r"pip install 'sparsify-fx\[coreml\]'"):
        job.run()
    assert not list(tmp_path.iterdir())


def test_what_is_no_package_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("sparsify.job.check_tools", lambda: None)
    (tmp_path / "m.mlpackage").mkdir()
    job = Job(tmp_path / "never opened.pt", Recipe(("shrink",)), outputs=(tmp_path / "m.mlpackage",))
    with pytest.raises(InputError, match="is no Core ML package"):
        job.run()


def test_pruned_weights_are_bitmasks_and_come_back_bit_for_bit(tmp_path, pruned):
    tools = pytest.importorskip("coremltools", reason="the extra coreml is not installed")
    for _ in range(2):  # the second one replaces the first
        report = export_coreml(pruned, tmp_path / "m.mlpackage")
    assert [path.name for path in tmp_path.iterdir()] == ["m.mlpackage"]
    assert report["inputs"] == ["input"]
    assert report["outputs"] == ["output"]
    assert report["sparse"] == 1
    assert report["bytes"] < 0.25 * sum(value.nbytes for value in pruned.parameters.values())
    model = tools.models.MLModel(str(tmp_path / "m.mlpackage"), skip_model_load=True)
    coreml = tools.optimize.coreml
    held = coreml.get_weights_metadata(coreml.decompress_weights(model), weight_threshold=1024).values()
    (weight,) = [item.val for item in held if item.val.shape == (31, 37 * 36)]
    expected = torch.where(pruned.masks["4.weight"], pruned.parameters["4.weight"], 0.0).detach().numpy()
    assert np.array_equal(weight, expected)
    assert list(model.get_spec().description.input[0].type.multiArrayType.shape) == [1, 3, 8, 8]
