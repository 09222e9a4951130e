"""Passes and the manager that runs and checks them.

A pass is a frozen dataclass whose fields are its options. The manager runs a pipeline; after every pass it checks the
program and the pass's contract. One observer callback serves printing, timing, progress and the report.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Literal

from sparsify import registry, verify
from sparsify.axes.op import is_foreign, key_of
from sparsify.errors import ContractError, PassError, SparsifyError
from sparsify.program import Program
from sparsify.shapes import KnownShapes, propagate_shapes
from sparsify.task import Task

__all__ = ["Context", "Contract", "Event", "Observer", "Pass", "PassManager"]

PACKAGE = "sparsify.passes"


class Contract(Enum):
    """What a pass promises about the function that the program computes."""

    EXACT = "exact"
    """The function stays the same; the manager proves it by running both programs."""
    LOSSY = "lossy"
    """A decision: the function may change, the inputs and outputs keep their number, shapes and types."""


@dataclass(frozen=True)
class Context:
    """What a pass may use besides the program.

    Attributes:
        task: the user's data and loss, if there are any.
        seed: of everything random in a pass.
        record: what a pass tells the report, by key; values are JSON-able.
        proofs: what a pass can prove beyond its contract: each is run by the manager when it verifies, returns the
            largest relative difference that it saw, and raises ContractError.
    """

    task: Task | None = None
    seed: int = 0
    record: dict[str, Any] = field(default_factory=dict)
    proofs: list[Callable[[], float]] = field(default_factory=list)


class Pass(ABC):
    """A transformation of a program. A subclass is a frozen dataclass; its fields are its options.

    Attributes:
        contract: what it promises.
        lowers: it is about what computes, and not about which weights there are: a retraining comes before it.
    """

    contract: ClassVar[Contract]
    lowers: ClassVar[bool] = False

    @abstractmethod
    def run(self, program: Program, context: Context) -> Program:
        """Return the transformed program.

        Raises:
            PassError: it cannot be done; the message says why and what to do.
        """


@dataclass(frozen=True)
class Event:
    """Something that happened in a pipeline.

    Attributes:
        kind: what happened.
        spec: the canonical spec of the pass.
        index: its position in the pipeline, from 0.
        program: before the pass for `started`, after it otherwise.
        seconds: what the step took: the pass itself for `transformed`, the checks for `verified`.
        record: what the pass and the checks tell.
    """

    kind: Literal["started", "transformed", "verified"]
    spec: str
    index: int
    program: Program
    seconds: float = 0.0
    record: dict[str, Any] = field(default_factory=dict)


Observer = Callable[[Event], None]


class PassManager:
    """Runs passes in order and checks the program after each.

    Args:
        specs: the passes, as specs.
        observer: called with every event.
        verify: check the program and the contract after every pass.
        asked: who wants the passes, if not the user: errors name that instead of specs which nobody wrote.

    Raises:
        UsageError: a spec does not fit.
    """

    def __init__(
        self, specs: Iterable[str], observer: Observer | None = None, *, verify: bool = True, asked: str | None = None
    ) -> None:
        made = [registry.make(PACKAGE, spec) for spec in specs]
        self.passes: tuple[Pass, ...] = tuple(instance for instance, _ in made)
        self.specs: tuple[str, ...] = tuple(spec for _, spec in made)
        self._observe: Observer = observer or (lambda event: None)
        self._verify, self._asked = verify, asked

    def run(self, program: Program, *, task: Task | None = None, seed: int = 0) -> Program:
        """Run the pipeline; the program that is given is left as it is.

        Raises:
            PassError: a pass refused or left a program that cannot run.
            ContractError: a pass broke its contract.
        """
        for index, (step, spec) in enumerate(zip(self.passes, self.specs, strict=True)):
            name = spec if self._asked is None else self._asked
            try:
                program = self._step(step, spec, index, program, Context(task, seed))
            except ContractError as error:
                raise ContractError(f"{name}: {error}{_suspects(program)}") from error
            except SparsifyError as error:
                raise type(error)(f"{name}: {error}") from error
            except Exception as error:
                reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
                raise PassError(f"{spec} failed: {reason}. The program is unchanged.") from error
        return program

    def _step(self, step: Pass, spec: str, index: int, before: Program, context: Context) -> Program:
        self._observe(Event("started", spec, index, before))
        known = KnownShapes(before) if self._verify else None
        start = time.perf_counter()
        after = step.run(before, context)
        after = after.applied(spec)
        self._observe(Event("transformed", spec, index, after, time.perf_counter() - start, context.record))
        if self._verify:
            start = time.perf_counter()
            record = _verified(step, before, after, context, known)
            self._observe(Event("verified", spec, index, after, time.perf_counter() - start, record))
        else:
            propagate_shapes(after)
        return after


def _verified(
    step: Pass, before: Program, after: Program, context: Context, known: KnownShapes | None
) -> dict[str, Any]:
    verify.check(after, known)
    proved = {"proved": max(proof() for proof in context.proofs)} if context.proofs else {}
    if step.contract is Contract.EXACT:
        return {
            "contract": "exact",
            "largest_difference": verify.equivalent(before, after, seed=context.seed),
            **proved,
        }
    old, new = verify.signature(before), verify.signature(after)
    if old != new:
        raise ContractError(f"The outputs changed from {old} to {new}.")
    return {"contract": "lossy", "outputs": new, **proved}


def _suspects(program: Program) -> str:
    """Name the operators whose axis rules are not sparsify's own: one of them is the likeliest cause."""
    names = {key_of(node) for node in program.graph.nodes if node.op == "call_function"}
    foreign = sorted(name for name in names if is_foreign(name))
    return f" The axis rule of {' or '.join(foreign)} may be wrong." if foreign else ""
