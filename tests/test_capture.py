import collections
import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from helpers.models import ConvNet, Net, equal_leaves, images, linear, rows, run, train
from torch import nn

import sparsify as sp
from sparsify.capture import from_exported
from sparsify.errors import CaptureError
from sparsify.verify import outputs


@dataclasses.dataclass
class Boxes:
    boxes: torch.Tensor
    scores: torch.Tensor


torch.export.register_dataclass(Boxes)
Pair = collections.namedtuple("Pair", "first second")


def test_the_output_is_the_models_bit_for_bit():
    model = ConvNet()
    program = sp.capture(model, (images(),))
    module = program.module()
    for count in (1, 2, 5):
        assert equal_leaves(run(module, [images(count)]), run(model.eval(), [images(count)]))
    assert program.dynamic_batch
    assert program.notes == ()


def test_parameters_and_buffers_keep_their_names():
    model = ConvNet()
    program = sp.capture(model, (images(),))
    assert program.parameters.keys() == dict(model.named_parameters()).keys()
    assert program.buffers.keys() == dict(model.named_buffers()).keys()
    assert program.module().state_dict().keys() == model.state_dict().keys()
    model.load_state_dict(program.module().state_dict())


def test_gradients_reach_every_parameter():
    model = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    module = sp.capture(model, (torch.randn(2, 3, 4),)).module(training=True)
    module(torch.randn(2, 3, 4)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert dict(module.named_parameters()).keys() == dict(model.named_parameters()).keys()


def test_the_users_model_and_inputs_are_left_as_they_are():
    class Counting(ConvNet):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            x += 1
            return super().forward(x) * self.calls

    model, x = Counting().train(), images()
    model.norm.eval()
    before, flags = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    program = sp.capture(model, (x,))
    outputs(program), outputs(program)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(x, images())


def test_capture_shares_the_models_parameters():
    model = nn.Linear(4, 4)
    assert sp.capture(model, (rows(),)).parameters["weight"].data_ptr() == model.weight.data_ptr()


def test_keyword_and_other_inputs():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = nn.Linear(4, 4)

        def forward(self, x, more=None, *, scale, flag=True, nested=None):
            y = self.l(x) * scale if flag else x
            return y if nested is None else y + nested["a"]["b"][0]

    model, x = Model(), rows()
    cases = [
        ((x,), {"scale": 2}),
        ((x, None), {"scale": 2.5, "flag": False}),
        ((x,), {"scale": rows(1), "nested": {"a": {"b": [rows(seed=2)]}}}),
    ]
    for args, kwargs in cases:
        program = sp.capture(model, args, kwargs)
        with torch.no_grad():
            assert torch.equal(program.module()(*args, **kwargs), model.eval()(*args, **kwargs))


@pytest.mark.parametrize(
    ("pack", "kind"),
    [
        (lambda a, b: (a, [b]), tuple),
        (lambda a, b: {"first": a, "second": (b, 3, None)}, dict),
        (Boxes, Boxes),
        (Pair, Pair),
    ],
)
def test_the_structure_of_the_output_is_kept(pack, kind):
    program = sp.capture(Net(lambda s, x: pack(s.l(x), x * 2), **linear()), (rows(),))
    assert type(program.module()(rows())) is kind


def test_transformers_outputs_keep_their_class():
    from transformers.modeling_outputs import BaseModelOutput

    program = sp.capture(Net(lambda s, x: BaseModelOutput(last_hidden_state=s.l(x)), **linear()), (rows(),))
    assert isinstance(program.module()(rows()), BaseModelOutput)


def test_several_inputs_share_one_batch():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.l = nn.Embedding(7, 4), nn.Linear(4, 4)

        def forward(self, ids, mask, x):
            return self.l(self.emb(ids).sum(1) + x).masked_fill(mask[:, None], 0.0)

    model = Model()
    args = [torch.randint(0, 7, (2, 3)), torch.tensor([True, False]), rows(2)]
    program = sp.capture(model, tuple(args))
    other = [torch.randint(0, 7, (5, 3)), torch.ones(5, dtype=torch.bool), rows(5)]
    assert equal_leaves(run(program.module(), other), run(model.eval(), other))


def test_an_example_of_one_row_does_not_freeze_the_batch():
    program = sp.capture(ConvNet(), (images(1),))
    assert program.dynamic_batch
    assert program.example.args[0].shape[0] == 1
    assert program.module()(images(4)).shape == (4, 2)


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: s.l(x).view(4, 4) * torch.ones(4, 1),
        lambda s, x: s.l(x).view(2, -1, 4).sum(0),
        lambda s, x: s.l(x) if x.shape[0] <= 8 else x,
        lambda s, x: s.l(x) if x.shape[0] > 3 else x,
    ],
    ids=["fixed", "divided", "branch above", "branch below"],
)
def test_a_model_that_fixes_its_batch_size_is_static_and_says_so(function):
    program = sp.capture(Net(function, **linear()), (rows(4),))
    assert not program.dynamic_batch
    assert "fixes its batch size" in program.notes[0]


