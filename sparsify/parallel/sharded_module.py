"""A program as a module in pieces, so that FSDP2 has each piece's weights whole only while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, fx, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from sparsify.modes import assign, evaluation_graph
from sparsify.parallel.pieces import cut, places
from sparsify.program import Program

__all__ = ["ShardedModule", "sharded"]

_PIECES = 32
_LEAST = 1 << 20  # values of a piece; smaller ones would wait for messages more than they save memory
_PREFIX = "pieces."


class _Forms(nn.Module):
    """Computes one graph in training and another in evaluation, with what the module holds under their names.

    It is no `fx.GraphModule`: FSDP2 gives a module another class, which cannot take another graph any more.
    """

    def __init__(self, training: fx.Graph, evaluation: fx.Graph) -> None:
        super().__init__()
        self._computed = {True: _compiled(training), False: _compiled(evaluation)}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the graph of the mode that the module is in."""
        return self._computed[self.training](self, *args, **kwargs)


class ShardedModule(_Forms):
    """A program whose parameters lie in pieces; they have the program's names in the program's order.

    Args:
        program: what is computed.
        rewrite: changes the training form of its graph in place.
        least: how many values of parameters a piece has at least.
    """

    def __init__(self, program: Program, rewrite: Callable[[fx.Graph], None], least: int = _LEAST) -> None:
        sizes = {name: value.numel() for name, value in program.parameters.items()}
        training = program.copy_graph()
        where = places(training, sizes, max(least, sum(sizes.values()) // _PIECES))
        evaluated = cut(evaluation_graph(training), where, sizes)
        rewrite(training)
        trained = cut(training, where, sizes)
        super().__init__(trained.root, evaluated.root)
        state = {**program.parameters, **{name: value.clone() for name, value in program.buffers.items()}}
        info = program.graph._codegen.pytree_info  # type: ignore[attr-defined]
        self._in_spec, self._out_spec = info.in_spec, info.out_spec  # the root's code asks for them
        self.meta: dict[str, Any] = {}  # as a GraphModule has
        self.pieces = nn.ModuleList()
        for graph, other, names in zip(trained.graphs, evaluated.graphs, trained.state, strict=True):
            piece = _Forms(graph, other)
            for name in names:
                assign(piece, name, state[name])
            self.pieces.append(piece)
        for name in trained.shared:
            assign(self, name, state[name])
        self._order = tuple(program.parameters)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters by the program's names, in its order."""
        found = {_plain(name): value for name, value in super().named_parameters(*args, **kwargs)}
        yield from ((name, found[name]) for name in self._order if name in found)

    def named_buffers(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Tensor]]:
        """Yield the buffers by the program's names."""
        yield from ((_plain(name), value) for name, value in super().named_buffers(*args, **kwargs))


def sharded(program: Program, mesh: DeviceMesh, rewrite: Callable[[fx.Graph], None]) -> ShardedModule:
    """Return a module of which every rank holds a shard of each parameter.

    Args:
        program: what is computed; it stays as it is.
        mesh: the ranks, in one dimension.
        rewrite: changes the training form of the graph in place.
    """
    module = ShardedModule(program, rewrite)
    for unit in (*module.pieces, module):
        fully_shard(unit, mesh=mesh)
        assert isinstance(unit, FSDPModule)
        if mesh.device_type == "cpu":  # gloo has sums only
            unit.set_force_sum_reduction_for_comms(True)
    for name, parameter in module.named_parameters():
        parameter.__dict__["sparsify_name"] = name  # as of a ProgramModule
    return module


def _compiled(graph: fx.Graph) -> Callable[..., Any]:
    """Return a graph as a function of the module that has its state, and its inputs."""
    code = graph.python_code("self")
    names: dict[str, Any] = dict(code.globals)
    exec(code.src, names)
    found: Callable[..., Any] = names["forward"]
    return found


def _plain(name: str) -> str:
    return name.removeprefix(_PREFIX).partition(".")[2] if name.startswith(_PREFIX) else name
