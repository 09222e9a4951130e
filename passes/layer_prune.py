"""The pass `layer-prune`: take residual blocks out of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

from sparsify.blocks import Block, blocks
from sparsify.errors import PassError, UsageError
from sparsify.naming import plural
from sparsify.observation.calibration import Calibration
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program
from sparsify.pruning.choice import chosen, made
from sparsify.pruning.scoring import block_scores
from sparsify.removal import remove
from sparsify.spec import nearest

__all__ = ["LayerPrune"]


@dataclass(frozen=True)
class LayerPrune(Pass):
    """Remove residual blocks: whole layers, or single branches such as attention or MLP.

    A block is a sum x + f(x) whose branch f has one entry and one exit; it is replaced by x, and its parameters,
    buffers and nodes are gone. Without `count`, `sparsity` or `blocks` one block is removed: the one with the lowest
    score.

    Options:
        count: how many blocks to remove.
        sparsity: which fraction of the removable, unprotected blocks to remove (rounded down).
        blocks: names of the blocks to remove, as `sparsify inspect` lists them; no criterion is used.
        criterion: what decides which blocks go; `sparsify criteria` lists them.
        granularity: layer removes all sublayers of a repeated module together, sublayer single branches.
        shortcut: keep also considers blocks whose shortcut is a projection, and drops only their branch.
        protect: names or patterns (`*.0`) of blocks that stay.
        batches: how many training batches a criterion that needs data looks at.

    Reference: Jordao et al., "When Layers Play the Lottery, all Tickets Win at Initialization", 2023;
    Men et al., "ShortGPT", 2024.
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    count: int | None = None
    sparsity: float | None = None
    blocks: tuple[str, ...] = ()
    criterion: str = "magnitude"
    granularity: Literal["layer", "sublayer"] = "layer"
    shortcut: Literal["refuse", "keep"] = "refuse"
    protect: tuple[str, ...] = ()
    batches: int = 8

    def __post_init__(self) -> None:
        given = [name for name in ("count", "sparsity", "blocks") if getattr(self, name) not in (None, ())]
        if len(given) > 1:
            raise UsageError(f"layer-prune takes one of count, sparsity and blocks, not {' and '.join(given)}.")
        if self.count is not None and self.count < 0:
            raise UsageError(f"layer-prune: count={self.count} is negative.")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise UsageError(f"layer-prune: sparsity={self.sparsity} is not in [0, 1).")
        if self.batches < 1:
            raise UsageError(f"layer-prune: batches={self.batches} is less than 1.")
        made(self.criterion)

    def run(self, program: Program, context: Context) -> Program:
        """Choose the blocks and take them out."""
        found = blocks(program, self.granularity)
        self._check_protect(found)
        chosen = self._named(found) if self.blocks else self._lowest(program, found, context)
        context.record["removed"] = [block.name for block in chosen]
        context.record["parameters_removed"] = sum(
            program.parameters[name].numel() for block in chosen for name in block.parameters
        )
        return remove(program, chosen) if chosen else program

    def _protected(self, block: Block) -> bool:
        return any(fnmatchcase(block.name, pattern) for pattern in self.protect)

    def _check_protect(self, found: Sequence[Block]) -> None:
        names = [block.name for block in found]
        for pattern in self.protect:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise PassError(
                    f"protect={pattern} matches no block at granularity={self.granularity}{nearest(pattern, names)}. "
                    "`sparsify inspect MODEL` lists the blocks."
                )

    def _may_go(self, block: Block) -> bool:
        return block.removable or (self.shortcut == "keep" and block.droppable)

    def _candidates(self, found: Sequence[Block]) -> list[Block]:
        return [block for block in found if not block.contains and self._may_go(block) and not self._protected(block)]

    def _named(self, found: Sequence[Block]) -> list[Block]:
        known = {block.name: block for block in found}
        for name in self.blocks:
            if name not in known:
                raise PassError(
                    f"There is no block {name!r} at granularity={self.granularity}{nearest(name, known)}. "
                    "`sparsify inspect MODEL` lists the blocks."
                )
            block = known[name]
            if self._protected(block):
                raise PassError(f"The block {name} is named in blocks= and protected by protect= at the same time.")
            if not self._may_go(block):
                raise PassError(f"The block {name} cannot be removed: {block.reason}.")
        return [block for block in found if block.name in self.blocks]

    def _lowest(self, program: Program, found: Sequence[Block], context: Context) -> list[Block]:
        candidates = self._candidates(found)
        count = self._count(candidates, found)
        if not count:
            if self.sparsity:
                some = f"{self.sparsity:g} of {plural(len(candidates), 'removable block')} is less than one block"
                context.record["done"] = (
                    f"removed nothing: {some if candidates else 'no unprotected block is removable'}"
                )
            return []
        calibration = Calibration(context.task, self.batches, context.seed)
        criterion = chosen(self.criterion, "blocks", program, calibration)
        scores = block_scores(program, candidates, criterion, calibration)
        context.record["scores"] = scores
        order = sorted(candidates, key=lambda block: scores[block.name])  # stable: ties go to the earlier block
        victims = {block.name for block in order[:count]}
        return [block for block in candidates if block.name in victims]

    def _count(self, candidates: Sequence[Block], found: Sequence[Block]) -> int:
        if self.sparsity is not None:
            return int(self.sparsity * len(candidates) + 1e-9)
        count = 1 if self.count is None else self.count
        if not found:
            raise PassError("The model has no residual block: no sum x + f(x) in which a branch could be dropped.")
        if count > len(candidates):
            refused = next((f" {b.name} is not removable: {b.reason}." for b in found if b.reason), "")
            kept = f" Some are protected by protect={','.join(self.protect)}." if self.protect else ""
            wanted = "1 block" if count == 1 else f"{count} blocks"
            raise PassError(
                f"{wanted} should go, but only {len(candidates)} of {len(found)} blocks are removable."
                f"{refused}{kept} `sparsify inspect MODEL` lists them with reasons."
            )
        return count
