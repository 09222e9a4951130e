"""Tickets: saved, loaded, put on other models, and refused where they do not fit."""

import pytest
import torch
from helpers.residual import resnet
from helpers.sparse import program_of
from safetensors.torch import save_file
from torch import nn

import sparsify as sp
from sparsify.demo_net import ResNet
from sparsify.errors import InputError, PassError, UsageError
from sparsify.masking import unmasked
from sparsify.tickets.initialization import initial
from sparsify.tickets.ticket import Ticket


def pruned(seed=0):
    return sp.run(program_of(seed), ["weight-prune:sparsity=0.7"]).program


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_it_comes_back_from_a_file(tmp_path):
    start = pruned()
    ticket = Ticket.of(start, program_of(), record={"score": 0.9, "task": "clusters"})
    assert ticket.sparsity == pytest.approx(0.7, abs=1e-3)
    ticket.save(tmp_path / "a.ticket")
    found = Ticket.load(tmp_path / "a.ticket")
    assert same(found.masks, ticket.masks)
    assert found.record == ticket.record
    assert (found.shapes, found.removed, found.init) == (ticket.shapes, (), {})
    after = found.apply(program_of(5))
    assert same(after.masks, start.masks)
    assert same(after.parameters, start.parameters)
    assert same(after.module().state_dict(), start.module().state_dict())


def test_masks_are_bits_and_weights_may_be_a_seed(tmp_path):
    start = pruned()
    Ticket.of(start, start).save(tmp_path / "weights.ticket")
    drawn = sp.run(initial(program_of(), 3, "kaiming"), ["weight-prune:sparsity=0.7"]).program
    Ticket.of(drawn, drawn, init={"init": "kaiming", "seed": 3}).save(tmp_path / "seed.ticket")
    sizes = [(tmp_path / f"{name}.ticket").stat().st_size for name in ("weights", "seed")]
    weights = sum(value.nbytes for value in start.parameters.values())
    assert sizes[1] < sizes[0] - 0.9 * weights
    found = Ticket.load(tmp_path / "seed.ticket").apply(program_of(9))
    assert same(found.parameters, drawn.parameters)


def test_without_its_weights_a_model_keeps_its_own():
    ticket, other = Ticket.of(pruned(), program_of()), program_of(4)
    found = ticket.apply(other, weights=False)
    assert same(found.masks, ticket.masks)
    assert same(found.parameters, other.parameters)


def test_masks_that_a_model_has_are_replaced():
    ticket = Ticket.of(pruned(), program_of())
    found = ticket.apply(sp.run(program_of(), ["weight-prune:sparsity=0.9,criterion=random"]).program)
    assert same(found.masks, ticket.masks)


def test_blocks_are_taken_out():
    program = resnet()[1]
    result = sp.run(program, ["layer-prune"])
    (removed,) = result.report["passes"][0]["removed"]
    ticket = Ticket.of(result.program, program, removed=(removed,))
    found = ticket.apply(program)
    assert found.parameters.keys() == result.program.parameters.keys()
    assert found.history == program.history
    assert unmasked(found).parameters.keys() < program.parameters.keys()


def test_another_architecture_is_refused():
    ticket = Ticket.of(pruned(), program_of())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 4))
    wide = sp.capture(model, (torch.randn(2, 12),))
    with pytest.raises(PassError, match=r"0\.weight is \[32, 12\] there and \[30, 12\] here"):
        ticket.apply(wide)
    short = sp.capture(nn.Sequential(nn.Linear(12, 32)), (torch.randn(2, 12),))
    with pytest.raises(PassError, match=r"the model lacks 2\.weight, 2\.bias, 4\.weight and 1 more"):
        ticket.apply(short)
    with pytest.raises(PassError, match=r"the model has also 2\.weight"):
        Ticket.of(short, short).apply(program_of())


@pytest.mark.parametrize("kind", ["none", "text", "empty", "cut", "other", "archive", "old"])
def test_files_that_are_no_tickets_are_refused(tmp_path, kind):
    path = tmp_path / "a.ticket"
    Ticket.of(pruned(), program_of()).save(path)
    if kind == "none":
        path.unlink()
    elif kind in ("text", "empty"):
        path.write_text("hello, this is a text" if kind == "text" else "", encoding="utf-8")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "archive":
        sp.save(program_of(), tmp_path / "x.pt2")
        path.write_bytes((tmp_path / "x.pt2").read_bytes())
    else:
        save_file({"a": torch.ones(1)}, path, metadata={"sparsify.ticket": "{}"} if kind == "old" else None)
    message = {"none": "no such file", "cut": "is damaged", "old": "is no ticket of this version"}.get(
        kind, "is no ticket; "
    )
    with pytest.raises(InputError, match=message):
        Ticket.load(path)


@pytest.mark.parametrize("where", ["tensor", "record", "digest"])
def test_a_flipped_bit_is_noticed(tmp_path, where):
    path = tmp_path / "a.ticket"
    ticket = Ticket.of(pruned(), program_of(), record={"score": 0.9375})
    ticket.save(path)
    data = bytearray(path.read_bytes())
    place = {"tensor": len(data) - 5, "record": data.index(b"9375") + 2, "digest": data.index(b"sparsify.digest") + 20}
    data[place[where]] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.ticket is damaged: it is not what was written"):
        Ticket.load(path)


def test_tensors_of_every_kind_are_kept(tmp_path):
    weights = {"a": torch.zeros(()), "b": torch.zeros(0, 3), "c": torch.ones(3, dtype=torch.bfloat16)}
    Ticket({}, {}, weights=weights).save(tmp_path / "a.ticket")
    assert same(Ticket.load(tmp_path / "a.ticket").weights, weights)


