import pytest
import torch
from helpers.onnx_files import model_of, rand, save
from onnx import helper

import sparsify as sp
from sparsify.errors import InputError
from sparsify.onnx_in.comparing import compare


class Net(torch.nn.Module):
    def __init__(self, shift=0.0, dtype=torch.float32):
        super().__init__()
        self.shift, self.dtype = shift, dtype

    def forward(self, x):
        return (x * 2).to(self.dtype), x + self.shift


@pytest.fixture
def path(tmp_path):
    nodes = [helper.make_node("Add", ["in:0", "in:0"], ["double"]), helper.make_node("Identity", ["in:0"], ["same"])]
    return save(model_of(nodes, {"in:0": (1, ["batch", 4])}, ["double", "same"]), tmp_path / "model.onnx")


def compared(path, net):
    return compare(sp.capture(net, (torch.from_numpy(rand(2, 4)),)), path, {"x": "in:0"}, ["double", "same"])


def test_what_is_equal_differs_by_nothing(path):
    assert compared(path, Net()) == 0


@pytest.mark.parametrize(
    ("net", "reason"),
    [(Net(0.5), "another 'same' than onnxruntime (it differs by"),
     (Net(0, torch.float64), "another 'double' than onnxruntime (float64[2, 4] instead of float32[2, 4])")],
)  # fmt: skip
def test_the_first_output_that_differs_is_named(net, reason, path):
    with pytest.raises(InputError) as caught:
        compared(path, net)
    assert reason in str(caught.value)


def test_a_file_that_onnxruntime_cannot_load_or_run_is_refused(path):
    nodes = [helper.make_node("MatMul", ["in:0", "w"], ["double"]), helper.make_node("Identity", ["in:0"], ["same"])]
    wrong = model_of(nodes, {"in:0": (1, ["batch", "n"])}, ["double", "same"], {"w": rand(3, 2)})
    save(wrong, path)
    with pytest.raises(InputError, match="cannot be run in onnxruntime"):
        compared(path, Net())
    path.write_bytes(b"\x08\x0a\x12\x00\xff")
    with pytest.raises(InputError, match="cannot be loaded in onnxruntime"):
        compared(path, Net())


def test_other_batches_are_compared_as_well(path):
    nodes = [helper.make_node("Add", ["in:0", "c"], ["double"]), helper.make_node("Identity", ["in:0"], ["same"])]
    x = rand(2, 4)
    save(
        model_of(nodes, {"in:0": (1, ["batch", 4])}, ["double", "same"], {"c": x}), path
    )  # right for this example alone
    with pytest.raises(InputError, match="cannot be run in onnxruntime"):
        compared(path, Net())
