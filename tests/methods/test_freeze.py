"""freeze: what is trained is what was chosen, the rest stays where the method says, and files need the seed alone."""

import pytest
import torch
from helpers.sparse import Clusters, program_of

import sparsify as sp
from sparsify.errors import OptionError, PassError, UsageError
from sparsify.export.checkpoint import save_state
from sparsify.freezing import SEED, frozen_draws, redrawn, thawed
from sparsify.methods.freeze import Freeze
from sparsify.training.work import Work

OPTIMIZERS = [{"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adamw"}]


def run(seed=5, program=None, **options):
    options = {"steps": "30it", "learning_rate": 0.05, "sparsity": 0.8, **options}
    return Freeze(**options).retrain(program or program_of(), Clusters(), seed=seed, work=Work())


def values(program):
    return {name: value.detach() for name, value in thawed(program).parameters.items()}


@pytest.mark.parametrize("options", OPTIMIZERS)
def test_freezenet_trains_what_snip_chose_and_the_seed_gives_the_rest(options):
    trained = run(**options)
    start = redrawn(program_of(), 5)
    chosen = sp.run(start, ["weight-prune:sparsity=0.8,criterion=snip"], Clusters(), 5).program.masks
    after, before = values(trained.program), values(start)
    assert trained.program.frozen.keys() == chosen.keys()
    for name, mask in chosen.items():
        assert torch.equal(trained.program.frozen[name], mask)
        assert torch.equal(after[name][~mask], before[name][~mask])
        assert not bool(trained.program.parameters[name][~mask].any())
        assert bool((after[name][mask] != before[name][mask]).any())
    assert int(trained.program.buffers[SEED]) == 5
    assert not any(name.endswith("_base") for name in trained.program.buffers)
    assert trained.record["trained"] == sum(int(mask.sum()) for mask in chosen.values())


@pytest.mark.parametrize(("options", "factor"), [
    ({"optimizer": "sgd", "momentum": 0.0}, lambda rate: (1 - 0.05 * 0.1) ** 30),
    ({"optimizer": "adamw"}, lambda rate: (1 - 0.05 * 0.1) ** 30),
])  # fmt: skip
def test_what_is_frozen_decays_as_weights_without_a_gradient_do(options, factor):
    trained = run(decay=True, weight_decay=0.1, schedule="constant", **options)
    plain = run(weight_decay=0.1, schedule="constant", **options)
    assert trained.record["decayed_to"] == pytest.approx(factor(0.05), rel=1e-5)
    draws = frozen_draws(plain.program)
    for name, draw in frozen_draws(trained.program).items():
        assert draw.scale == draws[name].scale * trained.record["decayed_to"]
        mask = trained.program.frozen[name]
        expected = values(plain.program)[name][~mask] * trained.record["decayed_to"]
        assert torch.allclose(values(trained.program)[name][~mask], expected, rtol=1e-6)
    assert trained.program.parameters.keys() == plain.program.parameters.keys()


def test_decay_of_stored_values():
    given = program_of()
    trained = run(program=given, init="given", decay=True, weight_decay=0.1)
    for name, mask in trained.program.frozen.items():
        expected = given.parameters[name][~mask] * trained.record["decayed_to"]
        assert torch.allclose(values(trained.program)[name][~mask], expected, rtol=1e-6)


def test_zhou_freezes_at_zero_what_the_training_moved_there():
    trained = run(method="zhou")
    start = values(redrawn(program_of(), 5))
    dense = sp.retrain(redrawn(program_of(), 5), "fine-tune:steps=30it,learning_rate=0.05", Clusters(), 5).program
    zeros = 0
    for name, mask in trained.program.frozen.items():
        end = dense.parameters[name].detach()
        inwards = end.abs() < start[name].abs()
        zeros += int((inwards & ~mask).sum())
        assert torch.equal(values(trained.program)[name][~mask], torch.where(inwards, 0.0, start[name])[~mask])
        assert bool((values(trained.program)[name][mask] != start[name][mask]).any())
        kept = dense.parameters[name].detach().abs()
        assert float(kept[mask].min()) >= float(kept[~mask].max())
        assert int(mask.sum()) == round(0.2 * mask.numel())  # layer by layer, as in the paper
    assert trained.record["zeros"] == zeros > 0
    assert len(trained.losses) == 60


