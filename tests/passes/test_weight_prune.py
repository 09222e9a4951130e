"""weight-prune: exactly so many weights go, those with the lowest scores, and what is left out is said."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from helpers.regression import Regression
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify.criteria.snip import Snip
from sparsify.errors import PassError, UsageError
from sparsify.export.onnx import export_onnx

BEFORE = """
%input_1: float32[batch, 3] = input
%linear: float32[batch, 4] = linear(%input_1, 0.weight, 0.bias)
%relu: float32[batch, 4] = relu(%linear)
%linear_1: float32[batch, 2] = linear(%relu, 2.weight, 2.bias)
return [%linear_1]
"""
AFTER = """
%where_scalar_other_1: float32[2, 4] = where.ScalarOther(2.weight_mask, 2.weight, 0.0)
%where_scalar_other: float32[4, 3] = where.ScalarOther(0.weight_mask, 0.weight, 0.0)
%input_1: float32[batch, 3] = input
%linear: float32[batch, 4] = linear(%input_1, %where_scalar_other, 0.bias)
%relu: float32[batch, 4] = relu(%linear)
%linear_1: float32[batch, 2] = linear(%relu, %where_scalar_other_1, 2.bias)
return [%linear_1]
"""


def mlp(*widths):
    torch.manual_seed(0)
    pairs = [(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*[module for pair in pairs for module in pair][:-1])


@functools.cache
def program_of(*widths):
    return sp.capture(mlp(*widths), (torch.randn(4, widths[0]),))


@functools.cache
def family(name):
    model, args, kwargs = FAMILIES[name]()
    return sp.capture(model, args, kwargs)


def pruned(program, options, **more):
    result = sp.run(program, [f"weight-prune:{options}"], **more)
    return result.program, result.report["passes"][0]


def cases(lines):
    """Read lines of options, an arrow and a message."""
    return pytest.mark.parametrize(("options", "message"), [line.split(" -> ") for line in lines.split("\n")[1:-1]])


def gone(program):
    return {name: int((~mask).sum()) for name, mask in sorted(program.masks.items())}


MLP = (12, 20, 16, 5)  # 240, 320 and 80 weights
NAMES = ["0.weight", "2.weight", "4.weight"]


def test_weights_are_masked_and_nothing_else_changes():
    before = program_of(3, 4, 2)
    program, record = pruned(before, "sparsity=0.5")
    assert str(before) == BEFORE.strip()
    assert str(program) == AFTER.strip()
    assert all(torch.equal(value, before.parameters[name]) for name, value in program.parameters.items())
    assert program.history == ("weight-prune:sparsity=0.5",)
    assert record["pruned"] == 10
    assert record["weights"] == 20
    assert record["of_all_parameters"] == pytest.approx(20 / 26)
    assert record["asked"] == {"sparsity": 0.5}


@pytest.mark.parametrize("sparsity", [0.0, 0.01, 0.1, 0.25, 1 / 3, 0.45, 0.5, 0.777, 0.9, 0.98])
@pytest.mark.parametrize("options", ["", ",scope=layer", ",pattern=block1", ",criterion=random", ",allocation=erk"])
def test_the_number_of_weights_is_exact(sparsity, options):
    program, record = pruned(program_of(*MLP), f"sparsity={sparsity},allow_collapse=yes{options}")
    assert sum(gone(program).values()) == record["pruned"] == math.floor(sparsity * 640 + 0.5)
    if options == ",scope=layer":
        assert all(abs(gone(program)[n] - sparsity * size) < 1 for n, size in zip(NAMES, (240, 320, 80), strict=True))


def test_the_lowest_magnitudes_of_all_layers_go():
    before = program_of(*MLP)
    program, record = pruned(before, "sparsity=0.45")
    limit = torch.cat([before.parameters[name].flatten() for name in NAMES]).abs().sort().values[288]
    for name, mask in program.masks.items():
        assert torch.equal(mask, before.parameters[name].abs() >= limit)
        assert record["layers"][name] == pytest.approx(1 - float(mask.float().mean()), abs=1e-6)


def test_of_equal_weights_the_later_ones_go():
    model = mlp(2, 3, 2)
    for layer in (model[0], model[2]):
        nn.init.ones_(layer.weight)
    before = sp.capture(model, (torch.randn(2, 2),))
    assert gone(pruned(before, "sparsity=0.5,allow_collapse=yes")[0]) == {"0.weight": 0, "2.weight": 6}
    program, _ = pruned(before, "sparsity=0.5,scope=layer")
    assert program.masks["0.weight"].int().tolist() == [[1, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize("way", ["uniform", "global", "lamp", "snip-ratios", "er", "erk", "smart"])
def test_every_allocation_is_exact_and_the_criterion_chooses_within_a_layer(way):
    before, task = program_of(*MLP), Regression((12,), 5)
    program, record = pruned(before, f"sparsity=0.7,allocation={way}", task=task)
    assert record["pruned"] == sum(gone(program).values()) == 448
    for name, mask in program.masks.items():
        magnitudes = before.parameters[name].abs()
        assert magnitudes[mask].min() >= magnitudes[~mask].max()


def test_a_table_decides_layer_by_layer(tmp_path):
    table = tmp_path / "table.yaml"
    table.write_text("'0': 0.5\n4.weight: 0.25\n")
    program, _ = pruned(program_of(*MLP), f"allocation=table,table={table}")
    assert gone(program) == {"0.weight": 120, "2.weight": 0, "4.weight": 20}


@pytest.mark.parametrize(("name", "dim"), [("mlp", 1), ("resnet", 1), ("gpt2", 0), ("llama", 1)])
@pytest.mark.parametrize(("pattern", "n", "m"), [("2:4", 2, 4), ("1:8", 1, 8), ("6:12", 6, 12)])
def test_n_of_m_along_the_inputs_of_every_layer(name, dim, pattern, n, m):
    before = program_of(24, 48, 5) if name == "mlp" else family(name)
    program, record = pruned(before, f"pattern={pattern}")
    for weight, mask in program.masks.items():
        groups = mask.movedim(dim, -1).reshape(-1, m)
        assert (groups.sum(1) == n).all()
        kept = before.parameters[weight].detach().abs().movedim(dim, -1).reshape(-1, m)
        assert torch.where(groups, kept, math.inf).amin(1).ge(torch.where(groups, 0.0, kept).amax(1)).all()
    assert record["reached"] == pytest.approx(1 - n / m)
    size = {weight: value.shape[dim] for weight, value in before.parameters.items() if value.ndim in (2, 4)}
    for weight, reason in record["skipped"].items():
        assert reason in ("it is an embedding", f"the number of its inputs, {size[weight]}, is no multiple of {m}")
    assert {weight for weight in size if size[weight] % m} <= set(record["skipped"])
    assert set(program.masks) == size.keys() - record["skipped"].keys()


@pytest.mark.parametrize(("name", "rows"), [("mlp", 0), ("gpt2", 1), ("llama", 0)])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_tiles_go_as_a_whole(name, rows, scope):
    before = program_of(24, 48, 10) if name == "mlp" else family(name)
    program, record = pruned(before, f"pattern=block4x6,sparsity=0.5,scope={scope},allow_collapse=yes")
    for mask in program.masks.values():
        for row in (mask if rows == 0 else mask.T).split(4):
            assert all(tile.all() or not tile.any() for tile in row.split(6, 1))
    nearest = 12 * (1 if scope == "global" else len(program.masks))  # half a tile, of all weights or of each
    assert abs(record["pruned"] - record["weights"] / 2) <= nearest
    assert record["pruned"] == sum(gone(program).values())


def test_pruning_again_counts_what_is_gone():
    once, _ = pruned(program_of(*MLP), "sparsity=0.5")
    twice, record = pruned(once, "sparsity=0.75")
    assert sum(gone(twice).values()) == record["pruned"] == 480
    assert all(not (twice.masks[name] & ~mask).any() for name, mask in once.masks.items())
    at_once, _ = pruned(program_of(*MLP), "sparsity=0.75")
    assert all(torch.equal(at_once.masks[name], mask) for name, mask in twice.masks.items())


@pytest.mark.parametrize("options", ["sparsity=0.3", "sparsity=0.5,scope=layer", "pattern=2:4,protect=4"])
def test_what_is_gone_already_is_in_the_report(options):
    once, _ = pruned(program_of(*MLP), "sparsity=0.5")
    twice, record = pruned(once, options)
    layers = {name: count for name, count in gone(twice).items() if name in record["layers"]}
    assert record["pruned"] == sum(layers.values())
    assert {name: round(share * twice.parameters[name].numel()) for name, share in record["layers"].items()} == layers


@pytest.mark.parametrize(("options", "rounds"), [("rounds=4", 4), ("rounds=3,schedule=cubic", 3), ("rounds=1", 1),
    ("schedule=iterative", 6), ("schedule=iterative,rate=0.5", 2)])  # fmt: skip
def test_magnitudes_are_the_same_in_any_number_of_rounds(options, rounds):
    one, _ = pruned(program_of(*MLP), "sparsity=0.7")
    program, record = pruned(program_of(*MLP), f"sparsity=0.7,{options}")
    assert record["rounds"] == rounds
    assert all(torch.equal(one.masks[name], mask) for name, mask in program.masks.items())


def by_hand(program, task, sparsities, regrow):
    """Prune by |gradient · weight| in rounds, in plain torch."""
    total = sum(program.parameters[name].numel() for name in NAMES)
    keep = {name: torch.ones_like(program.parameters[name], dtype=torch.bool) for name in NAMES}
    for sparsity in sparsities:
        model = program.module()
        params = {name: model.get_parameter(name) for name in NAMES}
        own = {name: value.detach().clone() for name, value in params.items()}
        for name, value in params.items():
            value.data *= keep[name]
        losses = [task.loss(model, batch) for batch in task.batches("train", seed=0)]
        (sum(losses) / len(losses)).backward()
        scores = {name: (value.grad * own[name]).abs() for name, value in params.items()}
        if not regrow:
            scores = {name: score.masked_fill(~keep[name], -1) for name, score in scores.items()}
        limit = torch.cat([score.flatten() for score in scores.values()]).sort().values[round(sparsity * total)]
        keep = {name: score >= limit for name, score in scores.items()}
    return keep


@pytest.mark.parametrize("regrow", [False, True])
def test_rounds_score_what_is_left_and_weights_return_only_where_they_may(regrow, monkeypatch):
    monkeypatch.setattr(Snip, "regrow", regrow)
    monkeypatch.setattr(Snip, "rounds", 3)
    before, task = program_of(*MLP), Regression((12,), 5)
    program, record = pruned(before, "sparsity=0.784,criterion=snip", task=task)
    assert record["rounds"] == 3
    expected = by_hand(before, task, [0.4, 0.64, 0.784], regrow)
    for name, mask in program.masks.items():
        assert (mask != expected[name]).sum() <= 2  # sums in another order may swap neighbours
    assert record["pruned"] == round(0.784 * 640)
    other = by_hand(before, task, [0.4, 0.64, 0.784], not regrow)
    assert sum(int((program.masks[name] != other[name]).sum()) for name in NAMES) > 10


def test_what_an_earlier_pass_removed_does_not_return(monkeypatch):
    monkeypatch.setattr(Snip, "regrow", True)
    once, _ = pruned(program_of(*MLP), "sparsity=0.5,criterion=random")
    twice, record = pruned(once, "sparsity=0.7,criterion=snip,rounds=3", task=Regression((12,), 5))
    assert all(not (twice.masks[name] & ~mask).any() for name, mask in once.masks.items())
    assert sum(gone(twice).values()) == record["pruned"] == 448


def test_a_layer_that_would_lose_everything_is_refused_unless_that_is_allowed():
    model = mlp(6, 8, 8, 3)
    with torch.no_grad():
        model[2].weight.mul_(1e-3)
    program = sp.capture(model, (torch.randn(2, 6),))
    with pytest.raises(PassError, match=r"2\.weight would lose all weights: .*protect it"):
        pruned(program, "sparsity=0.6")
    collapsed, record = pruned(program, "sparsity=0.6,allow_collapse=yes")
    assert not collapsed.masks["2.weight"].any()
    assert record["layers"]["2.weight"] == 1
    assert pruned(program, "sparsity=0.6,allocation=lamp")[1]["pruned"] == record["pruned"]


def test_what_stays_is_reported_with_its_reason():
    _, record = pruned(family("gpt2"), "sparsity=0.5,protect=transformer.h.0.attn")
    assert record["skipped"]["transformer.wte.weight"] == "it is an embedding"
    assert record["skipped"]["transformer.h.0.attn.c_attn.weight"] == "it is protected"
    _, record = pruned(family("resnet"), "pattern=2:4,last=dense")
    stem = record["skipped"]["resnet.embedder.embedder.convolution.weight"]
    assert stem == "the number of its inputs, 3, is no multiple of 4"
    assert record["skipped"]["classifier.1.weight"] == "it is a last layer"


def test_what_is_protected_does_not_count_and_a_last_layer_may_count_half():
    program, record = pruned(program_of(*MLP), "sparsity=0.5,protect=2")
    assert record["weights"] == 320
    assert sum(gone(program).values()) == 160
    program, _ = pruned(program_of(*MLP), "sparsity=0.5,scope=layer,last=half")
    assert sum(gone(program).values()) == 320
    assert gone(program)["4.weight"] == pytest.approx(320 / 600 * 40, abs=1)


def test_norms_biases_and_single_numbers_may_be_included():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.line, self.norm, self.scale = nn.Linear(4, 4), nn.LayerNorm(4), nn.Parameter(torch.tensor(0.001))

        def forward(self, x):
            return self.norm(self.line(x)) * self.scale

    before = sp.capture(Scaled(), (torch.randn(2, 4),))
    program, record = pruned(before, "sparsity=0.25,include=norm,line.bias,scale,allow_collapse=yes")
    assert record["weights"] == 16 + 4 + 8 + 1
    assert not program.masks["scale"]
    _, record = pruned(before, "sparsity=0.25,pattern=block2,include=scale,norm,allow_collapse=yes")
    assert record["skipped"]["scale"] == "it is a single number"


def test_twice_is_the_same_and_another_seed_is_not():
    one, two, other = (pruned(program_of(*MLP), "sparsity=0.5,criterion=random", seed=seed)[0] for seed in (1, 1, 2))
    assert all(torch.equal(one.masks[name], two.masks[name]) for name in NAMES)
    assert not torch.equal(one.masks["0.weight"], other.masks["0.weight"])


def test_an_exported_program_has_exactly_these_zeros(tmp_path):
    onnx = pytest.importorskip("onnx")
    program, _ = pruned(program_of(*MLP), "sparsity=0.45")
    export_onnx(program, tmp_path / "m.onnx")
    tensors = [onnx.numpy_helper.to_array(item) for item in onnx.load(tmp_path / "m.onnx").graph.initializer]
    written = {value.shape: value for value in tensors}  # the exporter may transpose them
    for mask in program.masks.values():
        transposed = tuple(mask.shape) not in written
        found = written[tuple((mask.T if transposed else mask).shape)]
        assert np.array_equal((found.T if transposed else found) != 0, mask.numpy())


def test_rows_that_are_gone_can_be_shrunken():
    model = mlp(6, 8, 3)
    with torch.no_grad():
        model[0].weight[[2, 5]] *= 1e-4
        model[0].bias[[2, 5]] = 0
    result = sp.run(sp.capture(model, (torch.randn(2, 6),)), ["weight-prune:sparsity=0.25", "shrink"])
    assert result.report["passes"][1]["removed"] == {"0": "8 -> 6"}
    assert result.program.parameters["0.weight"].shape == (6, 6)


@cases(r"""
 -> weight-prune needs sparsity=
