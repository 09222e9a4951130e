"""Write back: put a smaller program's parameters into the user's own module, which then computes what the program does.

The module's code stays; what changes are its parameters, its buffers and the sizes in its attributes. Whether that is
enough is not argued but tried: the module is run beside the program, and captured again. If it fails, everything is
put back.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from sparsify import verify
from sparsify.axes import axes
from sparsify.capture import capture
from sparsify.embedding import folded
from sparsify.errors import CaptureError, ContractError, InputError, PassError, SparsifyError, first_line
from sparsify.graph import mask_nodes
from sparsify.graph_text import source_line
from sparsify.program import Program, dynamic_sizes
from sparsify.writing.attributes import Choice, choices
from sparsify.writing.module_state import UNTOUCHED, Edits, matched
from sparsify.writing.new_sizes import NewSizes
from sparsify.writing.torch_attributes import exact_attributes
from sparsify.writing.trials import Outcome, Trials

__all__ = ["write_back"]

_TRIALS = 64  # times that the model is run to find out what its attributes mean
_DERIVED = (
    "Its code derives a number from a size, such as the scale of an attention from the size of its heads, or takes "
    "channels by number. Keep such a number in an attribute, or prune so that the size stays."
)


def write_back(program: Program, model: nn.Module) -> None:
    """Put the parameters and buffers of a smaller program into the model that it was captured from.

    Parameters that change become new `nn.Parameter`s with the `requires_grad` of the old ones, so an optimizer must be
    made again; tied ones stay tied, and hooks of modules stay. Masked weights are written as zeros, frozen and embedded
    ones as they are computed. Attributes that hold sizes (`out_channels`, `num_heads`, those of a configuration)
    follow. The model is then run beside the program and captured again, so that it is known to compute the same in
    evaluation mode, and to be trainable if it was.
    Parameters that the program's example does not reach stay as they are.

    Buffers that the state dict does not hold (a table of RoPE) are pruned in memory; a model that is made again from
    its configuration computes them again, for its own sizes.

    Args:
        program: what `capture(model, ...)` gave, made smaller by passes.
        model: the model; it is changed in place, or left exactly as it was if an error is raised.

    Raises:
        CaptureError: the model does not run on the program's example.
        InputError: the program is not one of this model, or they are no program and no module.
        PassError: a pass took whole layers out, or the model's code cannot take the new sizes.
        ContractError: with the new sizes the model's code computes something else than the program.
    """
    if not (isinstance(program, Program) and isinstance(model, nn.Module)):
        raise InputError(
            f"write_back takes a program and the module that it was captured from, not {type(program).__name__} and "
            f"{type(model).__name__}."
        )
    program = folded(program)
    edits = Edits(model)
    try:
        original = _captured(program, model)
        written = matched(program, original, model)
        sizes = NewSizes(axes(original), program)
        options = choices(model, sizes)
        for (holder, key), value in written:
            edits.put(holder, key, value)
        _follow(model, sizes, edits)
        _settle(program, model, options, edits)
        _prove(program, original, model)
    except BaseException:
        edits.undo()
        raise
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()


def _captured(program: Program, model: nn.Module) -> Program:
    """Capture a model as the program was, with the same dynamic sizes."""
    dynamic = [set(dynamic_sizes(node)) for node in program.placeholders]
    return capture(model, program.example.args, program.example.kwargs, program.dynamic_batch, dynamic=dynamic)


def _follow(model: nn.Module, sizes: NewSizes, edits: Edits) -> None:
    """Set the attributes of torch's own modules."""
    for path, module in model.named_modules():

        def outer(name: str, dim: int, old: int, path: str = path) -> int:
            return sizes.outer(f"{path}.{name}" if path else name, dim, old)

        for key, value in exact_attributes(module, outer).items():
            if isinstance(value, list) or vars(module)[key] != value:
                edits.put(vars(module), key, value)


def _settle(program: Program, model: nn.Module, options: list[Choice], edits: Edits) -> None:
    """Choose the attributes with which the model computes what the program does: the likeliest, then others.

    Raises:
        PassError: the model cannot be run with any of them.
        ContractError: it computes something else.
    """
    trials = Trials(program, model)
    picked = [0] * len(options)
    for choice in options:
        choice.write(edits, 0)
    best, left = trials.run(), _TRIALS
    improved = True
    while improved and not best.right:
        improved = False
        for change in itertools.islice(_changes(options, picked, best), left):
            for index, option in change:
                options[index].write(edits, option)
            left -= 1
            if (outcome := trials.run()).done > best.done:
                best, improved = outcome, True
                for index, option in change:
                    picked[index] = option
                break
            for index, _ in change:
                options[index].write(edits, picked[index])
    if not best.right:
        raise _refusal(program, model, best)


