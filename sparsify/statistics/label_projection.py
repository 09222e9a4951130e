"""How much channels tell about labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsify.errors import PassError
from sparsify.observation.calibration import Data
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Statistic

__all__ = ["COMPONENTS", "LabelProjection"]

COMPONENTS = 4
_NOTHING = 1e-9  # of what is left to explain, in standard deviations
_ROUNDING = 1e-5  # of a feature's size; what varies less is constant in float32


class LabelProjection(Statistic):
    """VIP of each channel in a partial least squares model of the labels; `[size, 4]` for each group or block.

    Column c is that of a model with c + 1 components. There is one model of all channels of all groups or blocks, so
    that scores compare across them: in models of their own, all groups would have the same mean of squares. A feature
    is the mean of a channel over positions or tokens; features and one-hot labels are standardised. No matrix of
    features by features is held: each component costs a run over the data instead. Tokens of all examples in one long
    line are divided among the examples in order, which is wrong behind a router that sorts them by expert.

    Reference: Wold et al., "PLS-regression: a basic tool of chemometrics", 2001; Jordao et al., "Deep Network
    Compression Based on Partial Least Squares", 2020.
    """

    data: ClassVar[Data] = "labels"

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Fit the components one after the other."""
        sizes = {signal.key: signal.size for signal in subject.signals}
        if not sizes:
            return {}
        features = _Features(subject)
        importance = _importance(features, _scaling(features))
        return dict(zip(sizes, torch.split(importance, list(sizes.values())), strict=True))


class _Features:
    """All channels, pooled, batch by batch with the labels: `[N, features]` and int64 `[N]`."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._seen: dict[str, list[Tensor]] = defaultdict(list)
        watched = Watched(subject.program)
        for signal in subject.signals:
            signal.look(watched, partial(self._see, signal.key))
        self._model = watched.ready()

    def _see(self, key: str, channels: Tensor) -> None:
        self._seen[key].append(channels.double().flatten(2).mean(2) if channels.ndim > 2 else channels.double())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        task: Any = self._subject.calibration.task
        with torch.no_grad():
            for batch, _ in self._subject.calibration.run(self._model, self._subject.program):
                labels = task.labels(batch)
                x = torch.cat([self._pooled(signal.key, len(labels)) for signal in self._subject.signals], 1)
                yield x, labels.to(x.device)
                self._seen.clear()

    def _pooled(self, key: str, count: int) -> Tensor:
        """Return one row for each label; a long line of the tokens of all examples is divided among them."""
        values = self._seen[key]
        if not values or any(len(value) % count for value in values):
            rows = f"{len(values[0])} rows for {count} labels" if values else "never seen"
            raise PassError(f"The channels of {key} cannot be matched with labels ({rows}). Use another criterion.")
        return torch.stack([value.view(count, -1, value.shape[1]).mean(1) for value in values]).mean(0)


@dataclass(frozen=True)
class _Scaling:
    """What standardises features and labels; `cross` `[features, classes]` is XᵀY of the standardised data."""

    mean: Tensor
    deviation: Tensor
    rate: Tensor
    spread: Tensor
    cross: Tensor
    count: int

    def __call__(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        answers = F.one_hot(labels, len(self.rate)).double()
        return (features - self.mean) / self.deviation, (answers - self.rate) / self.spread


def _scaling(features: _Features) -> _Scaling:
    sums: Tensor | None = None
    for x, labels in features:
        if sums is None:
            shift = x.mean(0)  # near the mean, so that the squares keep their digits
            sums, counts, squares = x.new_zeros(0, len(shift)), x.new_zeros(0), torch.zeros_like(shift)
        new = max(0, int(labels.max()) + 1 - len(counts))  # classes that were not seen before
        sums, counts = F.pad(sums, (0, 0, 0, new)), F.pad(counts, (0, new))
        answers, near = F.one_hot(labels, len(counts)).double(), x - shift
        sums, counts, squares = sums + answers.T @ near, counts + answers.sum(0), squares + near.square().sum(0)
    assert sums is not None
    count = int(counts.sum())
    mean, rate, freedom = sums.sum(0) / count, counts / count, max(1, count - 1)
    deviation = ((squares - count * mean.square()).clamp_min(0) / freedom).sqrt()
    size = (squares / count).sqrt() + shift.abs()
    deviation = deviation.where(deviation > _ROUNDING * size, torch.inf)
    spread = (count * rate * (1 - rate) / freedom).sqrt()
    spread = spread.where(spread > 0, torch.inf)
    cross = (sums - counts[:, None] * mean).T / deviation[:, None] / spread
    return _Scaling(mean + shift, deviation, rate, spread, cross, count)


def _importance(features: _Features, scaling: _Scaling) -> Tensor:
    """Return VIP for 1, 2, ... components, `[features, COMPONENTS]`, by NIPALS with deflation of XᵀY."""
    cross, columns = scaling.cross, []
    past: list[tuple[Tensor, Tensor]] = []
    weighed, total = torch.zeros_like(scaling.mean), 0.0
    for _ in range(COMPONENTS):
        if float(cross.norm()) > _NOTHING * scaling.count:
            weight = torch.linalg.svd(cross, full_matrices=False)[0][:, 0]
            rotation = weight - sum(((loading @ weight) * earlier for loading, earlier in past), torch.zeros(()))
            square, loading, answer = _projected(features, scaling, rotation)
            past.append((loading / square, rotation))
            explained = float(answer.square().sum() / square)
            weighed, total = weighed + explained * weight.square(), total + explained
            cross = cross - torch.outer(loading, answer) / square
        columns.append((weighed * len(weighed) / max(total, 1e-300)).sqrt())
    return torch.stack(columns, 1)


def _projected(features: _Features, scaling: _Scaling, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return tᵀt, Xᵀt and Yᵀt of the scores t = X r of the standardised data."""
    square, loading, answer = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for batch in features:
        x, y = scaling(*batch)
        t = x @ rotation
        square, loading, answer = square.to(t) + t @ t, loading.to(t) + x.T @ t, answer.to(t) + y.T @ t
    return square, loading, answer
