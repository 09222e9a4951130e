"""Reading: the bytes of an ONNX file become a checked model, with its functions inlined and packed weights dense.

Everything that a file says about itself is checked before anything is made of it: where its data lies and how large it
is, that names and order fit together, and that every operator is one that there is a rule for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.passes.common import InlinePass

from sparsify.errors import InputError, first_line
from sparsify.export.drawn import DRAWN
from sparsify.export.hashing import DOMAIN
from sparsify.export.packing import PACKED, unpack
from sparsify.kernels._hash import DISTRIBUTIONS
from sparsify.onnx_in import rules
from sparsify.onnx_in.op import RULES
from sparsify.onnx_in.structure import check_arguments, check_structure, expanded_size
from sparsify.onnx_in.tensors import check_tensors

__all__ = ["OPSETS", "read_model"]

OPSETS = range(11, 24)
"""The versions of ONNX's operators that are read."""

_LARGEST = 2**31 - 1  # bytes of a protobuf message
_MOST_NODES = 200_000
_LISTED = 12  # unsupported operators that a message names
_OURS = ("", "ai.onnx")


def read_model(path: Path) -> ir.Model:
    """Read an ONNX file and check it; weights in files beside it are found, and nothing is written.

    Raises:
        InputError: the file is damaged, refers to data outside its folder, contradicts itself, or has operators or a
            version that sparsify does not read; the message lists all such operators.
    """
    proto = _without_drawing(_parsed(path))
    version = _check_opset(proto, path)
    if any(len(function.node) > _MOST_NODES for function in proto.functions) or len(proto.graph.node) > _MOST_NODES:
        raise InputError(f"{path} has more than {_MOST_NODES:,} nodes, which no model has that can be pruned here.")
    if expanded_size(proto, path) > _MOST_NODES:
        raise InputError(f"{path} has functions that call each other to more than {_MOST_NODES:,} nodes.")
    _check_operators(proto, path)
    check_arguments(_nodes((proto.graph.node, *(function.node for function in proto.functions))), version, path)
    check_structure(proto.graph, path)
    check_tensors(proto, path)
    try:
        model = ir.serde.deserialize_model(proto)
        ir.external_data.set_base_dir(model.graph, path.resolve().parent)
        if PACKED in model.metadata_props:
            unpack(model)
        if any(node.domain == DOMAIN for node in model.graph):
            raise InputError("it draws values from a seed that no weight is made of, so it is damaged.")
        if model.functions:
            InlinePass()(model)
        model.graph.sort()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:
        raise InputError(f"{path} is damaged: {first_line(error)}.") from error
    return model


def _parsed(path: Path) -> onnx.ModelProto:
    if path.stat().st_size > _LARGEST:
        raise InputError(
            f"{path} is larger than 2 GiB, which an ONNX file cannot be; large weights lie in a file beside."
        )
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(path.read_bytes())
    except DecodeError as error:
        raise InputError(f"{path} is a damaged or incomplete ONNX file: {first_line(error)}. Copy it again.") from error
    if not proto.HasField("graph") or not proto.graph.output:
        raise InputError(f"{path} is a damaged or incomplete ONNX file: it has no graph with outputs. Copy it again.")
    return proto


def _without_drawing(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Take out the functions that draw frozen weights of a packed file: unpacking makes these without them."""
    if any(item.key == DRAWN for item in proto.metadata_props):
        others = [function for function in proto.functions if function.domain != DOMAIN]
        del proto.functions[:]
        proto.functions.extend(others)
    return proto


def _check_opset(proto: onnx.ModelProto, path: Path) -> int:
    versions = {item.version for item in proto.opset_import if item.domain in _OURS}
    if len(versions) != 1:
        raise InputError(f"{path} does not say which version of ONNX's operators (opset) it uses, so it is damaged.")
    version: int = versions.pop()
    if version not in OPSETS:
        raise InputError(
            f"{path} uses opset {version}; sparsify reads {OPSETS[0]} to {OPSETS[-1]}. Export the model again with "
            "one of these, or convert it with onnx.version_converter."
        )
    if other := next(
        (f for f in proto.functions for i in f.opset_import if i.domain in _OURS and i.version != version), None
    ):
        raise InputError(f"{path}: its function {other.name!r:.100} uses another opset than its graph.")
    return version


def _check_operators(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse a file with operators that there are no rules for, and name all of them."""
    rules.load()
    functions = {(function.domain, function.name) for function in proto.functions}
    drawing = any(item.key == DRAWN for item in proto.metadata_props)
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for node in _nodes((proto.graph.node, *(function.node for function in proto.functions))):
        known = node.op_type in RULES or node.op_type == "Constant"
        drawn = drawing and node.domain == DOMAIN and node.op_type in DISTRIBUTIONS
        if (node.domain, node.op_type) in functions or (node.domain in _OURS and known) or drawn:
            continue
        name = node.op_type if node.domain in _OURS else f"{node.domain}::{node.op_type}"
        counts[name] += 1
        examples.setdefault(name, node.name or next(iter(node.output), ""))
    if not counts:
        return
    listed = [f"{name:.80} ({count}x, such as {examples[name]!r:.100})" for name, count in counts.most_common(_LISTED)]
    more = f", and {len(counts) - _LISTED} more" if len(counts) > _LISTED else ""
    raise InputError(
        f"{path} has operators that sparsify does not read: {', '.join(listed)}{more}. Export the model in another way "
        "(without control flow, quantisation or operators of a runtime), or load it as a PyTorch model."
    )


def _nodes(blocks: Iterable[Iterable[onnx.NodeProto]]) -> Iterator[onnx.NodeProto]:
    """Yield nodes with those of graphs inside of them."""
    stack = [node for block in blocks for node in block]
    while stack:
        node = stack.pop()
        yield node
        for attribute in node.attribute:
            stack.extend(inner for graph in (attribute.g, *attribute.graphs) for inner in graph.node)
