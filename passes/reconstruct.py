"""The pass `reconstruct`: give the weights that are left the values that make up for those that are masked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from sparsify.errors import PassError, UsageError
from sparsify.layers import Layer, in_two_directions, layers
from sparsify.masking import forgotten, unmasked
from sparsify.naming import first_names, plural
from sparsify.observation.calibration import Calibration
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program
from sparsify.pruning.candidates import matches
from sparsify.reconstruction.channels import greedy, lasso
from sparsify.reconstruction.least_squares import fitted
from sparsify.reconstruction.moments import Moments, moments, waves
from sparsify.reconstruction.outputs import output_gap
from sparsify.reconstruction.reselection import reselected
from sparsify.reconstruction.surgeon import surgeon

__all__ = ["Reconstruct"]


@dataclass(frozen=True)
class Reconstruct(Pass):
    """Refit masked layers, one after the other, so that they give what they gave before; labels are not needed.

    Comes after the pass that masks and before `shrink`: under a mask the graph still holds the weights as they were,
    and the layer with these weights is what is fitted. A layer is fitted on the inputs that it gets from the layers
    fitted before it. Weights under a mask are set to zero.

    Options:
        method: least-squares refits all that is left of a layer; obs goes through its inputs once and moves what is
            lost into the inputs behind, which is much faster for wide layers (recalibrate-norm should follow where
            there are batch norms); thinet and lasso first choose again which channels stay, as many as are masked,
            and then refit; bias only corrects the mean.
        damping: added to the second moments of the inputs, as a share of their mean: more stays nearer to the weights.
        bias: whether biases are fitted as well.
        protect: names or patterns of modules and parameters that keep their values.
        batches: how many training batches it looks at; without a task, the example inputs.

    Reference: He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", 2017; Luo et al., "ThiNet",
    2017; Hassibi and Stork, "Optimal Brain Surgeon", 1993; Frantar and Alistarh, "SparseGPT", 2023.
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    method: Literal["least-squares", "lasso", "obs", "thinet", "bias"] = "least-squares"
    damping: float = 0.01
    bias: bool = True
    protect: tuple[str, ...] = ()
    batches: int = 8

    def __post_init__(self) -> None:
        if not self.damping > 0:
            raise UsageError(f"reconstruct: damping={self.damping} is not positive.")
        if self.batches < 1:
            raise UsageError(f"reconstruct: batches={self.batches} is less than 1.")
        if self.method == "bias" and not self.bias:
            raise UsageError("reconstruct: method=bias fits nothing but biases, and bias=no leaves them.")

    def run(self, program: Program, context: Context) -> Program:
        """Refit the layers in the order of the graph."""
        calibration = Calibration(context.task, self.batches, context.seed)
        calibration.check(program, "inputs", "the pass reconstruct")
        if not program.masks:
            raise PassError("Nothing is masked. Prune first, and shrink afterwards.")
        if forgotten(program):
            raise PassError(
                "The weights under the masks are zeros, as reconstruct and retraining leave them: what the layers gave "
                "before pruning is not known any more. Reconstruct right after pruning."
            )
        if _norms_have_moved(program):
            raise PassError(
                "recalibrate-norm has changed the statistics of the norms, with which the layers before pruning would "
                "be run. Put reconstruct before it."
            )
        whole = unmasked(program)
        before = output_gap(whole, program, calibration)
        if self.method in ("thinet", "lasso"):
            choose = greedy if self.method == "thinet" else lasso
            program, context.record["channels_exchanged"] = reselected(program, whole, choose, calibration)
        found = _by_weight(program)
        fits = {name for name, layer in found.items() if layer.rows is not None and not matches(name, self.protect)}
        names = [name for name in program.masks if name in fits]
        if self.method == "bias":
            names = [name for name in names if found[name].bias is not None]
        if not names:
            raise PassError(
                "No masked layer can be refitted so: recurrent layers, weights that layers read in two directions, "
                "protected ones and, with method=bias, layers without a bias stay. Behind norms without biases, use "
                "recalibrate-norm."
            )
        done: list[str] = []
        for wave in waves(program, names):
            centred = [name for name in wave if self._uses_bias(found[name])]
            known = moments(program, whole, wave, calibration, centred)
            if self.method == "obs":
                known = _with_all_inputs(known, whole, calibration, centred)
            for name in known:
                program = self._refit(program, whole, found[name], known[name])
                done.append(name)
        after = output_gap(whole, program, calibration)
        left = [name for name in program.masks if name not in done]
        context.record.update(
            fitted=len(done),
            left=left,
            output_error={"before": before, "after": after},
            done=f"refitted {plural(len(done), 'layer')}; the output was off by {before:.3g} (relative), now by "
            f"{after:.3g}" + (f"; {plural(len(left), 'masked weight')} stayed: {first_names(left)}" if left else ""),
        )
        return program

    def _refit(self, program: Program, whole: Program, layer: Layer, known: Moments) -> Program:
        name, layout = layer.parameter, layer.layout
        old = whole.parameters[name].detach()
        mask = program.masks[name].to(old.device)
        w0, kept = layout.matrices(old), layout.matrices(mask)
        w = self._values(w0, kept, known)
        new = {name: layout.restore(w, old.shape)}
        if layer.bias is not None and self._uses_bias(layer):
            shift = (w0.float() @ known.before[..., None] - w @ known.mean[..., None]).flatten()
            new[layer.bias] = whole.parameters[layer.bias].detach() + shift
        return _with(program, new)

    def _uses_bias(self, layer: Layer) -> bool:
        return self.bias and layer.bias is not None

    def _values(self, w0: Tensor, kept: Tensor, known: Moments) -> Tensor:
        if self.method == "bias":
            return torch.where(kept, w0, 0.0).float()
        if self.method == "obs":
            parts = zip(w0, kept, known.gram, strict=True)
            return torch.stack([surgeon(w, mask, gram, self.damping) for w, mask, gram in parts])
        return fitted(w0, kept, known, self.damping)


