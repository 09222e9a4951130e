"""Compact training: the masked run, bit for bit, with vectors in the place of weights, gradients and slots."""

import copy
import gc
import weakref
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

import sparsify as sp
from sparsify.embedding import Embedding, embedded, embedded_names
from sparsify.errors import OptionError, UsageError
from sparsify.kernels.seeded import seeded
from sparsify.mask_updates.rigl import Rigl
from sparsify.mask_updates.static import Static
from sparsify.masking import masked
from sparsify.task import Score
from sparsify.training.checkpoints import Checkpoints
from sparsify.training.compact import CompactTraining
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions

OPTIONS = TrainOptions("12it", learning_rate=0.02, weight_decay=0.1, warmup="3it", score_every="5it")


class Tied(nn.Module):
    """Words are embedded, mixed in place, read again by the table they came from."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(23, 12)
        self.mix = nn.Linear(12, 12)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 23, bias=False)
        self.head.weight = self.table.weight

    def forward(self, words: Tensor) -> Tensor:
        x = self.table(words)
        x = self.norm(x + nn.functional.gelu(self.mix(x)))
        return self.head(x.relu_())[:, -1]


class Recurrent(nn.Module):
    """An LSTM, whose weights every step of the sequence reads."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 10, batch_first=True)
        self.head = nn.Linear(10, 23)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 7, 3, padding=1), nn.BatchNorm2d(7), nn.ReLU(inplace=True), nn.Conv2d(7, 14, 3, groups=7),
        nn.GELU(), nn.ConvTranspose2d(14, 5, 3), nn.Flatten(), nn.Dropout(0.1), nn.Linear(405, 23),
    ).to(memory_format=torch.channels_last)  # fmt: skip


NETWORKS = {
    "convolutions": (convolutional, lambda g: torch.randn(8, 3, 9, 9, generator=g)),
    "tied weights": (Tied, lambda g: torch.randint(23, (8, 7), generator=g)),
    "recurrent": (Recurrent, lambda g: torch.randn(8, 4, 6, generator=g)),
    "perceptron": (lambda: nn.Sequential(nn.Linear(11, 37), nn.Tanh(), nn.Linear(37, 23)),
                   lambda g: torch.randn(8, 11, generator=g)),
}  # fmt: skip


@dataclass
class Labels:
    """Random inputs of a kind with random labels."""

    kind: str
    name: str = "labels"

    def batches(self, split, *, seed=0):
        generator = torch.Generator().manual_seed(seed)
        made = NETWORKS[self.kind][1]
        return [(made(generator), torch.randint(23, (8,), generator=generator)) for _ in range(3)]

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def score(self, model):
        with torch.no_grad():
            return Score(-float(self.loss(model, self.batches("test", seed=9)[0])), "loss", 8)


def dense(kind):
    torch.manual_seed(0)
    return sp.capture(NETWORKS[kind][0](), (Labels(kind).batches("train")[0][0][:2],))


def pruned(kind="perceptron", sparsity=0.7):
    return sp.run(dense(kind), [f"weight-prune:sparsity={sparsity},allocation=erk"]).program


def frozen(program, names, seed=None):
    """Return a program in which some weights are `where(mask, weight, base)`."""
    made, trained, fixed = {}, {}, {}
    for name in names:
        weight = program.parameters[name].detach()
        fixed[f"{name}_mask"] = mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(3)) < 0.3
        trained[name] = torch.where(mask, weight, 0.0)
        if seed is None:
            fixed[f"{name}_base"] = weight.clone()
            made[name] = Embedding(lambda w, m, b: torch.where(m, w, b), (name, f"{name}_mask", f"{name}_base"))
        else:
            fixed["seed"] = torch.tensor(seed)
            made[name] = Embedding(_drawn, (name, f"{name}_mask", "seed"))
    return embedded(program, made, trainable=trained, fixed=fixed)


def _drawn(weight, mask, seed):
    return torch.where(mask, weight, seeded(seed, 1, list(weight.shape), "uniform", 0.2))


def tensors(program):
    return {**program.parameters, **program.buffers}


