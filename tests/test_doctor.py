import importlib.metadata
import importlib.util

import pytest
import torch

from sparsify import doctor
from sparsify.doctor import examine


def found(part):
    return {finding.name: finding for finding in examine() if finding.part == part}


def test_what_is_installed_works_with_its_version():
    runtimes = found("runtimes")
    assert (runtimes["PyTorch"].state, runtimes["PyTorch"].text) == ("works", torch.__version__)
    assert runtimes["onnxruntime"].text.startswith(importlib.metadata.version("onnxruntime"))
    assert "CPU" in runtimes["onnxruntime"].text


def test_kernels_are_computed_and_say_how():
    kernels = found("kernels")
    names = [f"{name}_linear, CPU" for name in ("nm", "block", "bitmask", "index")]
    assert [kernels[name].state for name in names] == ["works"] * 4
    assert "numba" in kernels["index_linear, CPU"].text


def test_a_kernel_that_is_wrong_or_fails_is_broken(monkeypatch):
    monkeypatch.setattr(doctor, "product_with", lambda layer: lambda x: x @ layer.decode().T + 0.1)
    text = found("kernels")["index_linear, CPU"].text
    assert text.startswith("computes something else: ")

    def fails(layer):
        raise OSError("no such instruction")

    monkeypatch.setattr(doctor, "product_with", fails)
    finding = found("kernels")["nm_linear, CPU"]
    assert (finding.state, finding.text) == ("broken", "OSError: no such instruction")


def test_extras_are_those_of_the_distribution(monkeypatch):
    extras = found("extras")
    assert extras["data"].state == "works"
    assert not extras.keys() & {"dev", "bench"}
    monkeypatch.setattr(
        importlib.metadata, "requires", lambda name: ["torch>=2.10", 'nothing-of-it>=1; extra == "some"']
    )
    (some,) = found("extras").values()
    assert (some.state, some.text) == ("missing", "pip install 'sparsify-fx[some]': no nothing-of-it")


@pytest.mark.parametrize("installed", [True, False])
def test_a_runtime_that_cannot_be_imported_is_broken(monkeypatch, tmp_path, installed):
    if installed:
        (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer is missing')")
        monkeypatch.syspath_prepend(tmp_path)
    else:
        found_where = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorrt" else found_where(name))
    finding = found("runtimes")["TensorRT"]
    assert finding.state == ("broken" if installed else "missing")
    assert ("libnvinfer is missing" if installed else "pip install tensorrt") in finding.text
