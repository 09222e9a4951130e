"""The values of `seeded` in ONNX."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from sparsify.export.hashing import DOMAIN, drawing, drawn_by
from sparsify.kernels.seeded import seeded


def model_of(distribution, *, seed, scale, stream, count):
    value = ir.val("seed", const_value=ir.tensor(np.array(np.uint32(seed)).view(np.int32), name="seed"))
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=ir.Shape([1]))
    drawn = ir.node(distribution, [value], drawn_by(distribution, scale, stream, count), domain=DOMAIN)
    drawn.outputs[0].name = "drawn"
    added = ir.node("Sub", [drawn.outputs[0], x])
    added.outputs[0].name, added.outputs[0].dtype = "y", ir.DataType.FLOAT
    added.outputs[0].shape = ir.Shape([count])
    graph = ir.Graph([x], added.outputs, nodes=[drawn, added], initializers=[value],
                     opset_imports={"": 18, DOMAIN: 1}, name="g")  # fmt: skip
    return ir.Model(graph, ir_version=9, functions=[drawing(distribution, 18)])


@pytest.mark.parametrize(
    ("seed", "stream"), [(0, 0), (7, 3), (0xFFFFFFFF, 0xFFFFFFFF), (0x80000000, 0xCAFEBABE)], ids=hex
)
@pytest.mark.parametrize("distribution", ["uniform", "normal", "sign"])
@pytest.mark.parametrize("scale", [0.123, 1e-38])
def test_onnxruntime_folds_them_to_the_same_bits(tmp_path, distribution, seed, stream, scale):
    path, count = tmp_path / "m.onnx", 10_001
    ir.save(model_of(distribution, seed=seed, scale=scale, stream=stream, count=count), path)
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "opt.onnx"), 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert [node.op_type for node in onnx.load(tmp_path / "opt.onnx").graph.node] == ["Sub"]
    (found,) = session.run(None, {"x": np.zeros(1, np.float32)})
    expected = seeded(torch.tensor(seed), stream, [count], distribution, scale).numpy()
    assert found.tobytes() == (expected - np.zeros(1, np.float32)).tobytes()
