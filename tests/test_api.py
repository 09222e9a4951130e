"""The public names, as the README and other people's code use them."""

import inspect
import json
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch
from helpers.command import BLOCKS, example, small_resnet
from torch import fx, nn

import sparsify as sp
from sparsify.errors import UsageError

CLASSES = (
    "Block",
    "Contract",
    "Cost",
    "Group",
    "LoaderTask",
    "MaskController",
    "Pass",
    "Program",
    "Result",
    "Score",
    "Task",
    "Ticket",
)
FUNCTIONS = (
    *(
        "axis_rule",
        "blocks",
        "capture",
        "cost",
        "export_onnx",
        "groups",
        "load",
        "register_operators",
        "retrain",
        "run",
        "save",
        "save_hugging_face",
    ),
    "write_back",
)


@pytest.fixture(scope="module")
def model():
    return small_resnet()


@pytest.fixture(scope="module")
def program(model):
    return sp.capture(model, args=(example(),), kwargs=None, dynamic_batch=True)


def test_every_name_is_what_it_says():
    assert sorted(sp.__all__) == sorted((*CLASSES, *FUNCTIONS))
    assert all(inspect.isclass(getattr(sp, name)) for name in CLASSES)
    assert all(inspect.isfunction(getattr(sp, name)) for name in FUNCTIONS)
    assert set(sp.__all__) <= set(dir(sp))
    assert all(getattr(sp, name).__doc__ for name in sp.__all__)


def test_the_version():
    assert sp.__version__ == version("sparsify-fx")


def test_unknown_names():
    with pytest.raises(AttributeError, match="module 'sparsify' has no attribute 'captur'"):
        sp.captur  # noqa: B018


def test_a_console_completes_public_names():
    assert dir(sp) == sorted([*sp.__all__, "__version__"])


@pytest.mark.parametrize("function", [sp.blocks, sp.cost, sp.groups, sp.export_onnx, sp.save, sp.save_hugging_face])
def test_a_module_is_no_program(model, function):
    more = {sp.export_onnx: ["m.onnx"], sp.save: ["m.pt2"], sp.save_hugging_face: [model, "m"]}.get(function, [])
    with pytest.raises(UsageError, match=r"A program is needed, not \w+: sparsify.capture makes one of a module"):
        function(model, *more)


def test_importing_a_submodule_does_not_hide_the_function():
    import sparsify.blocks
    import sparsify.capture
    import sparsify.cost
    import sparsify.groups
    import sparsify.load
    import sparsify.retrain  # noqa: F401

    assert all(inspect.isfunction(getattr(sp, name)) for name in FUNCTIONS)
    assert inspect.ismodule(sys.modules["sparsify.capture"])
    from sparsify.capture import from_exported

    assert inspect.isfunction(from_exported)
    everything = {}
    exec("from sparsify import *", everything)
    assert everything["capture"] is sp.capture


SCRIPT = """
import sys
import sparsify
assert sparsify.__version__
assert not {"torch", "onnx", "onnxruntime", "networkx", "numpy"} & set(sys.modules)
"""


def test_importing_the_package_does_not_import_torch():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)


def test_capture_and_module(model, program):
    assert isinstance(program, sp.Program)
    module = program.module(training=False)
    assert isinstance(module, fx.GraphModule)
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in model.named_parameters()]
    images = torch.randn(5, 1, 8, 8)
    assert torch.equal(module(images), model(images))
    assert not module.training
    assert program.module(training=True).training


def test_blocks(program):
    found = sp.blocks(program)
    assert all(isinstance(block, sp.Block) for block in found)
    assert [block.name for block in found] == BLOCKS
    assert [block.removable for block in found] == [True, True, False, True]
    assert [block.reason is None for block in found] == [True, True, False, True]
    assert set(found[0].parameters) == {name for name in program.parameters if name.startswith("layer1.0.")}


def test_groups(program):
    found = sp.groups(program)
    assert all(isinstance(group, sp.Group) for group in found)
    assert [group.name for group in found if group.frozen] == ["fc.weight[0]"]


def test_an_axis_rule_of_ones_own():
    with pytest.raises(ValueError, match="write namespace::name"):
        sp.axis_rule("scale")


def test_cost(model, program):
    cost = sp.cost(program)
    assert isinstance(cost, sp.Cost)
    assert cost.parameters == sum(value.numel() for value in model.parameters())
    assert 0 < cost.nonzero <= cost.parameters < cost.macs
    assert cost.bytes >= 4 * cost.parameters


def test_run(program):
    result = sp.run(
        program, ["layer-prune:count=2,criterion=grasp", "layer-prune:criterion=random"], task="digits", seed=1
    )
    assert isinstance(result, sp.Result)
    assert isinstance(result.program, sp.Program)
    assert sp.cost(result.program).parameters < sp.cost(program).parameters
    assert 0 <= result.report["score"] <= 1
    assert json.loads(json.dumps(dict(result.report))) == result.report
    assert sp.run(program, [], task=None, seed=0).report["score"] is None


class MyTask:
    """A task of somebody's own."""

    name = "mine"

    def batches(self, split, *, seed=0):
        return [(example(), torch.tensor([1, 2]))] * 2

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def score(self, model):
        return sp.Score(float(model(example()).mean()), "mean", 2)


def test_retrain(program):
    assert isinstance(MyTask(), sp.Task)
    result = sp.retrain(program, "fine-tune:steps=2it", task=MyTask())
    assert isinstance(result, sp.Result)
    assert result.report["scores"]["after"]["name"] == "mean"
    before, after = (item.parameters["fc.weight"] for item in (program, result.program))
    assert not torch.equal(before, after)


def test_save_and_load(program, tmp_path):
    small = sp.run(program, ["layer-prune"]).program
    sp.save(small, tmp_path / "small.pt2")
    loaded = sp.load(tmp_path / "small.pt2")
    assert isinstance(loaded, sp.Program)
    assert torch.equal(loaded.module()(example()), small.module()(example()))
    sp.save(program, str(tmp_path / "model.pt"))
    assert sp.load(str(tmp_path / "model.pt"), inputs="3x1x8x8", trust=False).example.args[0].shape == (3, 1, 8, 8)


def test_export_onnx(program, tmp_path):
    checked = sp.export_onnx(program, tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx").stat().st_size == checked["bytes"]


def test_masks_of_a_dense_program(program):
    assert dict(program.masks) == {}


def test_a_pass_of_ones_own_says_its_contract():
    assert {item.name for item in sp.Contract} == {"EXACT", "LOSSY"}
    assert inspect.isabstract(sp.Pass)
