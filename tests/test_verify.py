import operator
from dataclasses import replace

import pytest
import torch
from helpers.models import ConvNet, Net, images, linear, rows
from torch import fx, nn

import sparsify as sp
from sparsify.errors import ContractError, PassError
from sparsify.shapes import propagate_shapes
from sparsify.verify import (
    check,
    copied,
    difference,
    equivalent,
    outputs,
    same_bits,
    signature,
    tolerance,
    trial_inputs,
)

aten = torch.ops.aten


class Named(nn.Module):
    """A model whose nodes come from lines of this file."""

    def __init__(self):
        super().__init__()
        self.l, self.k = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = torch.relu(self.l(x))
        y = y @ self.k.weight
        return torch.exp(y) * 2


def program_of(function=lambda s, x: torch.relu(s.l(x)) * 2, x=None):
    return sp.capture(Net(function, **linear()), (rows() if x is None else x,))


def edited(program, edit):
    graph = program.copy_graph()
    edit({node.name: node for node in graph.nodes}, graph)
    return replace(program, graph=graph)


def test_a_good_program_passes():
    for program in (program_of(), sp.capture(ConvNet(), (images(),))):
        check(program)
        assert equivalent(program, program) == 0.0


def test_an_lstm_passes():
    check(sp.capture(nn.LSTM(4, 5, batch_first=True), (torch.randn(2, 3, 4),)))


def test_a_malformed_graph():
    program = edited(program_of(), lambda nodes, graph: nodes["relu"].update_arg(0, nodes["mul"]))
    with pytest.raises(PassError, match="The graph is malformed"):
        check(program)


def test_missing_state():
    program = program_of()
    with pytest.raises(PassError, match=r"The graph reads l.bias, which the program does not hold"):
        check(replace(program, parameters={"l.weight": program.parameters["l.weight"]}))


def test_unused_state():
    program = program_of()
    with pytest.raises(PassError, match="The program holds other, which no node reads"):
        check(replace(program, buffers={"other": torch.ones(1)}))


@pytest.mark.parametrize("kind", ["call_module", "call_method"])
def test_only_operators_are_allowed(kind):
    def edit(nodes, graph):
        with graph.inserting_after(nodes["relu"]):
            node = graph.create_node(kind, "relu", (nodes["relu"],), name="odd")
        nodes["mul"].update_arg(0, node)

    program = program_of()
    changed = edited(program, edit)
    changed.graph.owning_module = nn.Module()
    with pytest.raises(PassError, match=rf"odd|malformed|{kind}"):
        check(changed)


def test_the_number_of_inputs():
    program = program_of()
    with pytest.raises(PassError, match="number of inputs"):
        check(program.with_example((rows(), rows()), {}, synthetic=True))


def test_shapes_that_do_not_fit_name_the_node_and_the_users_line():
    program = sp.capture(Named(), (rows(),))
    thin = replace(program, parameters={**program.parameters, "k.weight": nn.Parameter(torch.ones(3, 4))})
    with pytest.raises(PassError, match=r"do not fit at matmul .*test_verify.py:\d+: y = y @ self.k.weight") as caught:
        check(thin)
    assert "\n" not in str(caught.value)


def test_an_infinite_output_names_the_first_node():
    program = sp.capture(Named(), (rows(),))
    huge = replace(program, parameters={n: nn.Parameter(v * 1e6) for n, v in program.parameters.items()})
    with pytest.raises(PassError, match=r"not finite. The first node that is not finite is exp .*: return torch.exp"):
        check(huge)


def test_masks_with_minus_infinity_are_not_the_first_infinite_node():
    def forward(s, x):
        scores = s.l(x).masked_fill(x > 0, float("-inf"))
        return torch.log(scores.exp() - 1e30)

    program = sp.capture(Net(forward, **linear()), (rows(),))
    with pytest.raises(PassError, match="first node that is not finite is log "):
        check(program)


def test_an_infinite_example_may_have_an_infinite_output():
    check(program_of(lambda s, x: s.l(x), torch.full((2, 4), float("inf"))))


def test_a_violated_contract_names_the_first_different_node_and_the_line():
    program = sp.capture(Named(), (rows(),))
    changed = edited(program, lambda nodes, graph: setattr(nodes["relu"], "target", aten.sigmoid.default))
    where = r"first node that differs is relu .*test_verify.py:\d+: y = torch.relu"
    with pytest.raises(ContractError, match=rf"differ by .*{where}") as caught:
        equivalent(program, changed)
    assert caught.value.exit_status == 3


def test_a_difference_in_a_new_node():
    def edit(nodes, graph):
        output = next(node for node in graph.nodes if node.op == "output")
        with graph.inserting_before(output):
            new = graph.call_function(aten.add.Tensor, (nodes["mul"], 1))
        output.args = ((new,),)

    program = program_of()
    with pytest.raises(ContractError, match="taken from a new node"):
        equivalent(program, edited(program, edit))


def test_another_number_of_outputs():
    def edit(nodes, graph):
        next(node for node in graph.nodes if node.op == "output").args = ((nodes["mul"], nodes["relu"]),)
        graph._codegen = fx.graph.CodeGen()

    program = program_of()
    changed = edited(program, edit)
    with pytest.raises(ContractError, match="number of outputs changed from 1 to 2"):
        equivalent(program, changed)