def same(one, two):
    assert list(one.parameters) == list(two.parameters)
    assert list(one.buffers) == list(two.buffers)
    assert all(value.requires_grad == two.parameters[name].requires_grad for name, value in one.parameters.items())
    assert all(value.stride() == tensors(two)[name].stride() for name, value in tensors(one).items())
    assert str(one) == str(two)
    return all(torch.equal(value, tensors(two)[name]) for name, value in tensors(one).items())


def both(program, options=OPTIONS, kind="perceptron", **more):
    return (train(program, Labels(kind), replace(options, compact=compact), **more) for compact in (False, True))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_it_is_the_masked_run_bit_for_bit(kind, optimizer):
    whole, compact = both(pruned(kind), replace(OPTIONS, optimizer=optimizer), kind)
    assert whole.losses == compact.losses
    assert whole.curve == compact.curve
    assert whole.itop == compact.itop
    assert same(whole.program, compact.program)
    assert len(set(whole.losses)) == 12


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize(
    ("kind", "names"), [("convolutions", ["0.weight", "8.weight"]), ("tied weights", ["mix.weight", "table.weight"])]
)
def test_frozen_weights_are_made_of_their_base_again(kind, names, seed, optimizer):
    program = frozen(dense(kind), names, seed)
    assert set(program.frozen) == set(names) == set(embedded_names(program))
    whole, compact = both(program, replace(OPTIONS, optimizer=optimizer), kind)
    assert whole.losses == compact.losses
    assert same(whole.program, compact.program)


def test_masked_and_frozen_weights_go_together():
    program = frozen(pruned("convolutions"), ["1.weight"])
    program = masked(program, {"1.bias": torch.arange(7) % 2 == 0})
    program.parameters["0.weight"].requires_grad_(False)
    whole, compact = both(program, kind="convolutions")
    assert whole.losses == compact.losses
    assert same(whole.program, compact.program)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_clipped_norm_differs_in_its_last_bits_only(optimizer):
    whole, compact = both(pruned(), replace(OPTIONS, optimizer=optimizer, clip=0.1))
    # The norm adds up the same squares in another order: a few units in the last place, which the steps carry on.
    torch.testing.assert_close(torch.tensor(whole.losses), torch.tensor(compact.losses), rtol=1e-5, atol=0)
    for name, value in whole.program.parameters.items():
        torch.testing.assert_close(value, compact.program.parameters[name], rtol=1e-4, atol=1e-6)


def test_it_computes_in_16_bits_too():
    options = replace(OPTIONS, precision="bf16", score_every="0it")
    whole, compact = both(pruned("convolutions"), options, "convolutions")
    assert whole.losses == compact.losses
    assert same(whole.program, compact.program)


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_parameters_gradients_and_slots_have_the_kept_values_alone(sparsity, optimizer):
    program = pruned("tied weights", sparsity)
    found = []

    class Looking(Labels):
        def loss(self, model, batch):
            loss = super().loss(model, batch)
            for name, parameter in model.named_parameters():
                parameter.register_post_accumulate_grad_hook(
                    lambda p, name=name: found.append((name, p, p.grad.numel()))
                )
            return loss

    path = []
    options = replace(OPTIONS, steps="1it", warmup="0it", optimizer=optimizer, compact=True, score_every="0it")
    train(program, Looking("tied weights"), options, on_step=lambda event: path.append(event.module))
    masks = program.masks
    assert {name for name, _, _ in found} == set(program.parameters)
    for name, parameter, gradient in found:
        wanted = int(masks[name].sum()) if name in masks else program.parameters[name].numel()
        assert parameter.numel() == gradient
        assert wanted <= parameter.numel() < wanted + 16
    assert not [name for name, _ in path[0].named_buffers() if name.endswith("_mask")]


def test_no_whole_weight_lives_between_the_passes():
    sizes = []

    class Looking(Labels):
        def loss(self, model, batch):
            before = _alive(37 * 11)
            loss = super().loss(model, batch)
            sizes.append(_alive(37 * 11) - before)
            return loss

    programs = [pruned()]
    train(
        programs.pop(),
        Looking("perceptron"),
        replace(OPTIONS, steps="2it", warmup="0it", compact=True, score_every="0it"),
    )
    assert sizes == [0, 0]


def _alive(count):
    """Return how many tensors of so many values Python knows of; those that autograd keeps are looked at, too."""
    gc.collect()
    return sum(type(value) in (Tensor, nn.Parameter) and value.numel() == count for value in gc.get_objects())


