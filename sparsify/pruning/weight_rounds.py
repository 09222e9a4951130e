"""Rounds: weights are scored, some go, and those that are left are scored again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from torch import Tensor

from sparsify.criteria import Criterion
from sparsify.masking import masked
from sparsify.observation.calibration import Calibration
from sparsify.program import Program
from sparsify.pruning.ranking import Scored
from sparsify.pruning.weight_scores import weight_scores

__all__ = ["Choose", "in_rounds"]

Choose: TypeAlias = Callable[[Iterator[Scored], float | None, Mapping[str, Tensor]], dict[str, Tensor]]
"""Makes the masks of a round from the scores, the sparsity behind it, and the masks of what must not come back."""


def in_rounds(
    program: Program,
    names: Sequence[str],
    criterion: Criterion,
    calibration: Calibration,
    *,
    shares: Sequence[float | None],
    choose: Choose,
) -> Mapping[str, Tensor]:
    """Prune in rounds, and return the masks behind the last one.

    Args:
        program: masks that it has stay.
        names: of the weights.
        criterion: scores what is left in each round; one that lets weights regrow, what there was before the first.
        calibration: the data.
        shares: the sparsity behind each round; None where something else says it.
        choose: makes the masks of a round.

    Raises:
        PassError: a score is not finite, or the criterion has none for a parameter.
    """
    before = {name: mask for name, mask in program.masks.items() if name in names}
    masks: Mapping[str, Tensor] = before
    for share in shares:
        current = program if masks is before else masked(program, masks)
        gone = before if criterion.regrow else masks
        masks = choose(weight_scores(current, list(names), criterion, calibration, gone), share, gone)
    return masks