def test_a_program_that_is_wrong_only_at_other_batch_sizes_is_caught():
    program = program_of(lambda s, x: s.l(x).reshape(x.shape[0], 4), rows(3))

    def edit(nodes, graph):
        node = next(node for node in graph.nodes if node.target in (aten.reshape.default, aten.view.default))
        with graph.inserting_before(node):
            part = graph.call_function(aten.slice.Tensor, (node.args[0], 0, 0, 3))
        node.replace_all_uses_with(part)

    changed = edited(program, edit)
    assert difference(outputs(program)[0], outputs(changed)[0]) == 0
    with pytest.raises(ContractError, match="differ by inf"):
        equivalent(program, changed)
    fixed = sp.capture(Net(lambda s, x: s.l(x), **linear()), (rows(3),), dynamic_batch=False)
    assert len(trial_inputs(fixed)) == 1


def test_trial_inputs_change_the_batch_and_keep_the_rest():
    class Model(nn.Module):
        def forward(self, ids, scale, x):
            return x[ids] * scale

    program = sp.capture(Model(), (torch.tensor([1, 0]), 3, rows(2)))
    example, other = trial_inputs(program)
    assert example[1] == other[1] == 3
    assert [value.shape for value in other[::2]] == [(3,), (3, 4)]
    assert set(other[0].tolist()) <= {0, 1}
    assert torch.equal(trial_inputs(program)[1][2], other[2])
    assert not torch.equal(trial_inputs(program, seed=1)[1][2], other[2])


def test_outputs_write_neither_program_nor_example():
    def forward(s, x):
        x += 1
        x[:, 0] = 0
        return s.l(x) + s.l.calls.add_(1)

    model = Net(forward, **linear())
    model.l.register_buffer("calls", torch.zeros(()))
    program = sp.capture(model, (rows(),))
    assert same_bits(outputs(program), outputs(program))
    assert same_bits(outputs(program, [rows()]), outputs(program))
    assert torch.equal(program.example.args[0], rows())


def test_propagate_shapes_renews_every_value():
    program = program_of()
    for node in program.graph.nodes:
        if node.op == "call_function":
            node.meta["val"] = None
    propagate_shapes(program)
    assert [tuple(map(str, n.meta["val"].shape)) for n in program.graph.nodes if n.op == "call_function"] == [
        (str(program.batch_symbol), "4")
    ] * 3


def test_signature():
    program = program_of(lambda s, x: (s.l(x), x.argmax(-1), None, 3))
    batch = program.spelled(", ".join(signature(program)))
    assert batch == "float32[batch, 4], int64[batch], None, 3"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]), 0.0),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]), 0.25),
        (torch.tensor([1.0, float("-inf")]), torch.tensor([1.0, float("-inf")]), 0.0),
        (torch.tensor([4.0, float("-inf")]), torch.tensor([5.0, float("-inf")]), 0.25),
        (torch.tensor([float("nan"), 4.0]), torch.tensor([float("nan"), 5.0]), 0.25),
        (torch.tensor([1.0, float("inf")]), torch.tensor([1.0, 2.0]), float("inf")),
        (torch.tensor([4 + 4j]), torch.tensor([4 + 3j]), 0.25),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), float("inf")),
        (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64), float("inf")),
        (torch.ones(2), torch.ones(3), float("inf")),
        (torch.ones(0), torch.ones(0), 0.0),
        # one huge value, such as a masked logit, excuses nothing
        (torch.tensor([1.0, 2.0, torch.finfo(torch.float32).min]), torch.tensor([5.0, 9.0, -3.4e38]), 3.5),
        (torch.tensor([1.0, 2.0, 3.0, 1e6]), torch.tensor([1.0, 3.0, 3.0, 1e6 + 1]), 1 / 2000),
        # a small value may differ by what rounding does to the large ones beside it
        (torch.tensor([1e-4, 1.0, 1.0, 1.0]), torch.tensor([2e-4, 1.0, 1.0, 1.0]), 1e-4 / 0.75**0.5),
        (3, 3, 0.0),
        (None, torch.ones(1), float("inf")),
    ],
)
def test_difference(one, other, expected):
    assert difference(one, other) == pytest.approx(expected, rel=1e-3)


def test_a_new_nan_is_a_violation():
    program = program_of()
    changed = edited(program, lambda nodes, graph: nodes["mul"].update_arg(1, float("nan")))
    with pytest.raises(ContractError):
        equivalent(program, changed)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_tolerance_allows_rounding_and_no_more(dtype):
    program = sp.capture(nn.Linear(4, 4).to(dtype), (rows().to(dtype),))

    def scaled(factor):
        parameters = {n: nn.Parameter((v.double() * factor).to(dtype)) for n, v in program.parameters.items()}
        return replace(program, parameters=parameters)

    allowed = tolerance(program.example.args[0])
    assert allowed > torch.finfo(dtype).eps
    assert equivalent(program, scaled(1 + allowed / 4)) <= allowed
    with pytest.raises(ContractError):
        equivalent(program, scaled(1 + 4 * allowed))


def test_tolerance_of_exact_values():
    assert tolerance(torch.tensor([1])) == tolerance(3) == 0.0
    assert tolerance(torch.ones(1, dtype=torch.complex64)) == 1e-5


def test_same_bits():
    nan = torch.tensor([float("nan"), 1.0])
    assert same_bits([nan, 1, None], [nan.clone(), 1, None])
    assert not same_bits([nan], [torch.ones(2)])
    assert not same_bits([torch.ones(2)], [torch.ones(2, dtype=torch.float64)])
    assert not same_bits([1], [torch.ones(1)])
    assert not same_bits([1], [1, 2])


def test_copied_keeps_the_structure():
    x = rows()
    result = copied({"a": (x, 3)})
    assert torch.equal(result["a"][0], x)
    assert result["a"][0] is not x
    assert operator.itemgetter(1)(result["a"]) == 3
