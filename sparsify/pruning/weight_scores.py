"""Scores of single weights: each layer's in turn, in pieces where that can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from sparsify.criteria import Criterion, WeightStats
from sparsify.errors import PassError
from sparsify.layers import layers
from sparsify.masking import baked
from sparsify.measuring import Measured, collect, portions
from sparsify.naming import first_names, module_of
from sparsify.observation.calibration import Calibration
from sparsify.observation.subject import Subject
from sparsify.program import Program
from sparsify.pruning.ranking import Scored

__all__ = ["BUDGET", "dense_scores", "weight_scores"]

BUDGET = 2 << 30  # bytes that statistics of one run over the data may take
_PIECE = 1 << 20  # weights


def weight_scores(
    program: Program,
    names: Sequence[str],
    criterion: Criterion,
    calibration: Calibration,
    gone: Mapping[str, Tensor],
) -> Iterator[Scored]:
    """Score the weights of some parameters, one parameter after the other.

    Statistics that do not fit into the budget together are collected in several runs over the data.

    Args:
        program: with the masks under which statistics are taken.
        names: of the parameters.
        criterion: what scores.
        calibration: the data.
        gone: masks of the weights that must not come back: where they are False the score is minus infinity. A weight
            that the program masks and these do not is scored with its own value.

    Raises:
        PassError: a score is not finite, or the criterion has none for a parameter.
    """
    # A weight that may return is a zero without a mask: behind a mask it has no gradient.
    subject = Subject(baked(program) if criterion.regrow else program, calibration, names)
    for part in portions(subject, criterion.needs, BUDGET):
        measured = collect(part, criterion.needs)
        _check_known(program, names, [name for name in part.parameters if not measured.knows(name, criterion.needs)])
        for name in part.parameters:
            yield _scored(name, partial(_stats, program, measured, criterion, gone, name), criterion, gone.get(name))
        del measured  # before the next run collects its own


def dense_scores(scored: Scored, shape: Sequence[int]) -> Tensor:
    """Return scores as one tensor of the weight's shape, at least in float32."""
    scores = torch.cat(list(scored.pieces())).view(tuple(shape))
    return scores if scores.dtype == torch.float64 else scores.float()


def _check_known(program: Program, asked: Sequence[str], unknown: Sequence[str]) -> None:
    if not unknown:
        return
    frozen = [name for name in unknown if not program.parameters[name].requires_grad]
    names = frozen or unknown
    inside = {layer.parameter for layer in layers(program) if layer.rows is None}
    why = "what it looks at is not there" + (" (states inside a recurrent layer)" if inside & set(names) else "")
    why = "frozen (without a gradient)" if frozen else why
    if len(unknown) == len(asked) and not frozen:
        raise PassError(
            f"The criterion has no score for any weight, such as {first_names(names)}: {why}. Take another criterion, "
            "such as magnitude."
        )
    modules = Counter(map(module_of, names))
    protect = names if max(modules.values()) == 1 else list(modules)
    raise PassError(
        f"The criterion has no score for {first_names(names)}: {why}. Leave it out with protect={','.join(protect)}, "
        "or take another criterion, such as magnitude."
    )


def _stats(
    program: Program, measured: Measured, criterion: Criterion, gone: Mapping[str, Tensor], name: str
) -> WeightStats:
    """Return what is known of a weight; of a masked one this makes a copy."""
    stats = measured.of_weight(name)
    if not criterion.regrow:
        return stats
    weight = program.parameters[name].detach()
    left = gone.get(name, torch.ones((), dtype=torch.bool)).to(weight.device)
    return replace(stats, weight=torch.where(left, weight, 0.0))


def _scored(name: str, make: Callable[[], WeightStats], criterion: Criterion, gone: Tensor | None) -> Scored:
    stats = make()
    count = stats.weight.numel()
    if criterion.elementwise and stats.weight.ndim:
        parts: Callable[[], Iterator[Tensor]] = partial(_in_pieces, make, criterion)
    else:  # scored at once, so that the statistics can go before those of the next run come
        parts = partial(iter, (criterion.weight(stats).detach(),))
    del stats
    finite = False

    def pieces() -> Iterator[Tensor]:
        nonlocal finite
        start = 0
        for scores in parts():
            flat = scores.reshape(-1)
            flat = flat if flat.is_floating_point() else flat.float()
            if not finite and not bool(torch.isfinite(flat.sum())) and not bool(torch.isfinite(flat).all()):
                raise PassError(f"The score of {name} is not finite. Check the weights, the data and the loss.")
            if gone is not None:
                left = gone.reshape(-1)[start : start + len(flat)].to(flat.device)
                flat = flat.masked_fill(~left, -torch.inf)
            start += len(flat)
            yield flat
        finite = True  # all of them have been seen; they are the same the next time

    return Scored(name, count, pieces)


def _in_pieces(make: Callable[[], WeightStats], criterion: Criterion) -> Iterator[Tensor]:
    """Yield the scores of so many rows at a time that they stay in the cache."""
    stats = make()
    weight = stats.weight
    for piece in stats.rows(max(1, _PIECE * len(weight) // max(1, weight.numel()))):
        yield criterion.weight(piece).detach()
