"""Claim: choosing which of 100 million weights go takes at most three histogram passes; scores come in one run of data.

`ranking`: magnitude and global top-k on 100 million weights (25 matrices), against one `torch.histc` over the same
values and one `torch.kthvalue`. Limit: the weights are read from memory once for each pass, 0.4 GB in float32; an exact
answer needs two counts of 16 bits and one comparison. `mask_bytes` is what the masks take in a file.

`criteria`: seconds and peak memory of every criterion on transformers' default ResNet-50 (batch 4, 224x224) and
BERT-base (batch 4, 128 tokens), random weights, two batches of random data: scoring all weights (or, for criteria of
channels, all groups; of blocks, all blocks). Criteria that try channels one by one are measured on the one group with
the fewest channels and given for each channel, because all would take hours: that is what they cost.

Reading: `peak` is what the process held at most beyond what it held before, in MiB; weights take 97 (ResNet-50) and 418
MiB. One copy of the gradients is as large as the weights.
"""

from __future__ import annotations

import ctypes
import gc
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import QUICK, save, table
from torch import Tensor, nn

import sparsify as sp
from sparsify.axes import axes
from sparsify.blocks import blocks
from sparsify.errors import PassError
from sparsify.groups import groups_of
from sparsify.layers import layers
from sparsify.observation.calibration import Calibration
from sparsify.program import Program
from sparsify.pruning.choice import made
from sparsify.pruning.ranking import Scored, lowest
from sparsify.pruning.scoring import block_scores, group_scores
from sparsify.pruning.weight_scores import weight_scores
from sparsify.registry import entries
from sparsify.task import Score

SIDE, COUNT = (512, 4) if QUICK else (2000, 25)
ONE_BY_ONE = {"channel-oracle", "kl", "cka", "ucb1", "thompson", "try-and-learn", "aofp"}
ELSEWHERE = {"rnn-jacobian"}  # there is no recurrent layer in these networks


@dataclass
class Classify:
    """Two batches of random inputs with random labels."""

    make: Callable[[torch.Generator], Any]
    name: str = "random"

    def batches(self, split: str, *, seed: int = 0) -> Iterator[tuple[Any, Tensor]]:
        """Yield two batches."""
        generator = torch.Generator().manual_seed(seed)
        for _ in range(2):
            x = self.make(generator)
            yield x, torch.randint(0, 10, (len(x),), generator=generator)

    def labels(self, batch: tuple[Any, Tensor]) -> Tensor:
        """Return the labels."""
        return batch[1]

    def loss(self, model: nn.Module, batch: tuple[Any, Tensor]) -> Tensor:
        """Return the cross-entropy of the first ten outputs."""
        output = model(batch[0])
        logits = output[0] if isinstance(output, tuple) else output.logits if hasattr(output, "logits") else output
        logits = logits if isinstance(logits, Tensor) else next(iter(output.values()))
        return nn.functional.cross_entropy(logits[:, :10], batch[1])

    def score(self, model: nn.Module) -> Score:
        """Return nothing of interest."""
        return Score(0.0, "none", 1)


def resnet() -> tuple[Program, Classify]:
    """Return ResNet-50 and its data."""
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    model = ResNetForImageClassification(ResNetConfig(num_labels=10)).eval()
    size = 64 if QUICK else 224
    program = sp.capture(model, kwargs={"pixel_values": torch.randn(2, 3, size, size)})
    return program, Classify(lambda generator: torch.randn(4, 3, size, size, generator=generator))


