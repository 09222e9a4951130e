"""What the JSON of an exported graph may say, so that torch can rebuild the graph without running code of the file.

Texts of that JSON end up in four places that run code: expressions go to `eval` (safe_expression.py), operators are
looked up from `torch` by attribute (`torch.os.system` is one), types of the input structure are imported, and names of
nodes, arguments and submodules are written into Python source that is then executed. So the rule is the other way
round: each text must match the pattern of its field, and a field without a rule of its own holds a plain label.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from sparsify.loading.safe_expression import guard_problem, size_problem
from sparsify.operators import register_operators

__all__ = ["LABEL", "offences"]

LABEL = re.compile(r"[\w .:/+@<>=-]{0,1000}")
"""Text that cannot leave a string literal or a comment that it is written into: no quotes, brackets, line breaks."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_OPERATOR = re.compile(r"torch\.ops\.(aten|prims|sparsify|torchvision|transformers)\.([A-Za-z_]\w*)\.([A-Za-z_]\w*)")
_RAW = re.compile(r"from_file|save|set_|_?resize_\w*|_sparse_\w*_unsafe|_nested_\w*")  # files and unchecked memory
_FUNCTIONS = frozenset(
    [
        "eq",
        "ne",
        "le",
        "ge",
        "lt",
        "gt",
        "neg",
        "pos",
        "mul",
        "add",
        "sub",
        "floordiv",
        "mod",
        "pow",
        "truediv",
        "and_",
        "or_",
        "lshift",
        "rshift",
        "getitem",
    ]
)
_HIGHER_ORDER = frozenset(
    ["cond", "while_loop", "scan", "associative_scan", "map_impl", "wrap_with_set_grad_enabled", "wrap_with_autocast"]
)
_VMAP = frozenset(
    [
        "_add_batch_dim",
        "_remove_batch_dim",
        "_vmap_increment_nesting",
        "_vmap_decrement_nesting",
        "lazy_load_decompositions",
    ]
)
_TARGETS = frozenset(
    {f"_operator.{name}" for name in _FUNCTIONS}
    | {f"torch.ops.higher_order.{name}" for name in _HIGHER_ORDER}
    | {f"torch._functorch.predispatch.{name}" for name in _VMAP}
    | {f"torch.sym_{name}" for name in ("not", "int", "float", "ite", "max", "min", "sqrt")}
    | {"math.trunc", "torch._sym_sqrt"}
)
_CONTAINERS = frozenset(
    [
        "builtins.tuple",
        "builtins.list",
        "builtins.dict",
        "collections.OrderedDict",
        "collections.namedtuple",
        "collections.deque",
        "torch.Size",
        "torch.fx.immutable_collections.immutable_list",
        "torch.fx.immutable_collections.immutable_dict",
    ]
)
_TRANSFORMERS_OUTPUT = re.compile(r"transformers\.(modeling_outputs|models\.(\w+)\.modeling_\w+)\.\w+")
_RANGE_SYMBOL = re.compile(r"[a-z_]{1,16}\d{1,6}")  # the number is a loop count in torch's deserializer
_CUSTOM_OBJECTS = frozenset({"as_custom_obj", "custom_obj"})
_NAMES_OF_VALUES = frozenset({"tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values"})
_FREE_KEYS = _NAMES_OF_VALUES | frozenset(
    {"custom_obj_values", "range_constraints", "opset_version", "treespec_namedtuple_fields", "config"}
    | {"as_string_to_argument"}
)


def offences(document: Any) -> Iterator[str]:
    """Yield what a parsed JSON document of a `.pt2` archive says that torch's deserializer could run, and where."""
    pending: list[tuple[Any, str, str, bool]] = [(document, "", "", True)]
    while pending:
        value, field, where, strict = pending.pop()
        if isinstance(value, dict):
            for key, child in value.items():
                if problem := _entry_problem(key, child, field):
                    yield f"at {where or 'the top'}, {problem}"
                inside = f"{where}.{key}" if where else key
                # Keys that the file chose say nothing about the field that their values are.
                name = "metadata" if field == "metadata" else "" if field in _FREE_KEYS else key
                pending.append((child, name, inside, name == "graph" or (strict and name != "nodes")))
        elif isinstance(value, list):
            pending.extend((child, field, f"{where}[{i}]", strict) for i, child in enumerate(value))
        elif isinstance(value, str) and (problem := _text_problem(value, field, strict)):
            yield f"at {where}, {problem}"


