"""Filters: masks that keep all weights of an output of a layer, or none."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsify.layout import Layout
from sparsify.observation.calibration import Calibration
from sparsify.program import Program
from sparsify.pruning.amounts import rounded
from sparsify.pruning.choice import chosen
from sparsify.pruning.weight_scores import dense_scores, weight_scores

__all__ = ["filter_masks"]


def filter_masks(
    program: Program, layouts: Mapping[str, Layout], criterion: str, calibration: Calibration, sparsity: float
) -> dict[str, Tensor]:
    """Return masks of the filters with the highest scores, the sums over their weights; as many of every layer.

    A filter is a row of the matrices that a layer multiplies with: an output feature, an output channel.

    Args:
        program: whose weights are scored.
        layouts: of the weights, by name.
        criterion: its name, with options.
        calibration: the data.
        sparsity: which fraction of the filters of each layer goes.

    Raises:
        PassError: the criterion scores no weights, or has no score for one.
    """
    found = chosen(criterion, "weights", program, calibration)
    masks = {}
    for scored in weight_scores(program, list(layouts), found, calibration, {}):
        shape, layout = program.parameters[scored.name].shape, layouts[scored.name]
        matrices = layout.matrices(dense_scores(scored, shape))
        order = matrices.sum(2).flatten().argsort(descending=True, stable=True)
        kept = torch.zeros(len(order), dtype=torch.bool)
        kept[order[: len(order) - rounded(sparsity * len(order))].cpu()] = True
        rows = kept.view(*matrices.shape[:2], 1).expand(matrices.shape)
        masks[scored.name] = layout.restore(rows, shape).contiguous()
    return masks