def _norms_have_moved(program: Program) -> bool:
    """Tell whether norms were recalibrated since the last pass that pruned."""
    names = [spec.partition(":")[0] for spec in program.history]
    last = max((index for index, name in enumerate(names) if name.endswith("-prune")), default=0)
    return "recalibrate-norm" in names[last:]


def _by_weight(program: Program) -> dict[str, Layer]:
    """Return the layers by weight; biases only where each number belongs to one row of the weight, and to no other."""
    known = layers(program)
    uses = Counter(layer.parameter for layer in known)
    several = in_two_directions(known)  # an encoder and its transposed decoder cannot both be fitted
    found = {}
    for layer in known:
        groups, rows, _ = layer.layout.matrices(program.parameters[layer.parameter]).shape
        own = layer.bias is not None and program.parameters[layer.bias].numel() == groups * rows
        alone = layer if own and uses[layer.parameter] == 1 else replace(layer, bias=None)
        found[layer.parameter] = replace(alone, rows=None) if layer.parameter in several else alone
    return found


def _with_all_inputs(
    known: Mapping[str, Moments], whole: Program, calibration: Calibration, centred: Sequence[str]
) -> dict[str, Moments]:
    """Where inputs are gone, take the second moments of all inputs: what is lost must move to those that are left."""
    gone = [name for name, found in known.items() if bool((found.gram.diagonal(dim1=1, dim2=2) == 0).any())]
    before = moments(whole, None, gone, calibration, centred) if gone else {}
    return {name: replace(found, gram=before[name].gram) if name in before else found for name, found in known.items()}


def _with(program: Program, values: dict[str, Tensor]) -> Program:
    parameters = dict(program.parameters)
    for name, value in values.items():
        old = parameters[name]
        parameters[name] = nn.Parameter(value.to(old.dtype).contiguous(), requires_grad=old.requires_grad)
    return replace(program, parameters=parameters)