def test_a_block_that_is_not_there_is_named_without_the_pass_that_removes_it():
    program = resnet()[1]
    ticket = Ticket({}, {name: tuple(v.shape) for name, v in program.parameters.items()}, ("nowhere",))
    with pytest.raises((PassError, UsageError), match=r"^without nowhere: "):
        ticket.apply(program)


def with_head(classes, seed=3):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, classes))
    return sp.capture(model, (torch.randn(4, 12),))


def test_a_model_with_another_head_keeps_it_dense_with_its_own_weights():
    ticket, other = Ticket.of(pruned(), program_of()), with_head(7)
    with pytest.raises(PassError, match=r"4\.weight is \[4, 16\] there and \[7, 16\] here. transfer=yes leaves dense"):
        ticket.apply(other)
    found = ticket.apply(other, transfer=True)
    assert same(found.masks, {name: ticket.masks[name] for name in ("0.weight", "2.weight")})
    for name in ("0.weight", "0.bias", "2.weight", "2.bias"):
        assert torch.equal(found.parameters[name], program_of().parameters[name])
    for name in ("4.weight", "4.bias"):
        assert torch.equal(found.parameters[name], other.parameters[name])
    own = ticket.apply(other, transfer=True, weights=False)
    assert same(own.parameters, other.parameters)
    assert same(own.masks, found.masks)


def test_a_head_keeps_its_weights_beside_weights_that_a_seed_makes():
    start = sp.run(initial(program_of(), 3, "kaiming"), ["weight-prune:sparsity=0.7"]).program
    other = with_head(7)
    found = Ticket.of(start, start, init={"init": "kaiming", "seed": 3}).apply(other, transfer=True)
    assert torch.equal(found.parameters["0.weight"], start.parameters["0.weight"])
    assert torch.equal(found.parameters["4.weight"], other.parameters["4.weight"])


def test_what_shares_less_than_half_is_another_architecture_all_the_same():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 50), nn.ReLU(), nn.Linear(50, 4))
    wide = sp.capture(model, (torch.randn(2, 12),))
    with pytest.raises(PassError, match=r"less than half of the model is in it, not 2\.weight, 2\.bias, 4\.weight"):
        Ticket.of(pruned(), program_of()).apply(wide, transfer=True)


def deep(depths, seed=0):
    torch.manual_seed(seed)
    return sp.capture(ResNet(depths, [4, 8], channels=1, classes=4), (torch.randn(2, 1, 8, 8),))


@pytest.mark.parametrize(("stretch", "expected"), [("append", "0 1 2 1 2"), ("interpolate", "0 1 1 2 2")])
@pytest.mark.parametrize("spec", ["weight-prune:sparsity=0.7", "channel-prune:sparsity=0.5"])
def test_a_ticket_is_stretched(stretch, expected, spec):
    source, target = deep([2, 3]), deep([2, 5], seed=1)
    ticket = Ticket.of(sp.run(source, [spec]).program, source)
    with pytest.raises(
        PassError, match=r"the model has also layer2\.3\.conv1\.weight.*stretch=append is for other depths"
    ):
        ticket.apply(target)
    found = ticket.apply(target, stretch=stretch)
    for block, other in enumerate(expected.split()):
        for part in ("conv1.weight", "conv2.weight"):
            name, source_name = f"layer2.{block}.{part}", f"layer2.{other}.{part}"
            assert torch.equal(found.masks[name], ticket.masks[source_name])
            assert torch.equal(found.parameters[name], source.parameters[source_name])
        assert torch.equal(found.buffers[f"layer2.{block}.bn1.running_mean"],
                           source.buffers[f"layer2.{other}.bn1.running_mean"])  # fmt: skip
    assert same(ticket.apply(target, stretch=stretch, weights=False).parameters, target.parameters)
    if spec.startswith("channel"):
        small = sp.run(found, ["shrink"]).program
        assert {small.parameters[f"layer2.{block}.conv1.weight"].shape[0] for block in range(5)} == {4}


def test_a_ticket_is_squeezed():
    source, target = deep([2, 4]), deep([2, 3], seed=1)
    ticket = Ticket.of(sp.run(source, ["weight-prune:sparsity=0.7"]).program, source)
    found = ticket.apply(target, stretch="append")
    assert same(found.masks, {name: mask for name, mask in ticket.masks.items() if not name.startswith("layer2.3.")})


def test_families_and_heads_are_not_confused():
    source = deep([2, 2])
    ticket = Ticket.of(sp.run(source, ["weight-prune:sparsity=0.7"]).program, source)
    torch.manual_seed(0)
    target = sp.capture(ResNet([2, 3], [4, 8], channels=1, classes=6), (torch.randn(2, 1, 8, 8),))
    with pytest.raises(PassError, match=r"fc\.weight"):
        ticket.apply(target, stretch="append")
    found = ticket.apply(target, stretch="append", transfer=True)
    assert torch.equal(found.masks["layer2.2.conv1.weight"], ticket.masks["layer2.1.conv1.weight"])
    assert "fc.weight" not in found.masks
    plain = sp.run(source, ["layer-prune"])
    without = Ticket.of(plain.program, source, removed=tuple(plain.report["passes"][0]["removed"]))
    with pytest.raises(PassError, match="a ticket without blocks cannot be stretched"):
        without.apply(deep([2, 3]), stretch="append")