def _changes(options: list[Choice], picked: list[int], outcome: Outcome) -> Iterator[tuple[tuple[int, int], ...]]:
    """Yield other choices: of one attribute, of two, of three; first of the modules around the one that failed."""

    def distance(index: int) -> int:
        own = [place for place, module in enumerate(reversed(outcome.running)) if module in options[index].modules]
        return 1000 if options[index].shared else min(own, default=100)

    order = sorted(range(len(options)), key=distance)
    for count in (1, 2, 3):
        for indices in itertools.combinations(order, count):
            others = [[o for o in range(len(options[i].options)) if o != picked[i]] for i in indices]
            for chosen in itertools.product(*others):
                yield tuple(zip(indices, chosen, strict=True))


def _refusal(program: Program, model: nn.Module, outcome: Outcome) -> SparsifyError:
    """Return the error that says where the model did not do with the new sizes."""
    if outcome.error is None:
        return ContractError(
            f"With the sizes of the program, {type(model).__name__} runs but computes something else: "
            f"{_difference(program, model, outcome)} {_DERIVED} {UNTOUCHED}"
        )
    names = {module: path for path, module in model.named_modules()}
    module = outcome.running[-1] if outcome.running else model
    path, reason = names.get(module, ""), first_line(outcome.error)
    return PassError(
        f"{type(model).__name__} cannot take the sizes of the program: {path or 'the model'} ({type(module).__name__}) "
        f"fails{_line(outcome.error)} with {type(outcome.error).__name__}: {reason}. Its code holds a size that is in "
        "no attribute, or needs sizes to be equal. Read sizes from the shapes of weights or from attributes, or prune "
        f"so that they stay. {UNTOUCHED}"
    )


def _difference(program: Program, model: nn.Module, outcome: Outcome) -> str:
    """Say where a model that runs differs from the program: captured again, its nodes have the same names."""
    try:
        verify.equivalent(program, _captured(program, model))
    except SparsifyError as error:
        return str(error)
    return f"the outputs differ by {outcome.gap:.2g} (relative)."


def _line(error: Exception) -> str:
    """Return the line of the user's code that an error comes from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
    own = [frame for frame in frames if Path(frame.filename).parent != Path(__file__).parent]
    return f" at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""


def _prove(program: Program, original: Program, model: nn.Module) -> None:
    """Capture the model again and compare.

    Raises:
        PassError: it cannot be captured any more as it could before.
        ContractError: its graph computes something else.
    """
    fitted = f"With the sizes of the program, {type(model).__name__}"
    try:
        again = _captured(program, model)
    except CaptureError as error:
        raise PassError(f"{fitted} can be captured no more: {error} {UNTOUCHED}") from error
    before = {note.partition(",")[0] for note in original.notes}  # what follows may name sizes
    if lost := [note for note in again.notes if note.partition(",")[0] not in before]:
        raise PassError(f"{fitted} lost something: {lost[0]} {UNTOUCHED}")
    try:
        verify.equivalent(program, again)
    except ContractError as error:
        raise ContractError(f"{fitted} is captured as something else: {error} {UNTOUCHED}") from error
    if other := _other_number(program, again):
        raise ContractError(f"{fitted} runs but computes something else: {other} {_DERIVED} {UNTOUCHED}")


def _other_number(program: Program, again: Program) -> str:
    """Compare the numbers that two graphs compute with; a model whose weights are small may hide what they do."""
    masks = set(mask_nodes(program.graph)) - set(mask_nodes(again.graph))
    ours, theirs = _by_operator(program.graph), _by_operator(again.graph)
    for operator, found in theirs.items():
        expected = [node for node in ours.get(operator, []) if node not in masks]
        if len(expected) != len(found):  # such as keys that are repeated once, which needs no operator
            continue
        for one, other in zip(expected, found, strict=True):
            old, new = _numbers(one), _numbers(other)
            if str(old) != str(new):  # not a number is itself there
                line = source_line(other) or other.name
                return f"it uses {new or 'no number'} where the program has {old or 'none'}, in {line}."
    return ""


def _by_operator(graph: fx.Graph) -> dict[torch._ops.OpOverload, list[fx.Node]]:
    found: dict[torch._ops.OpOverload, list[fx.Node]] = {}
    for node in graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            found.setdefault(node.target, []).append(node)
    return found


def _numbers(node: fx.Node) -> list[float]:
    """Return the numbers among the arguments of a node that are no sizes."""
    assert isinstance(node.target, torch._ops.OpOverload)
    kinds = (int, float) if torch.Tag.pointwise in node.target.tags else (float,)
    return [value for value in pytree.arg_tree_leaves(*node.args, **node.kwargs) if type(value) in kinds]