sparsity=1 -> sparsity=1\.0 is not in \[0, 1\)
sparsity=nan -> sparsity=nan is not in
sparsity=0.5,rounds=0 -> rounds=0 is less than 1
sparsity=0.5,batches=0 -> batches=0 is less than 1
sparsity=0.5,rate=0 -> rate=0\.0 is not between 0 and 1
sparsity=0.5,pattern=4:4 -> pattern=4:4 is impossible
sparsity=0.5,pattern=blocks -> There is no pattern 'blocks'
sparsity=0.5,criterion=magnitud -> no criterion 'magnitud'.*did you mean 'magnitude'
sparsity=0.5,criterion=snip/p=3 -> snip has no option 'p'|snip takes no options
sparsity=0.5,allocation=table -> allocation=table and table=FILE go together
sparsity=0.5,scope=global,allocation=erk -> with scope=global the scores allocate
sparsity=0.5,allocation=erk,ratios=snip -> allocation= and ratios= both say
sparsity=0.5,ratios=wanda -> ratios=wanda: its scores of different layers do not compare
sparsity=0.5,last=half -> last=half needs allocation=uniform
sparsity=0.5,schedule=iterative,rounds=3 -> leave out rounds=
sparsity=0.5,schedule=cubic -> schedule=cubic needs rounds=
allocation=table,table=t.yaml,rounds=2 -> a table of sparsities is reached at once
sparsity=0.5,last=half,scope=layer,allocation=erk -> last=half needs allocation=uniform
pattern=2:4,sparsity=0.6 -> pattern=2:4 is a sparsity of 0\.5, not 0\.6
pattern=2:4,scope=layer -> scope= does not go with pattern=2:4
pattern=2:4,allocation=erk -> allocation= does not go with pattern=2:4
pattern=2:4,rounds=2 -> rounds= does not go with pattern=2:4
pattern=2:4,table=t.yaml -> a table or last=half does not go with pattern=2:4
pattern=2:4,last=half -> a table or last=half does not go with pattern=2:4
""")
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        pruned(program_of(3, 4, 2), options.strip())


@cases(r"""
sparsity=0.5,criterion=snip -> needs a loss: give a task
sparsity=0.5,criterion=oracle -> The criterion oracle scores blocks, not weights
sparsity=0.5,allocation=snip-ratios -> needs a loss: give a task
sparsity=0.5,protect=* -> The model has no weight to prune .*it is protected
pattern=2:8 -> No layer can have pattern=2:8: of 0\.weight, the number of its inputs, 3, is no multiple
sparsity=0.99 -> would lose all weights
""")
def test_what_cannot_be_done_is_refused(options, message):
    with pytest.raises(PassError, match=message):
        pruned(program_of(3, 4, 2), options)
