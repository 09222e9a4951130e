"""Capture: an nn.Module and example inputs become a Program.

The model is exported in training mode with a symbolic batch dimension, so that one graph serves training and
evaluation at any batch size. Before a program is returned, its evaluation form has been run beside the model on the
example and gave the same bits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from sparsify import verify
from sparsify.errors import CaptureError, SparsifyError
from sparsify.modes import has_noise, in_mode, switch_on_training
from sparsify.normalize import normalize, tied_names
from sparsify.program import PROVENANCE, Example, Program, dynamic_sizes
from sparsify.tracing import batch_dims, batched, export

__all__ = ["capture", "from_exported"]

_LONGEST = 300  # characters of a foreign error message

_STATIC_NOTE = "The model fixes its batch size: the program only runs at the batch size of the example."
_SIZE_NOTE = "The model fixes a size that should be dynamic: the program only runs at that size of the example."
_FIXED_NOTE = (
    "The file fixes the batch size: the program only runs at that of its example. Export the model with "
    "dynamic_shapes, or with sparsify.capture and sparsify.save, to have any."
)
_EXPORTED_NOTE = (
    "The file was exported in evaluation mode. Dropout and batch statistics are switched on again when this program is "
    "trained; what exists only in training (stochastic depth, branches on `self.training`) is lost."
)
_NOISE_NOTE = (
    "The file computes random factors, which are taken for stochastic depth and left out in evaluation. "
    "Export it in evaluation mode if they are not."
)
_EVAL_NOTE = (
    "Captured in evaluation mode, because {why}. What exists only in training (stochastic depth, layer drop, "
    "branches on `self.training`) is lost when this program is trained."
)


def capture(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_batch: bool = True,
    *,
    dynamic: Sequence[Collection[int]] | Mapping[str, Collection[int]] = (),
    synthetic: bool = False,
) -> Program:
    """Turn a model into a program. The model is not changed; the program shares its tensors.

    Args:
        model: any module that torch.export can export.
        args: positional example inputs; tensors have their batch in the first dimension.
        kwargs: keyword example inputs.
        dynamic_batch: keep the batch size symbolic; when the model fixes it, the program carries a note.
        dynamic: further dimensions to keep symbolic, such as the length of a sequence: for every input tensor,
            positional ones first (`[{1}]`), or by keyword (`{"input_ids": {1}}`). When the model fixes one, the program
            carries a note.
        synthetic: the example's values are random, so that nothing may be measured on them.

    Raises:
        CaptureError: args is no tuple; the model does not run on the example, cannot be exported in either mode, or
            computes something that its graph does not.
    """
    if not isinstance(model, nn.Module):
        raise CaptureError(f"capture needs a torch.nn.Module, not {type(model).__name__}.")
    if not isinstance(args, tuple | list):
        raise CaptureError(f"args must be a tuple: (images,), not {type(args).__name__}; inputs by name are kwargs.")
    example = Example(tuple(args), dict(kwargs or {}), synthetic)
    further = _by_input(example, dynamic) if isinstance(dynamic, Mapping) else dynamic
    wishes = _wishes(example, dynamic_batch, further)
    with _slow_path():
        expected = _reference(model, example)
        problems: list[str] = []
        for training in (True, False):
            try:
                program = _attempt(model, example, expected, training, wishes)
            except Exception as error:  # noqa: BLE001 -- torch.export raises errors of a dozen unrelated classes
                problems.append(_reason(error))
                continue
            if not training:
                program = program.noted(_EVAL_NOTE.format(why=problems[0]))
            if dynamic_batch and not program.dynamic_batch and bool(batched(example.leaves())):
                return program.noted(_STATIC_NOTE)
            lost = [
                set(dims).difference(dynamic_sizes(node))
                for dims, node in zip(further, program.placeholders, strict=False)
            ]
            return program.noted(_SIZE_NOTE) if any(lost) else program
        if not verify.same_bits(_reference(model, example), expected):
            problems = ["it computes something random in evaluation mode, so nothing could be proven about it"]
    reasons = " In evaluation mode: ".join(f"{problem}." for problem in dict.fromkeys(problems))
    raise CaptureError(f"{type(model).__name__} cannot be captured: {reasons}")


def _by_input(example: Example, dynamic: Mapping[str, Collection[int]]) -> list[Collection[int]]:
    """Order dimensions that are given by keyword as the inputs are."""
    if unknown := [name for name in dynamic if not isinstance(example.kwargs.get(name), Tensor)]:
        known = ", ".join(name for name, value in example.kwargs.items() if isinstance(value, Tensor))
        raise CaptureError(f"dynamic names {unknown[0]!r}, which is no keyword input that is a tensor ({known}).")
    args, kwargs = pytree.tree_map(lambda _: frozenset(), (example.args, dict(example.kwargs)))
    return pytree.tree_leaves((args, {**kwargs, **{name: frozenset(dims) for name, dims in dynamic.items()}}))


def _wishes(example: Example, batch: bool, further: Sequence[Collection[int]]) -> list[list[set[int]]]:
    """Return which dimensions of every input should be symbolic: all that are wanted, and if not, the batch alone."""
    leaves = example.leaves()
    if further and len(further) != len(leaves):
        raise CaptureError(f"dynamic names the dimensions of {len(further)} inputs; the example has {len(leaves)}.")
    for leaf, dims in zip(leaves, further, strict=False):  # there may be none
        if wrong := [dim for dim in dims if dim not in range(leaf.ndim if isinstance(leaf, Tensor) else 0)]:
            raise CaptureError(
                f"dynamic names dimension {wrong[0]!r} of an input that does not have it: {_shape(leaf)}."
            )
    first = batch_dims(example) if batch else [set() for _ in leaves]
    every = [own | set(more) for own, more in zip(first, further, strict=True)] if further else first
    return [wish for wish in ([every] if every == first else [every, first]) if any(wish)]


def _shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else repr(value)


def _attempt(
    model: nn.Module, example: Example, expected: list[Any], training: bool, wishes: list[list[set[int]]]
) -> Program:
    for wish in [*wishes, []]:
        with in_mode(model, training):
            exported = export(model, example, wish)
        program, _ = _build(exported, example)
        if not verify.same_bits(verify.outputs(program), expected):
            mode = "training" if training else "evaluation"
            raise CaptureError(f"the graph of the {mode} mode does not reproduce the model's evaluation output")
        if not any(map(dynamic_sizes, program.placeholders)) or _any_size(model, program):
            break
    return program


def _any_size(model: nn.Module, program: Program) -> bool:
    """Try model and program at other sizes: a model can test a size, divide it or have it in its constants."""
    *_, leaves = verify.trial_inputs(program)
    args, kwargs = pytree.tree_unflatten(
        leaves, pytree.tree_structure((program.example.args, dict(program.example.kwargs)))
    )
    try:
        expected = _reference(model, Example(args, kwargs))
        found = verify.outputs(program, leaves)
    except Exception:  # noqa: BLE001 -- whatever it is: these sizes do not work
        return False
    pairs = zip(found, expected, strict=True)
    return all(verify.difference(other, one) <= verify.tolerance(one) for other, one in pairs)


@contextmanager
def _slow_path() -> Iterator[None]:
    """Keep torch's fused encoder layers out: they exist only without gradients and round differently."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def from_exported(exported: ExportedProgram) -> Program:
    """Turn a program that torch.export made into a Program; its example inputs come along.

    Raises:
        CaptureError: the exported program has no example inputs.
    """
    if exported.example_inputs is None:
        raise CaptureError("The exported program carries no example inputs; export it again with torch.export.export.")
    args, kwargs = exported.example_inputs
    program, switched_on = _build(exported, Example(tuple(args), dict(kwargs)))
    if not program.dynamic_batch and batched(program.example.leaves()):
        program = program.noted(_FIXED_NOTE)
    provenance = exported.graph_module.meta.get(PROVENANCE)
    if provenance is not None:  # written by sparsify, which has compared it with the model
        return program.with_provenance(provenance)
    if not switched_on:
        return program.noted(_NOISE_NOTE) if has_noise(program.graph) else program
    with torch.no_grad():
        inputs, keywords = verify.copied((args, kwargs))
        expected = pytree.tree_leaves(exported.module(check_guards=False)(*inputs, **keywords))
    if not verify.same_bits(verify.outputs(program), expected):
        raise CaptureError("The exported program computes something random, so nothing could be proven about it.")
    return program.noted(_EXPORTED_NOTE)


