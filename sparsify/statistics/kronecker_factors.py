"""Fisher information of layers as Kronecker factors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparsify.errors import PassError
from sparsify.layers import Layer
from sparsify.observation.calibration import Data
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.patches import Window, patches
from sparsify.statistics import Gradients, Statistic, Streamed, stream

__all__ = ["KroneckerFactors"]


class KroneckerFactors(Statistic):
    """Eigenvectors of E[x xᵀ] and E[g gᵀ] of a layer's inputs x and output gradients g, and E[g²x²] along them.

    For the weight's matrices `[G, O, K]` the Fisher information is (U_S ⊗ U_A) diag(Λ) (U_S ⊗ U_A)ᵀ with the
    eigenvectors U_A `[G, K, K]` and U_S `[G, O, O]` and Λ `[G, O, K]`; `parts` takes them out of the one float32
    vector that holds them. Every token or position of an example counts as an example of its own. Two runs: factors
    first, then Λ. Λ is a sum over tokens and positions, mean over the batches, of gradients of the batch's mean loss:
    it is right up to one factor for all layers.

    Reference: George et al., "Fast Approximate Natural Gradient Descent in a Kronecker-factored Eigenbasis", 2018;
    Grosse and Martens, "A Kronecker-factored Approximate Fisher Matrix for Convolution Layers", 2016.
    """

    data: ClassVar[Data] = "loss"

    @staticmethod
    def parts(packed: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return U_A, U_S and Λ for matrices of a shape `[G, O, K]`."""
        groups, outputs, inputs = shape
        sizes = [(groups, inputs, inputs), (groups, outputs, outputs), (groups, outputs, inputs)]
        inner, outer, scale = torch.split(packed, [size[0] * size[1] * size[2] for size in sizes])
        return inner.view(sizes[0]), outer.view(sizes[1]), scale.view(sizes[2])

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Measure it."""
        factors = _Factors()
        stream([factors], subject)
        for name, pair in factors.found.items():
            if not all(bool(torch.isfinite(part).all()) for part in pair):
                raise PassError(f"What {name} reads, or its gradient, is not finite. Check the data and the model.")
        bases = {name: (_basis(inner), _basis(outer)) for name, (inner, outer) in factors.found.items()}
        scales = _Scales(bases)
        stream([scales], subject)
        return {
            name: torch.cat([part.flatten() for part in (*bases[name], scale / max(1, scales.batches))])
            for name, scale in scales.found.items()
        }

    def bytes(self, subject: Subject, parameter: str) -> int:
        """Return the size of factors, eigenvectors and Λ."""
        groups, outputs, inputs = subject.matrices(parameter)
        return 4 * groups * (2 * inputs**2 + 2 * outputs**2 + outputs * inputs)


class _Pairs(Streamed):
    """Sees the rows that go into a layer's matrices with the gradients of those that come out."""

    def __init__(self) -> None:
        self.batches = 0

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Look at what goes in, and add a zero with a gradient to what comes out."""
        device = next(iter(subject.program.parameters.values())).device
        zero = torch.zeros((), device=device, requires_grad=True)
        for layer in subject.layers:
            if layer.rows is not None:
                kept: list[Sequence[Any]] = []
                watched.look(layer.node, lambda *args, kept=kept: kept.append(args))
                shape = subject.program.parameters[layer.parameter].shape
                watched.result(layer.node, self._probe(layer, zero, kept, shape))
        return [zero]

    def batch(self, batch: Any, gradient: Gradients) -> None:
        """Count the batches."""
        self.batches += 1

    @abstractmethod
    def take(self, name: str, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Take note of rows `[N, K]` and gradients `[N, O]` for each matrix."""

    def _probe(
        self, layer: Layer, zero: Tensor, kept: list[Sequence[Any]], shape: Sequence[int]
    ) -> Callable[[Tensor], Tensor]:
        def probe(value: Tensor) -> Tensor:
            args = kept.pop()
            value = value + zero.to(value.dtype)

            def back(gradient: Tensor) -> None:
                assert layer.rows is not None
                rows = [part.detach().float() for part in layer.rows(args)]
                self.take(layer.parameter, rows, [part.float() for part in _outputs(layer, gradient, rows, shape)])

            value.register_hook(back)  # type: ignore[no-untyped-call]
            return value

        return probe


class _Factors(_Pairs):
    """Sums of x xᵀ and g gᵀ."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, tuple[Tensor, Tensor]] = {}

    def take(self, name: str, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        inner, outer = (torch.stack([part.T @ part for part in parts]) for parts in (inputs, gradients))
        if name in self.found:
            inner, outer = inner + self.found[name][0], outer + self.found[name][1]
        self.found[name] = inner, outer

    def result(self) -> Mapping[str, Tensor]:
        return {}


class _Scales(_Pairs):
    """Sums of squares of the products of x and g along the eigenvectors."""

    def __init__(self, bases: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self._bases = bases
        self.found: dict[str, Tensor] = {}

    def take(self, name: str, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        turned = zip(inputs, gradients, *self._bases[name], strict=True)
        scale = torch.stack([(g @ outer).square().T @ (x @ inner).square() for x, g, inner, outer in turned])
        self.found[name] = self.found.get(name, 0) + scale

    def result(self) -> Mapping[str, Tensor]:
        return self.found


def _basis(factors: Tensor) -> Tensor:
    vectors: Tensor = torch.linalg.eigh(factors.double()).eigenvectors
    return vectors.float()


def _outputs(layer: Layer, gradient: Tensor, rows: Sequence[Tensor], shape: Sequence[int]) -> Sequence[Tensor]:
    """Return the gradient of a layer's output as rows that fit those of its input, for each matrix."""
    layout = layer.layout
    if len(layout.outputs) > 1:  # transposed: a row meets the kernel at all places that it is written to
        kernel = tuple(shape[dim] for dim in layout.outputs[1:])
        stride, padding, dilation = (_argument(layer, *place) for place in ((3, 1), (4, 0), (7, 1)))
        return list(patches(gradient, Window(kernel, stride, padding, dilation, layout.groups)))
    if layout.kernel:
        images = gradient[None] if gradient.ndim == len(layout.kernel) + 1 else gradient
        flat = images.movedim(1, -1).reshape(-1, layout.groups, images.shape[1] // layout.groups)
        return list(flat.transpose(0, 1))
    if layout.batch and gradient.ndim == 3:
        return list(gradient)
    if layout.batch:
        return torch.split(gradient, [len(part) for part in rows])
    return [gradient.reshape(-1, gradient.shape[-1])]


def _argument(layer: Layer, index: int, default: int) -> Any:
    return layer.node.args[index] if index < len(layer.node.args) else default
