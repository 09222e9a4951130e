"""Write back: put a smaller program's parameters into the user's own module, which then computes what the program does.

The module's code stays; what changes are its parameters, its buffers and the sizes in its attributes. Whether that is
enough is not argued but tried: the module is run beside the program, and captured again. If it fails, everything is
put back.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils import _pytree as pytree

from sparsify import verify
from sparsify.attributes import Choice, choices
from sparsify.axes import axes
from sparsify.capture import capture
from sparsify.errors import ContractError, PassError, SparsifyError
from sparsify.module_state import UNTOUCHED, Edits, matched
from sparsify.new_sizes import NewSizes
from sparsify.program import Program
from sparsify.torch_attributes import exact_attributes

__all__ = ["write_back"]

_TRIALS = 64  # times that the model is run to find out what its attributes mean


def write_back(program: Program, model: nn.Module) -> None:
    """Put the parameters and buffers of a smaller program into the model that it was captured from.

    Parameters that change become new `nn.Parameter`s with the `requires_grad` of the old ones, so an optimizer must be
    made again; tied ones stay tied, and hooks of modules stay. Masked weights are written as zeros. Attributes that
    hold sizes (`out_channels`, `num_heads`, those of a configuration) follow. The model is then run beside the program
    and captured again, so that it is known to compute the same in evaluation mode, and to be trainable if it was.

    Args:
        program: what `capture(model, ...)` gave, made smaller by passes.
        model: the model; it is changed in place, or left exactly as it was if an error is raised.

    Raises:
        CaptureError: the model does not run on the program's example.
        InputError: the program is not one of this model.
        PassError: a pass took whole layers out, or the model's code cannot take the new sizes.
        ContractError: with the new sizes the model's code computes something else than the program.
    """
    original = _captured(program, model)
    written = matched(program, original, model)
    sizes = NewSizes(axes(original), program)
    options = choices(model, sizes)
    edits = Edits()
    try:
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
    return capture(model, program.example.args, program.example.kwargs, program.dynamic_batch)


def _follow(model: nn.Module, sizes: NewSizes, edits: Edits) -> None:
    """Set the attributes of torch's own modules."""
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        found = exact_attributes(module, lambda name, dim, old, prefix=prefix: sizes.outer(prefix + name, dim, old))
        for key, value in found.items():
            if isinstance(value, list) or vars(module)[key] != value:
                edits.put(vars(module), key, value)


@dataclass(frozen=True)
class _Outcome:
    """How far a model came.

    Attributes:
        done: how many inputs came out right, and how many modules had been run for the next one.
        running: the modules that were being run when it failed, the innermost last.
        error: why it failed.
        gap: how much its outputs differ, if it did not fail.
    """

    done: tuple[float, int]
    running: tuple[nn.Module, ...] = ()
    error: Exception | None = None
    gap: float = 0.0

    @property
    def right(self) -> bool:
        return self.error is None and self.gap == 0


class _Trials:
    """Runs a model beside a program."""

    def __init__(self, program: Program, model: nn.Module) -> None:
        self._model = model
        structure = pytree.tree_structure((program.example.args, dict(program.example.kwargs)))
        self._cases = [
            (pytree.tree_unflatten(leaves, structure), verify.outputs(program, leaves))
            for leaves in verify.trial_inputs(program)
        ]

    def run(self) -> _Outcome:
        """Run the model in evaluation mode on copies of its buffers and of the inputs, until it fails."""
        for number, (inputs, expected) in enumerate(self._cases):
            buffers = {name: value.clone() for name, value in self._model.named_buffers()}
            args, kwargs = verify.copied(inputs)
            with _watched() as calls, _evaluating(self._model), torch.no_grad():
                try:
                    found = torch.func.functional_call(self._model, buffers, args, kwargs)
                except Exception as error:  # noqa: BLE001 -- whatever the user's code raises: the sizes do not fit
                    return _Outcome((number, calls.count), tuple(calls.running), error)
            if gap := _gap(expected, pytree.tree_leaves(found)):
                return _Outcome((number, calls.count), gap=gap)
        return _Outcome((float("inf"), 0))


