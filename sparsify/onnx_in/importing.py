"""Importing: an ONNX file becomes a program that computes what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sparsify.capture import capture
from sparsify.errors import InputError
from sparsify.inputs import parse
from sparsify.naming import first_names
from sparsify.onnx_in.comparing import compare
from sparsify.onnx_in.graph import Input, graph_of
from sparsify.onnx_in.layers import with_layers
from sparsify.onnx_in.network import OnnxNetwork, folded
from sparsify.onnx_in.reading import read_model
from sparsify.onnx_in.weights import weights_of
from sparsify.program import Names, Program

__all__ = ["example_of", "read_onnx", "to_program"]

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


def read_onnx(path: Path) -> OnnxNetwork:
    """Read an ONNX file as a module, whose parameters are the weights of the file; nothing of it is executed.

    Raises:
        InputError: the file is damaged or has something that sparsify does not read.
    """
    model = read_model(path)
    try:
        graph = graph_of(model)
        graph, weights = with_layers(graph, weights_of(graph))
        return OnnxNetwork(folded(graph, weights), weights)
    except InputError as error:
        raise InputError(f"{path}: {str(error).rstrip('.')}.") from error


def example_of(network: OnnxNetwork) -> Inputs | None:
    """Return random inputs of the sizes that the file gives, a batch of two where it is open.

    None where another size is open, too: only the user knows what it may be.
    """
    specs = []
    for item in network.onnx.inputs:
        sizes = [2 if place == 0 and not isinstance(n, int) else n for place, n in enumerate(item.shape)]
        if not all(isinstance(size, int) for size in sizes):
            return None
        kind = str(item.dtype).removeprefix("torch.")
        specs.append(f"{network.arguments[item.name]}:{kind}[{','.join(map(str, sizes))}]")
    if not specs:
        return None
    kwargs = parse(",".join(specs))[1]
    return (tuple(kwargs.values()), {}) if len(kwargs) == 1 else ((), kwargs)


def to_program(network: OnnxNetwork, inputs: Inputs, path: Path, *, synthetic: bool) -> Program:
    """Capture a module that was read from a file, and compare it with onnxruntime.

    The batch, and other sizes that the file leaves open, stay symbolic.

    Args:
        network: what `read_onnx` returned.
        inputs: positional and keyword inputs; keywords may be the file's own names.
        path: of the file.
        synthetic: the inputs are random.

    Raises:
        InputError: the inputs do not fit the file, or the program computes something else than onnxruntime.
        CaptureError: torch cannot trace the module.
    """
    known = {written: name for own, name in network.arguments.items() for written in (own, "".join(own.split()))}
    args, kwargs = inputs[0], {known.get(name, name): value for name, value in inputs[1].items()}
    given = _bound(network, args, kwargs, path)
    try:
        network.check_sizes(given)
    except InputError as error:
        raise InputError(f"{path}: {str(error).rstrip('.')}.") from error
    open_sizes = {network.arguments[item.name]: _open(item) for item in network.onnx.inputs}
    order = [*list(network.arguments.values())[: len(args)], *kwargs]
    program = capture(
        network,
        args,
        kwargs,
        dynamic_batch=any(0 in dims for dims in open_sizes.values()),
        dynamic=[open_sizes[name] - {0} for name in order],
        synthetic=synthetic,
    )
    back = {argument: name for name, argument in network.arguments.items()}
    compare(program, path, back, network.onnx.outputs)
    return program.named(Names(back, network.onnx.outputs))


def _open(item: Input) -> set[int]:
    return {place for place, size in enumerate(item.shape) if not isinstance(size, int)}


def _bound(network: OnnxNetwork, args: tuple[Any, ...], kwargs: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the inputs by name, each seen to be of the type and sizes that the file wants."""
    wanted = {network.arguments[item.name]: item for item in network.onnx.inputs}
    listed = ", ".join(f"{name}:{_spec(item)}" for name, item in wanted.items())
    names = list(wanted)[: len(args)]
    unknown = [name for name in kwargs if name not in wanted]
    missing = [name for name in wanted if name not in names and name not in kwargs]
    twice = [name for name in kwargs if name in names]
    if len(args) > len(wanted) or unknown or missing or twice:
        wrong = (
            f"does not have the input {unknown[0]!r}" if unknown
            else f"needs {first_names(missing)}, too" if missing
            else f"gets {twice[0]} twice" if twice
            else f"gets {len(args)} inputs"
        )  # fmt: skip
        raise InputError(f"{path} {wrong}. Its inputs are {listed}; give them with --inputs.")
    given = {**dict(zip(names, args, strict=True)), **kwargs}
    for name, item in wanted.items():
        value = given[name]
        fits = isinstance(value, Tensor) and value.dtype == item.dtype and value.ndim == len(item.shape)
        if not fits or any(isinstance(n, int) and n != m for n, m in zip(item.shape, value.shape, strict=True)):
            found = "x".join(map(str, value.shape)) if isinstance(value, Tensor) else repr(value)
            kind = f"{str(value.dtype).removeprefix('torch.')} " if isinstance(value, Tensor) else ""
            raise InputError(
                f"{path}: the input {name} is {_spec(item)} in the file, and {kind}{found:.100} was given. Give "
                "another example, or export the model with open sizes (dynamic_shapes, dynamic_axes) to have any."
            )
    return given


def _spec(item: Input) -> str:
    sizes = ",".join("?" if size is None else str(size) for size in item.shape)
    return f"{str(item.dtype).removeprefix('torch.')}[{sizes}]"
