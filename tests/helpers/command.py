"""The command run in this process, and a small model file to run it on."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import torch
from helpers import reports

from sparsify import cli, job, latency, speedup
from sparsify.capture import capture
from sparsify.demo_net import ResNet
from sparsify.export.archive import save

BLOCKS = ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]  # of the small network; layer2.0 changes the shape


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str


def sparsify(*words: object, debug: bool = False) -> Ran:
    """Run `sparsify WORDS` and return its exit status and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli._run([str(word) for word in words], debug)
    return Ran(status, out.getvalue(), err.getvalue())


def small_resnet() -> ResNet:
    """Four blocks for images of digits; the statistics of its batch norms are not the initial ones."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = ResNet((2, 2), (4, 8))
        model(torch.randn(16, 1, 8, 8))
    return model.eval()


def small_program():
    return capture(small_resnet(), (example(),))


def example() -> torch.Tensor:
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def write_model(folder: Path) -> Path:
    """Write the small network as an archive that carries its example input."""
    path = folder / "model.pt2"
    save(small_program(), path)
    return path


def measure_briefly(patch) -> None:
    """Let jobs measure latency for no longer than is needed to have a number."""
    patch.setattr(speedup, "compare", lambda files, inputs, **_: latency.compare(files, inputs, seconds=0))


def unmeasured(patch) -> None:
    """Let jobs take a latency from nowhere: no model is written as ONNX for it, which takes seconds."""
    patch.setattr(job, "speedup", lambda before, after, file, *, seconds: reports.latency())
