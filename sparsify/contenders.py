"""What `sparsify bench` compares: ONNX files in onnxruntime, and everything else in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sparsify.errors import InputError, UsageError, first_line
from sparsify.export.storage import size
from sparsify.inputs import batch_of, fixed_batch, parse, repeated, with_batch
from sparsify.latency import Run, onnx_run
from sparsify.load import load
from sparsify.program import Program

__all__ = ["Contender", "contender", "provider_called", "torch_run"]

_TYPES = {
    "tensor(float)": torch.float32, "tensor(double)": torch.float64, "tensor(float16)": torch.float16,
    "tensor(int64)": torch.int64, "tensor(int32)": torch.int32, "tensor(int16)": torch.int16,
    "tensor(int8)": torch.int8, "tensor(uint8)": torch.uint8, "tensor(bool)": torch.bool,
}  # fmt: skip


class Contender(Protocol):
    """A model that can be timed."""

    @property
    def name(self) -> str:
        """The file's name."""

    @property
    def runtime(self) -> str:
        """What runs it."""

    @property
    def bytes(self) -> int:
        """The size of the file."""

    @property
    def fixed(self) -> int | None:
        """The batch size that it is fixed to, if it is."""

    @property
    def masked(self) -> bool:
        """Whether it has masks, which a run applies."""

    def starting(self, batch: int, threads: int) -> Callable[[], Run]:
        """Return what loads the model, and returns what runs it once on a batch of this size."""


def contender(path: Path, inputs: str | None, *, provider: str, device: str, trust: bool) -> Contender:
    """Return a file as something that can be timed.

    Args:
        path: of the file; `.onnx` runs in onnxruntime, everything else that `sparsify.load` reads in PyTorch.
        inputs: what `--inputs` says, or None: of the file's own sizes, random.
        provider: of onnxruntime, such as CPUExecutionProvider.
        device: of PyTorch.
        trust: the file may run code.

    Raises:
        InputError: the file cannot be read.
        UsageError: the inputs do not fit it.
    """
    if path.suffix == ".onnx":
        return _Onnx.read(path, inputs, provider)
    return _Torch(path, load(path, inputs, trust=trust, device=device))


def provider_called(name: str) -> str:
    """Return onnxruntime's own name of a provider that is called `cpu`, `cuda`, `tensorrt` and so on.

    Raises:
        UsageError: this onnxruntime has no such provider.
    """
    import onnxruntime

    known: dict[str, str] = {
        full.removesuffix("ExecutionProvider").lower(): full for full in onnxruntime.get_available_providers()
    }
    found = known.get(name.lower().removesuffix("executionprovider"))
    if found is None:
        raise UsageError(f"--provider {name}: this onnxruntime has {', '.join(sorted(known))}.")
    return found


@dataclass(frozen=True)
class _Onnx:
    path: Path
    feed: Mapping[str, Tensor]
    dynamic: frozenset[str]  # inputs whose first dimension is the batch
    provider: str

    @classmethod
    def read(cls, path: Path, inputs: str | None, provider: str) -> _Onnx:
        import onnxruntime

        if not path.is_file():
            raise InputError(f"{path} cannot be opened: no such file.")
        try:
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(f"{path} cannot be loaded by onnxruntime: {first_line(error)}.") from error
        items = session.get_inputs()
        feed = _given(path, inputs, [item.name for item in items]) if inputs else _drawn(path, items)
        dynamic = frozenset(item.name for item in items if item.shape and not isinstance(item.shape[0], int))
        return cls(path, feed, dynamic, provider)

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def runtime(self) -> str:
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}, {self.provider.removesuffix('ExecutionProvider')}"

    @property
    def bytes(self) -> int:
        return size(self.path)

    @property
    def fixed(self) -> int | None:
        return None if self.dynamic else batch_of(self.feed.values())

    @property
    def masked(self) -> bool:
        return False  # they are written into the weights

    def starting(self, batch: int, threads: int) -> Callable[[], Run]:
        feed = {
            name: (repeated(value, batch) if name in self.dynamic else value).numpy()
            for name, value in self.feed.items()
        }
        return partial(onnx_run, self.path, feed, threads, self.provider)


@dataclass(frozen=True)
class _Torch:
    path: Path
    program: Program

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def runtime(self) -> str:
        return f"PyTorch {torch.__version__}"

    @property
    def bytes(self) -> int:
        files = self.path.iterdir() if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files)

    @property
    def fixed(self) -> int | None:
        return fixed_batch(self.program)

    @property
    def masked(self) -> bool:
        return bool(self.program.masks)

    def starting(self, batch: int, threads: int) -> Callable[[], Run]:
        return partial(torch_run, self.program, batch, threads)


def torch_run(program: Program, batch: int, threads: int) -> Run:
    """Make the module of a program; return what runs it once in PyTorch.

    Args:
        program: in evaluation mode, on its example again and again.
        batch: how many examples a run has, where that may vary.
        threads: how many PyTorch uses from now on.
    """
    torch.set_num_threads(threads)
    module, leaves = program.module(training=False), with_batch(program, batch)
    structure = pytree.tree_structure((program.example.args, dict(program.example.kwargs)))
    args, kwargs = pytree.tree_unflatten(leaves, structure)
    wait = torch.cuda.synchronize if any(_on_gpu(leaf) for leaf in leaves) else None

    def run() -> None:
        with torch.inference_mode():
            module(*args, **kwargs)
        if wait is not None:
            wait()

    return run


def _on_gpu(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_cuda


def _given(path: Path, inputs: str, names: list[str]) -> dict[str, Tensor]:
    """Return the inputs that a spec says, by the names of the file."""
    args, kwargs = parse(inputs)
    found = {**dict(zip(names, args, strict=False)), **kwargs}
    if len(args) > len(names) or found.keys() != set(names):
        raise UsageError(f"--inputs {inputs} does not fit {path}, whose inputs are {', '.join(names)}.")
    return found


def _drawn(path: Path, items: list[Any]) -> dict[str, Tensor]:
    """Return random inputs of a file's own sizes, a batch of one."""
    specs = []
    for item in items:
        if item.type not in _TYPES or any(not isinstance(size, int) for size in item.shape[1:]):
            shape = ", ".join(map(str, item.shape))
            raise UsageError(
                f"{path}: the input {item.name} is {item.type} [{shape}], whose sizes are not all known: give "
                f"--inputs, such as {item.name}:int64[1,128]%30522."
            )
        sizes = [size if isinstance(size, int) else 1 for size in item.shape]
        specs.append((item.name, _TYPES[item.type], sizes))
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(sizes, generator=generator).to(dtype) if dtype.is_floating_point
        else torch.ones(sizes, dtype=dtype)
        for name, dtype, sizes in specs
    }  # fmt: skip