def test_fish_moves_only_what_it_chose_and_chooses_again():
    given = program_of()
    fixed, moving = (run(program=given, method="fish", every=every) for every in (None, "10it"))
    for trained, choices in ((fixed, 1), (moving, 3)):
        moved = {name: values(trained.program)[name] != given.parameters[name] for name in trained.program.frozen}
        assert trained.record["choices"] == choices
        assert trained.record["moved"] == sum(int(mask.sum()) for mask in moved.values())
        assert len(trained.losses) == 30
    chosen = sp.run(given, ["weight-prune:sparsity=0.8,criterion=fisher"], Clusters(), 5).program.masks
    for name, mask in fixed.program.frozen.items():
        assert torch.equal(mask, chosen[name])
        assert torch.equal(values(fixed.program)[name][~mask], given.parameters[name][~mask])
    assert moving.record["moved"] > fixed.record["moved"]
    assert torch.tensor(fixed.losses[:10]).equal(torch.tensor(moving.losses[:10]))


def test_a_run_goes_on_from_its_folder(tmp_path):
    spec = "freeze:steps=20it,sparsity=0.8,decay=yes,learning_rate=0.05"
    found = [sp.retrain(program_of(), spec, Clusters(), 5, work=tmp_path / "work").program for _ in range(2)]
    first, again = map(values, found)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_its_file_is_small_and_loads(tmp_path):
    trained = run(sparsity=0.98)
    save_state(trained.program, tmp_path / "small.safetensors", "packed")
    (tmp_path / "made.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))\n"
    )
    again = sp.load(tmp_path / "small.safetensors", inputs="4x12", factory=f"{tmp_path / 'made.py'}:make")
    expected = values(trained.program)
    assert all(torch.equal(value, expected[name]) for name, value in values(again).items())


@pytest.mark.parametrize(("options", "error"), [
    ({"sparsity": 1.0}, "not between 0 and 1"),
    ({"decay": True, "method": "fish"}, "decay=yes is of method=freezenet"),
    ({"decay": True, "weight_decay": 0.0}, "needs a weight_decay"),
    ({"every": "10it"}, "the pace of method=fish"),
    ({"every": "0it", "method": "fish"}, "at least 1it"),
    ({"init": "torch", "method": "fish"}, "leave out init=torch"),
    ({"criterion": "snap"}, "snap"),
    ({"scope": "global", "allocation": "erk"}, "freeze: with scope=global the scores allocate"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(options, error):
    with pytest.raises(UsageError, match=error):
        Freeze(**options)


@pytest.mark.parametrize("method", ["freezenet", "zhou", "fish"])
def test_compact_trains_alike(method):
    whole, compact = (run(method=method, steps="8it", compact=compact) for compact in (False, True))
    assert whole.losses == compact.losses
    assert all(torch.equal(value, values(compact.program)[name]) for name, value in values(whole.program).items())


def test_how_much_of_each_layer_is_trained_can_be_said():
    def shares(**options):
        return [round(float(mask.double().mean()), 2) for mask in run(steps="1it", **options).program.frozen.values()]

    assert shares(scope="layer") == shares(method="zhou") == [0.2, 0.2, 0.2]
    narrow = shares(allocation="erk")
    assert narrow == shares(method="zhou", allocation="erk") != [0.2, 0.2, 0.2]
    assert shares(method="zhou", scope="global") != [0.2, 0.2, 0.2]


@pytest.mark.parametrize("method", ["freezenet", "zhou", "fish"])
def test_a_training_without_a_step_is_refused(method):
    with pytest.raises(OptionError, match="without a step nothing is trained"):
        run(method=method, steps="0it")


def test_masked_programs_are_refused():
    program = sp.run(program_of(), ["weight-prune:sparsity=0.5"]).program
    with pytest.raises(PassError, match="masked or frozen already"):
        run(program=program)