def _gap(expected: Sequence[Any], found: Sequence[Any]) -> float:
    """Return the largest difference that rounding does not explain, or zero."""
    if len(expected) != len(found):
        return float("inf")
    gaps = [(verify.difference(a, b), verify.tolerance(a)) for a, b in zip(expected, found, strict=True)]
    return max((gap for gap, allowed in gaps if not gap <= allowed), default=0.0)


class _Calls:
    def __init__(self) -> None:
        self.count = 0
        self.running: list[nn.Module] = []

    def start(self, module: nn.Module, args: Any) -> None:
        self.running.append(module)

    def end(self, module: nn.Module, args: Any, result: Any) -> None:
        self.running.pop()
        self.count += 1


@contextmanager
def _watched() -> Iterator[_Calls]:
    """Follow which modules are run; the modules themselves are not touched."""
    calls = _Calls()
    handles = [register_module_forward_pre_hook(calls.start), register_module_forward_hook(calls.end)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    before = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, was in before.items():
            module.training = was


def _settle(program: Program, model: nn.Module, options: list[Choice], edits: Edits) -> None:
    """Choose the attributes with which the model computes what the program does: the likeliest, then others.

    Raises:
        PassError: the model cannot be run with any of them.
        ContractError: it computes something else.
    """
    trials = _Trials(program, model)
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


def _changes(options: list[Choice], picked: list[int], outcome: _Outcome) -> Iterator[tuple[tuple[int, int], ...]]:
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


def _refusal(program: Program, model: nn.Module, outcome: _Outcome) -> SparsifyError:
    """Return the error that says where the model did not do with the new sizes."""
    if outcome.error is None:
        return ContractError(
            f"With the sizes of the program, {type(model).__name__} runs but computes something else: "
            f"{_difference(program, model, outcome)} Its code derives a number from a size, such as the scale of an "
            "attention from the size of its heads, or takes channels by number. Keep such a number in an attribute, "
            f"or prune so that the size stays. {UNTOUCHED}"
        )
    names = {module: path for path, module in model.named_modules()}
    module = outcome.running[-1] if outcome.running else model
    path = names.get(module, "")
    reason = (str(outcome.error).strip().splitlines() or [type(outcome.error).__name__])[0][:300].rstrip(".")
    return PassError(
        f"{type(model).__name__} cannot take the sizes of the program: {path or 'the model'} ({type(module).__name__}) "
        f"fails{_line(outcome.error)} with {type(outcome.error).__name__}: {reason}. Its code holds a size that is in "
        "no attribute, or needs sizes to be equal. Read sizes from the shapes of weights or from attributes, or prune "
        f"so that they stay. {UNTOUCHED}"
    )


def _difference(program: Program, model: nn.Module, outcome: _Outcome) -> str:
    """Say where a model that runs differs from the program: captured again, its nodes have the same names."""
    try:
        verify.equivalent(program, _captured(program, model))
    except SparsifyError as error:
        return str(error)
    return f"the outputs differ by {outcome.gap:.2g} (relative)."


def _line(error: Exception) -> str:
    """Return the line of the user's code that an error comes from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
    own = [frame for frame in frames if frame.filename != __file__]
    return f" at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""


def _prove(program: Program, original: Program, model: nn.Module) -> None:
    """Capture the model again and compare.

    Raises:
        PassError: it cannot be captured any more as it could before.
        ContractError: its graph computes something else.
    """
    again = _captured(program, model)
    if lost := [note for note in again.notes if note not in original.notes]:
        raise PassError(f"With the sizes of the program, {type(model).__name__} lost something: {lost[0]} {UNTOUCHED}")
    verify.equivalent(program, again)
