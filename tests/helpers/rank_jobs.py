"""What ranks do in tests; each function runs in every rank, with the same arguments."""

import io
import os
import signal
from contextlib import nullcontext

import torch
from helpers.sparse import Clusters, program_of
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from sparsify import cli, console
from sparsify.errors import InputError
from sparsify.mask_updates.deepr import Deepr
from sparsify.mask_updates.rigl import Rigl
from sparsify.mask_updates.snfs import Snfs
from sparsify.mask_updates.sr_ste import SrSte
from sparsify.parallel import sharded_module
from sparsify.parallel.batch_norm import SyncedNorms
from sparsify.parallel.ranks import joined
from sparsify.parallel.shards import read_shards, write_shards
from sparsify.parallel.strategy import parallel
from sparsify.parallel.tensors import Whole, counts, laid_out_like, local, total, whole
from sparsify.pass_manager import PassManager
from sparsify.retrain import parse_method
from sparsify.training.mask_controller import MaskController
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions
from sparsify.training.work import Work

RULES = {"rigl": lambda: Rigl(every=4), "snfs": lambda: Snfs(every=4), "deepr": Deepr, "sr-ste": SrSte}
CASES = (*RULES, "compact", "dense", "adamw")


def in_small_pieces():
    sharded_module._LEAST = 200


def of_exchanges():
    with joined("cpu") as ranks:
        found = {"rank": ranks.rank, "size": ranks.size, "leads": ranks.leads}
        found["led"] = ranks.led(os.getpid)
        found["same"] = ranks.same(3), ranks.same(ranks.rank)
        found["summed"] = ranks.summed(1.5, ranks.rank)
        value = torch.arange(4.0)
        found["differing"] = ranks.differing({"one": value, "two": value + 1e-6 * ranks.rank})
        try:
            ranks.led(_fails)
        except Exception as error:  # noqa: BLE001 -- the test looks at it
            found["failed"] = type(error).__name__, str(error)
        return found


def _fails():
    raise InputError("the disk is full.")


def of_tensors():
    with parallel("fsdp") as spread:
        given = torch.arange(15.0).reshape(5, 3)
        sharded = laid_out_like(given, spread.empty((5, 3), torch.float32))
        mask = laid_out_like(given % 2 == 0, sharded)
        seen = Whole({"w": sharded}, written=True)
        seen["w"][4] += 1
        seen.write_back()
        return {
            "rows": len(local(sharded)), "whole": whole(sharded), "counts": counts({"a": mask, "b": ~mask}),
            "total": int(total(local(mask).sum(), mask)), "unwritten": Whole({"w": sharded})["w"] is not None,
        }  # fmt: skip


def of_norms(values, upstream, weights):
    """Return the outputs, the gradients and the running statistics of a batch norm over unequal shares."""
    with joined("cpu") as ranks:
        norms = SyncedNorms()
        norms.weight = weights[ranks.rank]
        value = values[ranks.rank].clone().requires_grad_()
        scale, mean, variance = torch.full((3,), 1.5), torch.zeros(3), torch.ones(3)
        made = norms._normalised(value, scale, scale - 1, mean, variance, True, 0.1, 1e-5, False)
        made.backward(upstream[ranks.rank])
        return made.detach(), value.grad, mean, variance


def of_shards(folder, write):
    with parallel("fsdp") as spread:
        like = spread.empty((5, 3), torch.float32)
        if write:
            value = laid_out_like(torch.arange(15.0).reshape(5, 3), like)
            write_shards(folder, {"/module/w": value, "/sparse/masks/w": laid_out_like(whole(value) > 4, like)})
        found = read_shards(folder, spread.empty)
        return {name: whole(value) for name, value in found.items()}


def of_case(name, spread):
    """Train a program in some way, audited; return its losses, its state and its masks."""
    in_small_pieces()
    program = program_of(norm=name != "adamw")
    sparse = "pattern=2:4" if name == "sr-ste" else "sparsity=0.7"
    if name != "dense":
        program = PassManager([f"weight-prune:{sparse}"]).run(program)
    more = {"optimizer": "adamw", "learning_rate": 0.01, "clip": 0.5} if name == "adamw" else {"learning_rate": 0.05}
    options = TrainOptions(steps="14it", score_every="7it", audit=True, compact=name == "compact", **more)
    rule = RULES[name]() if name in RULES else None
    done = train(program, Odd(7 if name != "adamw" else 1), options, rule=rule, parallel=spread)
    state = {**done.program.parameters, **done.program.buffers}
    return done.losses, {key: value.detach() for key, value in state.items()}, done.curve, done.exchanges