def test_dynamic_batch_can_be_declined():
    program = sp.capture(ConvNet(), (images(),), dynamic_batch=False)
    assert not program.dynamic_batch
    assert program.notes == ()


def test_a_model_that_only_exports_in_evaluation_falls_back(capfd):
    model = Net(lambda s, x: s.l(x) * (2 if s.training and x.sum().item() > 0 else 1), **linear())
    program = sp.capture(model, (rows(),))
    (note,) = program.notes
    assert note.startswith("Captured in evaluation mode, because GuardOnDataDependentSymNode")
    assert "is lost when this program is trained" in note
    assert capfd.readouterr() == ("", "")


def test_a_training_graph_that_does_not_reproduce_the_model_is_not_used():
    model = Net(lambda s, x: s.l(x) * (3 if s.training else 1), **linear())
    (note,) = sp.capture(model, (rows(),)).notes
    assert "the graph of the training mode does not reproduce the model's evaluation output" in note


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda s, x: s.l(x) if x.sum() > 0 else x, r"cannot be captured: GuardOnDataDependent"),
        (lambda s, x: s.l(x) + torch.randn_like(x), "random in evaluation mode"),
        (lambda s, x: F.dropout(s.l(x), 0.5, training=True), "random in evaluation mode"),
        (lambda s, x: s.l(x + len(str(x.tolist()))), r"Net cannot be captured"),
        (lambda s, x: object(), "Net cannot be captured"),
    ],
    ids=["branch", "noise", "dropout", "values in Python", "not a tensor"],
)
def test_what_cannot_be_captured_is_refused_readably(function, message, capfd):
    with pytest.raises(CaptureError, match=message) as caught:
        sp.capture(Net(function, **linear()), (rows(),))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2
    assert capfd.readouterr() == ("", "")


def test_autocast_is_refused():
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.l(x)

    with pytest.raises(CaptureError, match="switches autocast on"):
        sp.capture(Net(forward, **linear()), (rows(),))


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((rows(width=5),), {}), ((rows(),), {"mask": None}), (("text",), {}), ((rows(), rows()), {})],
)
def test_wrong_inputs_are_refused(args, kwargs):
    with pytest.raises(CaptureError, match=r"does not run on the example input.*Check the number, names, shapes"):
        sp.capture(nn.Linear(4, 4), args, kwargs)