def _build(exported: ExportedProgram, example: Example) -> tuple[Program, bool]:
    """Return the program, and whether it was exported in evaluation mode, so that training had to be switched on."""
    module = exported.module(check_guards=False)
    aliases = tied_names(
        [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    )
    graph = normalize(module, aliases)
    switched_on = switch_on_training(graph)
    names = {node.target for node in graph.nodes if node.op == "get_attr"}
    parameters = {name: value for name, value in module.named_parameters() if name in names}
    buffers = {name: value for name in names - set(parameters) if isinstance(value := _find(module, name), Tensor)}
    signature = exported.graph_signature
    stored = set(signature.buffers) - set(signature.non_persistent_buffers)
    persistent = {aliases.get(name, name) for name in stored}
    program = Program(
        graph=graph,
        parameters=parameters,
        buffers={name: buffers[name] for name in sorted(buffers)},
        example=example,
        aliases={alias: name for alias, name in aliases.items() if name in names},
        transient=frozenset(set(buffers) - persistent),
    )
    return program.with_graph(graph), switched_on


def _find(module: nn.Module, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _reference(model: nn.Module, example: Example) -> list[Any]:
    """Run the user's model in evaluation mode on copies of its buffers and inputs."""
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    with in_mode(model, False), torch.no_grad():
        try:
            args, kwargs = verify.copied((example.args, dict(example.kwargs)))
            output = torch.func.functional_call(model, buffers, args, kwargs)
        except Exception as error:
            raise CaptureError(
                f"{type(model).__name__} does not run on the example input: {_reason(error)}. "
                "Check the number, names, shapes and types of the inputs."
            ) from error
    return pytree.tree_leaves(output)


def _reason(error: Exception) -> str:
    """Return the first telling line of an error, without the advice that torch.export appends for its developers."""
    if isinstance(error, SparsifyError):
        return str(error).rstrip(".")
    if "register a pytree" in str(error):
        return (
            "it returns an object that is not made of tensors, lists, tuples and dictionaries, such as a cache. Leave "
            "it out (for models of transformers: model.config.use_cache = False) or register its class with "
            "torch.utils._pytree.register_dataclass"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    text = lines[0] if len(lines[0]) <= _LONGEST else f"{lines[0][:_LONGEST].rpartition(' ')[0]} ..."
    return f"{type(error).__name__}: {text.rstrip('.')}"