def test_the_training_does_not_hold_the_program():
    programs = [pruned()]
    whole = weakref.ref(programs[0].parameters["0.weight"])
    mask = weakref.ref(programs[0].masks["0.weight"])
    training = CompactTraining(programs.pop(), None, 0)
    gc.collect()  # modules of the capture and the pass know their graphs, which know them
    assert (whole(), mask()) == (None, None)
    assert training.density == pytest.approx(0.3, abs=0.01)


def test_a_listener_takes_whole_copies_on_the_way():
    program, copies = pruned(), []
    options = replace(OPTIONS, compact=True)

    def listen(event):
        copies.append((program.with_state(event.module), program.with_state(copy.deepcopy(event.module))))

    trained = train(program, Labels("perceptron"), options, on_step=listen)
    assert same(copies[-1][0], trained.program)
    assert same(copies[-1][1], trained.program)
    assert not same(copies[0][0], trained.program)


@pytest.mark.parametrize("freeze", [False, True])
def test_a_checkpoint_is_small_and_goes_on(tmp_path, freeze):
    kind = "perceptron"
    program = frozen(dense(kind), ["0.weight", "2.weight"], 5) if freeze else pruned(kind, 0.9)
    options = replace(OPTIONS, optimizer="adamw", compact=True)
    straight = train(program, Labels(kind), options)
    first = train(program, Labels(kind), options, span=(0, 7), checkpoints=Checkpoints(tmp_path / "c", 0.0))
    assert first.losses == straight.losses[:7]
    resumed = train(program, Labels(kind), options, checkpoints=Checkpoints(tmp_path / "c", 0.0))
    assert resumed.losses == straight.losses
    assert same(resumed.program, straight.program)


def test_bytes_of_checkpoints(tmp_path):
    wide = sp.capture(nn.Sequential(nn.Linear(11, 512), nn.Tanh(), nn.Linear(512, 23)), (torch.randn(2, 11),))
    wide = sp.run(wide, ["weight-prune:sparsity=0.9,allocation=erk"]).program
    sizes = []
    for compact in (False, True):
        store = Checkpoints(tmp_path / str(compact), 0.0)
        train(wide, Labels("perceptron"), replace(OPTIONS, optimizer="adamw", compact=compact), checkpoints=store)
        sizes.append(store.newest.stat().st_size)
    assert sizes[1] < 0.25 * sizes[0]


def test_nothing_is_left_of_a_layer():
    program = masked(pruned(), {"0.weight": torch.zeros(37, 11, dtype=torch.bool)})
    whole, compact = both(program, replace(OPTIONS, optimizer="adamw"))
    assert whole.losses == compact.losses
    assert same(whole.program, compact.program)


def test_masks_that_stay_are_a_rule_too():
    whole, compact = both(pruned(), rule=Static())
    assert same(whole.program, compact.program)


def test_a_rule_that_changes_masks_is_refused():
    with pytest.raises(OptionError, match=r"cannot change masks, as the rule Rigl does\. .*dst:method=static"):
        train(pruned(), Labels("perceptron"), replace(OPTIONS, compact=True), rule=Rigl(every=4))


def test_without_masks_there_is_nothing_to_leave_out():
    with pytest.raises(OptionError, match=r"no weight is masked or frozen\. Put a pass before it .* weight-prune"):
        train(dense("perceptron"), Labels("perceptron"), replace(OPTIONS, compact=True))


def test_a_base_that_is_trained_cannot_be_made_again():
    program = dense("perceptron")
    mask = torch.rand(37, 11) < 0.5
    made = Embedding(lambda w, m, b: torch.where(m, w, b * 2), ("0.weight", "mask", "other"))
    other = embedded(program, {"0.weight": made}, trainable={"other": torch.randn(37, 11)}, fixed={"mask": mask})
    with pytest.raises(OptionError, match=r"the frozen values of 0\.weight again, but they are not made of buffers"):
        train(other, Labels("perceptron"), replace(OPTIONS, compact=True))


def test_it_does_not_go_with_compile():
    with pytest.raises(UsageError, match=r"compile=yes keeps whole weights"):
        TrainOptions(compact=True, compile=True)