def _entry_problem(key: str, child: Any, field: str) -> str | None:
    if field == "metadata" and not isinstance(child, str):
        return f"the metadata {key!r:.100} is not text"
    if field not in _FREE_KEYS and key in _CUSTOM_OBJECTS:
        return "a custom object is built"
    if field == "range_constraints" and not _RANGE_SYMBOL.fullmatch(key):
        return f"{key!r:.100} is not a symbol"
    if field in _NAMES_OF_VALUES and not key.isidentifier():
        return f"{key!r:.100} is not a name"
    return None if LABEL.fullmatch(key) else f"the key {key!r:.100} is not a plain name"


def _text_problem(text: str, field: str, strict: bool) -> str | None:
    if rule := _RULES.get(field):
        return rule(text)
    if field in ("as_string", "as_strings") and not strict:
        return _comment_problem(text)  # an operator's argument: written into the source as a Python literal
    return None if LABEL.fullmatch(text) else f"the text {text!r:.100} is not a plain label"


def _name_problem(text: str) -> str | None:
    return None if text == "" or text.isidentifier() else f"{text!r:.100} is not a name"


def _comment_problem(text: str) -> str | None:
    # A carriage return ends a comment line of the generated source; torch splits these texts at line feeds only.
    return f"the text {text!r:.100} has control characters" if _CONTROL.search(text) or '"""' in text else None


def _target_problem(text: str) -> str | None:
    import torch

    if text in _TARGETS:
        return None
    match = _OPERATOR.fullmatch(text)
    if not match or _RAW.fullmatch(match[2]):
        return f"the operator {text!r:.100} is not one that computes on tensors only"
    if match[1] == "sparsify":
        register_operators()
    packet = getattr(getattr(torch.ops, match[1]), match[2], None)
    found = getattr(packet, match[3], None)
    if found is not None and not isinstance(found, torch._ops.OpOverload):
        return f"{text!r:.100} is not an operator"
    return None


def _structure_problem(text: str, *, inputs: bool) -> str | None:
    try:
        _, root = json.loads(text)
        if inputs:
            keywords = json.loads(root["children_spec"][1]["context"])
            if not all(isinstance(key, str) and key.isidentifier() for key in keywords):
                return f"the keyword arguments {keywords!r:.100} are not names"
        pending = [root]
        while pending:
            node = pending.pop()
            if problem := _container_problem(node["type"], node["context"]):
                return problem
            pending.extend(node["children_spec"])
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        return f"the structure {text!r:.100} cannot be read ({type(error).__name__})"
    return None


def _container_problem(kind: object, context: object) -> str | None:
    if kind is None:
        return None
    if not (isinstance(kind, str) and (kind in _CONTAINERS or _TRANSFORMERS_OUTPUT.fullmatch(kind))):
        return f"the container type {kind!r:.100} is not a plain one"
    if kind == "collections.namedtuple":
        return None if isinstance(context, str) and LABEL.fullmatch(context) else f"the context {context!r:.100}"
    keys = json.loads(context) if isinstance(context, str) else context
    keys = keys if isinstance(keys, list) else [keys]
    if all(key is None or isinstance(key, int) or (isinstance(key, str) and LABEL.fullmatch(key)) for key in keys):
        return None
    return f"the keys {keys!r:.100} are not plain ones"


_RULES: dict[str, Callable[[str], str | None]] = {
    "expr_str": size_problem,
    "guards_code": guard_problem,
    "in_spec": lambda text: _structure_problem(text, inputs=True),
    "out_spec": lambda text: _structure_problem(text, inputs=False),
    "target": _target_problem,
    "as_operator": _target_problem,
    "name": _name_problem,
    "as_name": _name_problem,
    "forward_arg_names": _name_problem,
    "metadata": _comment_problem,
}