def bert() -> tuple[Program, Classify]:
    """Return BERT-base and its data."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(num_labels=10, num_hidden_layers=2 if QUICK else 12)
    program = sp.capture(
        BertForSequenceClassification(config).eval(), kwargs={"input_ids": torch.randint(0, 1000, (2, 128))}
    )
    return program, Classify(lambda generator: torch.randint(0, 1000, (4, 128), generator=generator))


def ranking() -> dict[str, float]:
    """Compare exact global selection with a histogram and with kthvalue."""
    torch.manual_seed(0)
    weights = [torch.randn(SIDE, SIDE) for _ in range(COUNT)]
    whole = torch.cat([w.flatten() for w in weights])
    count = round(0.9 * len(whole))
    scored = [Scored(str(index), w.numel(), partial(magnitudes, w)) for index, w in enumerate(weights)]

    def select() -> list[Tensor]:
        return lowest(scored, count)

    seconds = {
        "select": best(select),
        "histogram": best(lambda: torch.histc(whole.abs(), bins=65536, min=0.0, max=8.0)),
        "kthvalue": best(lambda: whole.abs().kthvalue(count), repeats=1),
    }
    kept = sum(int(mask.sum()) for mask in select())
    assert kept == len(whole) - count
    return {
        **seconds,
        "weights": len(whole),
        "to_histogram": seconds["select"] / seconds["histogram"],
        "to_kthvalue": seconds["select"] / seconds["kthvalue"],
        "mask_bytes": sum(math.ceil(w.numel() / 8) for w in weights),
        "weight_bytes": sum(w.nbytes for w in weights),
    }


def magnitudes(weight: Tensor) -> Iterator[Tensor]:
    """Yield magnitudes a million at a time."""
    return (part.flatten().abs() for part in torch.split(weight, 500))


def best(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the least of some times, after one run to warm up."""
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def scoring(program: Program, task: Classify, name: str, unit: str) -> Callable[[], object]:
    """Return what scores a program by a criterion."""
    calibration = Calibration(task, batches=2)  # type: ignore[arg-type]
    criterion = made(name)
    if unit == "weights":
        names = list(dict.fromkeys(layer.parameter for layer in layers(program)))
        return lambda: [sum(1 for _ in item.pieces()) for item in
                        weight_scores(program, names, criterion, calibration, {})]  # fmt: skip
    if unit == "blocks":
        found = [block for block in blocks(program) if block.removable]
        return lambda: block_scores(program, found, criterion, calibration)
    known = axes(program)
    groups = [group for group in groups_of(known) if not group.frozen and group.exact]
    if name in ONE_BY_ONE:
        groups = [min(groups, key=lambda group: group.size)]
    return lambda: group_scores(known, groups, {}, criterion, calibration)


def peak(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that something takes, and by how many MiB the process grew at most meanwhile."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier criteria took is given back, so that it does not hide this one's
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest size starts again from here
    before, start = _resident("VmRSS"), time.perf_counter()
    work()
    return time.perf_counter() - start, _resident("VmHWM") - before


def _resident(field: str) -> float:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    assert found
    return int(found[1]) / 1024


def main() -> None:
    """Measure, and judge."""
    ranked = ranking()
    print({key: round(value, 3) for key, value in ranked.items()})
    results: dict[str, Any] = {"ranking": ranked}
    rows = []
    for model, make in (("ResNet-50", resnet), ("BERT-base", bert)):
        program, task = make()
        for entry in entries("sparsify.criteria").values():
            if entry.name in ELSEWHERE:
                continue
            unit = next(unit for unit in ("weights", "channels", "blocks") if unit in entry.scores)
            try:
                seconds, grown = peak(scoring(program, task, entry.name, unit))
            except PassError as error:
                print(f"{model} {entry.name}: {error}")
                continue
            each = entry.name in ONE_BY_ONE
            results[f"{model} {entry.name}"] = {"unit": unit, "seconds": seconds, "peak": grown, "one_group": each}
            rows.append([model, entry.name, unit + (" (one group)" if each else ""), seconds, round(grown)])
            print(*rows[-1], flush=True)
    table(["model", "criterion", "unit", "seconds", "peak MiB"], rows)
    ratio = ranked["to_histogram"]
    save(
        __file__,
        "an exact global choice among 100 million weights takes at most three histogram passes",
        ratio <= 3,
        f"{ranked['select']:.2f} s, {ratio:.2f} histogram passes, {ranked['to_kthvalue']:.2f} kthvalue; masks take "
        f"{ranked['mask_bytes'] / 2**20:.1f} MiB as bits, the weights {ranked['weight_bytes'] / 2**20:.0f}.",
        results,
    )


if __name__ == "__main__":
    main()
