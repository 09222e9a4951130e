"""Training with masks: pruned weights are zeros, interrupted runs end with the same bits, everything is counted."""

import pytest
import torch
from helpers.marks import some
from helpers.sparse import Clusters, program_of, run
from torch import nn

import sparsify as sp
from sparsify.errors import ContractError
from sparsify.mask_updates.rigl import Rigl
from sparsify.mask_updates.set import Set
from sparsify.training.checkpoints import Checkpoints
from sparsify.training.sparse_training import SparseTraining
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions

OPTIONS = TrainOptions(steps="30it", audit=True, score_every="10it")


def pruned(seed=0, sparsity=0.8):
    return sp.run(program_of(seed), [f"weight-prune:sparsity={sparsity},criterion=random"]).program


def tensors(program):
    return {**program.parameters, **program.buffers}


def same(one, other):
    return all(torch.equal(value, tensors(other)[name]) for name, value in tensors(one).items())


class StopError(Exception):
    pass


def test_masked_programs_are_trained_without_their_masks_in_the_graph():
    program = pruned()
    trained = train(program, Clusters(), OPTIONS)
    assert str(trained.program) == str(program)
    assert trained.program.masks.keys() == program.masks.keys()
    for name, mask in program.masks.items():
        assert torch.equal(trained.program.masks[name], mask)
        value = trained.program.parameters[name]
        assert not value[~mask].any()
        assert bool((value[mask] != program.parameters[name][mask]).all())
    assert trained.itop == pytest.approx(0.2, abs=1e-3)


def test_without_masks_nothing_is_different():
    program, densities = program_of(), []
    trained = train(program, Clusters(), OPTIONS, on_step=lambda event: densities.append(event.density))
    assert set(densities) == {1.0}
    assert (trained.exchanges, trained.itop) == ((), None)
    assert trained.program.masks == {}
    assert all("density" not in item for item in trained.curve)


@pytest.mark.parametrize("at", some([7, 8], [1, 7, 8, 9, 29]))  # a rule is due at 8
@pytest.mark.parametrize("rule", some(["rigl"], ["none", "rigl", "set"]))
@pytest.mark.parametrize("optimizer", some(["adamw"], ["sgd", "adamw"]))
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, at, rule, optimizer):
    make = {"none": lambda: None, "rigl": lambda: Rigl(every=4), "set": lambda: Set(every=4)}[rule]
    options = TrainOptions(steps="30it", audit=True, score_every="10it", optimizer=optimizer, learning_rate=0.01)
    whole = train(pruned(), Clusters(), options, rule=make())

    def stop(event):
        if event.step == at:
            raise StopError

    store = Checkpoints(tmp_path, seconds=0)
    with pytest.raises(StopError):
        train(pruned(), Clusters(), options, on_step=stop, rule=make(), checkpoints=store)
    steps = []
    again = train(pruned(), Clusters(), options, rule=make(), checkpoints=store, on_step=lambda e: steps.append(e.step))
    assert steps[0] == at  # the checkpoint of this step had not been written
    assert same(whole.program, again.program)
    assert whole.losses == again.losses
    assert whole.curve == again.curve
    assert whole.exchanges == again.exchanges
    assert whole.itop == again.itop


def test_dropout_and_running_statistics_are_restored(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 4))
    program = sp.capture(model, (torch.randn(4, 12),))
    whole = train(program, Clusters(), OPTIONS)

    def stop(event):
        if event.step == 13:
            raise StopError

    with pytest.raises(StopError):
        train(program, Clusters(), OPTIONS, on_step=stop, checkpoints=Checkpoints(tmp_path, seconds=0))
    again = train(program, Clusters(), OPTIONS, checkpoints=Checkpoints(tmp_path))
    assert same(whole.program, again.program)


def test_a_span_is_part_of_a_run():
    program = pruned()
    first = train(program, Clusters(), OPTIONS, span=(0, 12))
    rest = train(first.program, Clusters(), OPTIONS, span=(12, None))
    whole = train(program, Clusters(), OPTIONS)
    assert len(first.losses) == 12
    assert first.losses + rest.losses[:1] == whole.losses[:13]  # momentum starts anew behind it
    assert len(rest.losses) == 18


def test_the_curve_is_measured_and_leaves_the_run_alone():
    program = pruned()
    with_curve = train(program, Clusters(), OPTIONS)
    without = train(program, Clusters(), TrainOptions(steps="30it"))
    assert same(with_curve.program, without.program)
    assert [item["step"] for item in with_curve.curve] == [10, 20, 30]
    last = with_curve.curve[-1]
    assert last["score"] == Clusters().score(with_curve.program.module()).value
    assert last["density"] == pytest.approx(0.2, abs=1e-3)
    assert 0 < last["validation_loss"] < 2


def test_frozen_masks_stay_as_they_are():
    program = pruned()
    program.parameters["0.weight"].requires_grad_(False)
    trained = train(program, Clusters(), OPTIONS, rule=Rigl(every=4))
    assert torch.equal(trained.program.masks["0.weight"], program.masks["0.weight"])
    assert all("0.weight" not in item["layers"] for item in trained.exchanges)


def test_a_rule_that_loses_weights_is_found():
    class Loses(Set):
        def masks(self, stats):
            return {name: torch.zeros_like(mask) for name, mask in stats.masks.items()}

    with pytest.raises(ContractError, match=r"Loses keeps 0 weights after step 4, not 192\."):
        train(pruned(), Clusters(), OPTIONS, rule=Loses(every=4))


def test_itop_counts_what_was_ever_kept():
    trained = run("set", steps="60it", every="2it")
    rates = [item["itop"] for item in trained.exchanges]
    assert rates == sorted(rates)
    assert rates[-1] == trained.itop > 0.8
    assert run("static").itop == pytest.approx(0.2, abs=0.01)


def test_a_state_of_other_masks_comes_back():
    one, other = (SparseTraining(pruned(seed), Set(every=4), 0) for seed in (0, 1))
    for each in (one, other):
        module = each.program.module(training=True)
        each.attach(module, torch.optim.SGD(module.parameters(), 0.1))
    other.load_state(one.state())
    assert all(torch.equal(mask, other.masks[name]) for name, mask in one.masks.items())


def test_layers_are_told_in_the_order_of_the_network():
    told = run("rigl").exchanges[0]["layers"]
    assert list(told) == ["0.weight", "2.weight", "4.weight"]