def test_only_modules_are_captured():
    with pytest.raises(CaptureError, match=r"args must be a tuple: \(images,\), not Tensor; inputs by name are kwargs"):
        sp.capture(nn.Linear(4, 4), rows())
    with pytest.raises(CaptureError, match=r"needs a torch.nn.Module, not builtin_function_or_method"):
        sp.capture(torch.relu, (rows(),))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_other_types(dtype):
    model = nn.Linear(4, 4).to(dtype)
    program = sp.capture(model, (rows().to(dtype),))
    assert equal_leaves(outputs(program), run(model, [rows().to(dtype)]))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        norm = nn.BatchNorm1d(4)
        self.a = nn.Linear(4, 4, bias=False)
        self.first = norm
        self.b = nn.Linear(4, 4)
        self.c = nn.Linear(4, 4, bias=False)
        self.second = norm
        self.a.weight = self.c.weight = self.b.weight

    def forward(self, x):
        return self.second(self.c(self.first(self.b(x)))) + self.a(x)


def test_tied_tensors_have_one_name_and_all_keys():
    model = Tied()
    program = sp.capture(model, (rows(),))
    assert program.aliases["b.weight"] == program.aliases["c.weight"] == "a.weight"
    assert program.aliases["second.running_mean"] == "first.running_mean"
    module = program.module(training=True)
    assert dict(module.named_parameters()).keys() == program.parameters.keys()
    assert module.state_dict().keys() == model.state_dict().keys()
    twin = copy.deepcopy(module)
    train(twin, [rows()])
    for one in (module, twin):
        assert one.get_parameter("b.weight") is one.get_parameter("a.weight")
        assert one.get_buffer("second.running_mean") is one.get_buffer("first.running_mean")
    changed = program.with_state(twin)
    assert torch.equal(changed.parameters["a.weight"], twin.get_parameter("c.weight"))
    assert not torch.equal(changed.parameters["a.weight"], program.parameters["a.weight"])


def test_transient_buffers_stay_out_of_the_state_dict():
    model = nn.Linear(4, 4)
    model.register_buffer("table", torch.ones(4), persistent=False)
    program = sp.capture(Net(lambda s, x: s.l(x) + s.l.table, l=model), (rows(),))
    assert program.transient == {"l.table"}
    assert program.module().state_dict().keys() == {"l.weight", "l.bias"}


def test_from_exported_needs_example_inputs():
    exported = torch.export.export(nn.Linear(4, 4), (rows(),))
    assert equal_leaves(outputs(from_exported(exported)), [exported.module()(rows())])
    exported.example_inputs = None
    with pytest.raises(CaptureError, match="carries no example inputs"):
        from_exported(exported)


class Regularised(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))

    def forward(self, x):
        return self.body(x)


def test_a_file_exported_in_evaluation_mode_trains_again():
    model = Regularised().eval()
    x = torch.randn(16, 4)
    program = from_exported(torch.export.export(model, (x,)))
    assert torch.equal(program.module()(x), model(x))
    assert any("evaluation mode" in note for note in program.notes)
    module = program.module(training=True)
    before = module.body.get_submodule("1").running_mean.clone()
    assert not torch.equal(module(x), module(x))  # dropout
    assert not torch.equal(module.body.get_submodule("1").running_mean, before)  # batch statistics


def test_a_file_exported_in_training_mode_needs_no_note():
    x = torch.randn(16, 4)
    shapes = {0: torch.export.Dim("batch")}
    assert from_exported(torch.export.export(Regularised().train(), (x,), dynamic_shapes=(shapes,))).notes == ()


def test_a_file_with_a_fixed_batch_says_so():
    program = from_exported(torch.export.export(Regularised().train(), (torch.randn(16, 4),)))
    assert any("fixes the batch size" in note for note in program.notes)


def test_a_file_that_computes_something_random_is_refused_or_noted():
    class Sampler(nn.Module):
        def __init__(self, dropout):
            super().__init__()
            self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

        def forward(self, x):
            return self.dropout(x) + torch.randn_like(x)

    x = torch.randn(3, 4)
    with pytest.raises(CaptureError, match="random"):
        from_exported(torch.export.export(Sampler(0.5).eval(), (x,)))
    assert any("random" in note for note in from_exported(torch.export.export(Sampler(0), (x,))).notes)