def of_cases(parallelism):
    with parallel(parallelism) as spread:
        return {name: of_case(name, spread) for name in CASES}


class Odd(Clusters):
    """Batches of odd sizes: shares are unequal, and of the least, some ranks may have none."""

    def __init__(self, least):
        self._sizes = [31, 2 * least, least, 32] * 2

    def batches(self, split, *, seed=0):
        found = super().batches(split, seed=seed)
        sizes = self._sizes if split == "train" else [32] * 8
        return [(x[:size], y[:size]) for (x, y), size in zip(found, sizes, strict=True)]


class Drawn(Clusters):
    """Draws noise from torch's global generator for each batch, when it is asked for it."""

    def batches(self, split, *, seed=0):
        for x, y in super().batches(split, seed=seed):
            yield x + torch.randn_like(x), y


class Padded(Clusters):
    """Has a loss that is the mean over some of the examples."""

    def batches(self, split, *, seed=0):
        return [(x, torch.where(torch.arange(32) % 5 < torch.arange(32) // 8, y, -100))
                for x, y in super().batches(split, seed=seed)]  # fmt: skip

    def count(self, batch):
        return int((batch[1] >= 0).sum())


class Own(Clusters):
    """Shuffles with a generator that does not follow the seed."""

    def batches(self, split, *, seed=0):
        order = torch.randperm(8, generator=torch.Generator().manual_seed(int(os.environ["RANK"])))
        found = super().batches(split, seed=seed)
        return [found[number] for number in order]


class Uneven(Clusters):
    """Has fewer batches in some processes."""

    def batches(self, split, *, seed=0):
        found = super().batches(split, seed=seed)
        return found[: 3 if os.environ["RANK"] == "1" else 8]


def of_a_task(name, parallelism):
    """Train on a task of this file; return losses and parameters."""
    with parallel(parallelism) as spread:
        options = TrainOptions(steps="10it", learning_rate=0.05)
        done = train(program_of(), globals()[name](), options, parallel=spread)
        return done.losses, {name: value.detach() for name, value in done.program.parameters.items()}


def of_a_retraining(folder, parallelism, ends):
    """Retrain in a folder; at a step, a rank kills itself."""
    in_small_pieces()

    def step(event):
        if ends is not None and (int(os.environ["RANK"]), event.step) == ends:
            os.kill(os.getpid(), signal.SIGKILL)

    with parallel(parallelism) as spread:
        work = Work(folder, {"a": 1}, seconds=0, on_step=step, parallel=spread)
        method, _ = parse_method("dst:method=rigl,sparsity=0.7,every=4it,steps=14it,learning_rate=0.05")
        done = method.retrain(program_of(norm=True), Clusters(), seed=0, work=work)
        work.close()
        return done.losses, {name: mask.clone() for name, mask in done.program.masks.items()}


def of_command(words):
    """Run the command; return its exit status and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    console.out = cli.out = console.Console(file=out, quiet=bool(console.rank()), width=120)
    cli.err = console.Console(file=err, width=120)
    try:
        cli.main(words)
    except SystemExit as error:
        return error.code, out.getvalue(), err.getvalue()


def of_own_loop(ranks):
    """Train a module that the user has sharded, with masks; return its weights, and how many slots are alive."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4))
    masks = {name: torch.rand(value.shape) < 0.4 for name, value in model.named_parameters() if value.dim() > 1}
    with joined("cpu") if ranks else nullcontext():
        if ranks:
            mesh = init_device_mesh("cpu", (ranks,))
            for part in (model[0], model[2], model):
                fully_shard(part, mesh=mesh)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, foreach=True)
        controller = MaskController(masks, audit=True).attach(optimizer, model)
        for batch in Clusters().batches("train"):
            optimizer.zero_grad()
            Clusters().loss(model, batch).backward()  # every rank sees the whole batch
            optimizer.step()
        controller.check()
        return {name: whole(value.detach()) for name, value in model.named_parameters()}, masks
