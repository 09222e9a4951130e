"""The mask controller: pruned weights stay exactly zero, whatever optimizer trains the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.errors import ContractError, UsageError
from sparsify.naming import first_names
from sparsify.parallel.tensors import laid_out_like, local, total
from sparsify.program import Program

__all__ = ["MaskController"]

_WRAPPERS = ("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module")  # of DDP, torch.compile, Fabric, FSDP


class MaskController:
    """Keeps pruned weights zero: after every step of an optimizer, on the parameters and on all of its slots.

    Masking gradients alone is not enough: momentum and weight decay move a weight without a gradient. Here a weight's
    mask acts on everything of its shape that the optimizer keeps for it (momentum, squares), so that a weight that
    grows back starts from nothing.

        controller = sp.MaskController(program).attach(optimizer, model)

    Args:
        masks: by parameter name, True where the weight is kept, or the program that has them.
        audit: check everything after every step.

    Attributes:
        masks: the masks now.

    Raises:
        UsageError: there are no masks, or something else was given.
    """

    def __init__(self, masks: Program | Mapping[str, Tensor], *, audit: bool = False) -> None:
        found = masks.masks if isinstance(masks, Program) else masks
        if not isinstance(found, Mapping):
            raise UsageError(
                f"A MaskController takes a program with masks, or masks by parameter name, not {type(masks).__name__}."
            )
        if not found:
            what = "The program has no masks" if isinstance(masks, Program) else "There are no masks"
            raise UsageError(f"{what}: nothing would be kept zero. A pass such as weight-prune makes them.")
        self.masks: dict[str, Tensor] = {name: mask.bool() for name, mask in found.items()}
        self._audit, self._after_steps = audit, True
        self._optimizer: torch.optim.Optimizer | None = None
        self._hook: Any = None
        self._weights: dict[str, Tensor] = {}
        self._factors: dict[str, Tensor] = {}

    def attach(
        self, optimizer: torch.optim.Optimizer, module: nn.Module | None = None, *, after_steps: bool = True
    ) -> MaskController:
        """Mask the parameters of a module now, and after every step of its optimizer.

        Args:
            optimizer: trains the parameters; any of torch's, or one whose state has tensors of the parameters' shape,
                also inside Accelerate or Fabric.
            module: has parameters of the masks' names: the model that was captured, or `program.module()`, also
                inside DDP, torch.compile or Fabric; not needed where the optimizer was made for `program.module()`.

            after_steps: if not, the caller masks gradients before every step instead. That is less work, and enough
                where a weight stays zero that is, as are its gradient and slots (SGD, Adam), and nobody writes it.

        Raises:
            UsageError: a mask has no parameter in the module and the optimizer, or another shape; or the arguments are
                something else.
        """
        while hasattr(optimizer, "optimizer"):  # Accelerate and Fabric wrap it
            optimizer = optimizer.optimizer
        for argument, kind in ((optimizer, torch.optim.Optimizer), (module, nn.Module | None)):
            if not isinstance(argument, kind):
                raise UsageError(
                    f"attach(optimizer, module) takes an optimizer of torch and a torch.nn.Module, not "
                    f"{type(argument).__name__}."
                )
        self.detach()
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if isinstance(optimizer, torch.optim.LBFGS):
            raise UsageError(
                "LBFGS keeps a history of all weights as one, which masks cannot act on. Take another one."
            )
        if module is not None:
            named = self._named(module)
        else:
            all_ = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            named = {p.sparsify_name: p for p in all_ if hasattr(p, "sparsify_name")}
        if lacking := [name for name in self.masks if name not in named or id(named[name]) not in trained]:
            raise UsageError(
                f"{first_names(lacking)} cannot be masked: the module has no such parameter, or the optimizer does not "
                "train it. Attach the controller to the optimizer and the module that was captured; where two "
                "optimizers share the module, attach one controller to each, with the masks of its parameters."
            )
        for name, mask in self.masks.items():
            if named[name].shape != mask.shape:
                raise UsageError(
                    f"The mask of {name} is for {list(mask.shape)}, and the parameter is {list(named[name].shape)}."
                )
        self._weights = {name: named[name] for name in self.masks}
        self._optimizer, self._after_steps = optimizer, after_steps
        self._hook = optimizer.register_step_post_hook(self._after_step)
        self.change(self.masks)
        return self

    def detach(self) -> None:
        """Leave the optimizer alone from now on."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def change(self, masks: Mapping[str, Tensor]) -> None:
        """Take other masks. Weights that go become zero, and what the optimizer keeps for them; those that come are."""
        for name, mask in masks.items():
            weight = self._weights[name]
            self.masks[name] = laid_out_like(mask.to(weight.device), weight)
            self._factors[name] = local(self.masks[name]).to(weight.dtype)
        self.apply()

    def mask_gradients(self) -> None:
        """Make the gradients of pruned weights zero, as is needed before gradients are clipped by their norm."""
        known = {name: weight.grad for name, weight in self._weights.items()}
        _multiply({name: value for name, value in known.items() if value is not None}, self._factors)

    @torch.no_grad()
    def apply(self) -> None:
        """Mask the parameters and the slots of the optimizer."""
        _multiply(self._weights, self._factors)
        for slots in self._slots().values():
            _multiply(slots, self._factors)

    @torch.no_grad()
    def mask(self, module: nn.Module) -> None:
        """Mask the parameters of another module of the same names, such as a moving average of the weights."""
        named = self._named(module)
        _multiply({name: named[name] for name in self.masks}, self._factors)

    def check(self) -> None:
        """Check that every pruned weight and all that the optimizer keeps for it is zero.

        Raises:
            ContractError: something is not.
        """
        for kind, values in {"weight": self._weights, **self._slots()}.items():
            for name, value in values.items():
                gone = ~local(self.masks[name])
                alive = int(total((local(value.detach())[gone] != 0).sum(), value))
                if alive:
                    raise ContractError(f"Of the {kind} of {name}, {alive} pruned values are not zero.")

    def _named(self, module: nn.Module) -> dict[str, Tensor]:
        """Return the parameters of a module by the names that masks have, whatever it is wrapped in."""
        found: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
        return found if found.keys() >= self.masks.keys() else {_plain(name): value for name, value in found.items()}

    def _after_step(self, *_: Any) -> None:
        if self._after_steps:
            self.apply()
        if self._audit:
            self.check()

    def _slots(self) -> dict[str, dict[str, Tensor]]:
        """Return what the optimizer keeps of the shape of its parameter, by kind and by parameter."""
        found: dict[str, dict[str, Tensor]] = {}
        state = self._optimizer.state if self._optimizer is not None else {}
        for name, weight in self._weights.items():
            for kind, value in state.get(weight, {}).items():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    if not value.is_floating_point():
                        raise UsageError(
                            f"The optimizer keeps {kind} of {name} as {value.dtype}, in which a mask cannot tell zero. "
                            "Take one that keeps floating-point numbers."
                        )
                    found.setdefault(str(kind), {})[name] = value
        return found


def _multiply(values: Mapping[str, Tensor], factors: Mapping[str, Tensor]) -> None:
    if values:
        torch._foreach_mul_([local(value.detach()) for value in values.values()], [factors[name] for name in values])


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)
