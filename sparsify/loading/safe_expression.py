"""Which texts of an exported graph torch may evaluate: arithmetic on sizes, and nothing else.

torch.export gives two kinds of text to Python's `eval` or `exec`: sizes (`Add(Symbol('s0'), Integer(1))`, through
`sympy.sympify`) and guards (`L['x'].size()[0] % 2 == 0`, through the source of the module's guard function, where the
name `torch` is in scope). Both are parsed here first, and every node of the syntax tree must be one that torch writes.

Powers and shifts need a small literal exponent: `10**10**10` is only arithmetic, but it never ends.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable

__all__ = ["guard_problem", "size_problem"]

# sympy tokenizes on its own and drops line breaks; these characters mean the same to it and to `ast`.
_SIZE_TEXT = re.compile(r"[A-Za-z0-9_ (),.'+\-*/%<>=&|~]{1,100000}")
_GUARD_TEXT = re.compile(r"[A-Za-z0-9_ (),.'+\-*/%<>=&|~!\[\]:@]{1,100000}")
_SYMBOL = re.compile(r"[a-z_]{1,16}\d{1,6}")
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,60})?(e[+-]?\d{1,3})?")

_OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.LShift, ast.RShift),
    *(ast.BitAnd, ast.BitOr, ast.Invert, ast.UAdd, ast.USub, ast.Not, ast.And, ast.Or),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)
_STRUCTURE = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Load, *_OPERATORS)

_POWERS = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift"})
_SIZE_FUNCTIONS = _POWERS | frozenset(
    [
        "Symbol",
        "Integer",
        "Rational",
        "Float",
        "Add",
        "Mul",
        "Max",
        "Min",
        "Abs",
        "floor",
        "ceiling",
        "Piecewise",
        "ExprCondPair",
        "And",
        "Or",
        "Not",
        "Equality",
        "Unequality",
        "Eq",
        "Ne",
        "LessThan",
        "GreaterThan",
        "StrictLessThan",
        "StrictGreaterThan",
        "Le",
        "Ge",
        "Lt",
        "Gt",
        "Mod",
        "PythonMod",
        "FloorDiv",
        "CleanDiv",
        "CeilDiv",
        "ModularIndexing",
        "Where",
        "RShift",
        "FloatTrueDiv",
        "IntTrueDiv",
        "CeilToInt",
        "FloorToInt",
        "TruncToInt",
        "RoundToInt",
        "TruncToFloat",
        "RoundDecimal",
        "ToFloat",
        "Identity",
        "IsNonOverlappingAndDenseIndicator",
    ]
)
_SIZE_CONSTANTS = frozenset({"true", "false", "oo", "int_oo"})
_GUARD_FUNCTIONS = frozenset(
    {"max", "min", "abs", "int", "float", "round", "IsNonOverlappingAndDenseIndicator"}
    | {"cast_symbool_to_symint_guardless"}
)
_GUARD_METHODS = frozenset({"size", "stride", "storage_offset", "dim"})
_MODULE_MEMBERS = {
    "math": frozenset({"trunc", "floor", "ceil", "sqrt", "isnan", "inf", "nan"}),
    "torch": frozenset({"sym_float", "sym_int", "sym_max", "sym_min", "sym_not", "sym_ite", "sym_sqrt"}),
}


@functools.lru_cache(maxsize=4096)  # a dynamic model repeats few, long expressions thousands of times
def size_problem(text: str) -> str | None:
    """Say what in the text of a size is not arithmetic on symbols, or return None."""
    return _problem(text, _SIZE_TEXT, _size_node)


def guard_problem(text: str) -> str | None:
    """Say what in the text of a guard is not a comparison of input sizes, or return None."""
    return _problem(text, _GUARD_TEXT, _guard_node)


def _problem(text: str, characters: re.Pattern[str], allowed: Callable[[ast.AST], bool]) -> str | None:
    if not characters.fullmatch(text):
        return f"the expression {_shown(text)} has characters that no size needs"
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return f"the expression {_shown(text)} cannot be parsed"
    wrong = next((node for node in nodes if not (isinstance(node, _STRUCTURE) or allowed(node))), None)
    if wrong is None:
        wrong = next((node for node in nodes if not _bounded(node)), None)
    return None if wrong is None else f"the expression {_shown(text)} uses {_shown(ast.unparse(wrong))}"


def _size_node(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=str() as value):
            return bool(_SYMBOL.fullmatch(value) or _NUMBER.fullmatch(value))
        case ast.Constant(value=bool() | int() | float()):
            return True
        case ast.Name(id=name):
            return name in _SIZE_FUNCTIONS or name in _SIZE_CONSTANTS or bool(_SYMBOL.fullmatch(name))
        case ast.Call(func=ast.Name(id=name)):
            return name in _SIZE_FUNCTIONS
        case ast.keyword(arg=str(), value=ast.Constant(value=int(value))):
            return value <= 200  # assumptions such as integer=True, and the precision of a Float
    return False


def _guard_node(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=value):
            return value is None or isinstance(value, bool | int | float | str)
        case ast.Name(id=name):
            return name == "L" or name in _GUARD_FUNCTIONS or name in _MODULE_MEMBERS
        case ast.Attribute(value=ast.Name(id=("math" | "torch") as module), attr=name):
            return name in _MODULE_MEMBERS[module]
        case ast.Attribute(value=value, attr=name):
            return _of_inputs(value) and not name.startswith("_")
        case ast.Subscript(value=value, slice=ast.Constant()):
            return _of_inputs(value)
        case ast.Call(func=ast.Name(id=name), keywords=[]):
            return name in _GUARD_FUNCTIONS
        case ast.Call(func=ast.Attribute(value=ast.Name(id=("math" | "torch"))), keywords=[]):
            return True
        case ast.Call(func=ast.Attribute(value=value, attr=name), keywords=[]):
            return _of_inputs(value) and name in _GUARD_METHODS
    return False


def _of_inputs(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return isinstance(node, ast.Name) and node.id == "L"


def _bounded(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=int() | float() as value):
            return abs(value) < 2**64
        case ast.BinOp(op=ast.Pow() | ast.LShift(), left=base, right=exponent):
            return _small(exponent) and _towers(base) < 3
        case ast.Call(func=ast.Name(id=name), args=[base, exponent]) if name in _POWERS:
            return _small(exponent) and _towers(base) < 3
        case ast.Call(func=ast.Name(id=name)) if name in _POWERS:
            return False
    return True


def _small(exponent: ast.expr) -> bool:
    nodes = list(ast.walk(exponent))
    plain = (ast.Constant, ast.UnaryOp, ast.USub, ast.Call, ast.Name, ast.Load, ast.keyword)
    heads = {node.id for node in nodes if isinstance(node, ast.Name)}
    numbers = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return (
        all(isinstance(node, plain) for node in nodes)
        and heads <= {"Integer", "Rational", "Float"}
        and bool(numbers)
        and all(_magnitude(number) <= 64 for number in numbers)
    )


def _magnitude(number: object) -> float:
    if isinstance(number, str):
        return abs(float(number)) if _NUMBER.fullmatch(number) else float("inf")
    return abs(number) if isinstance(number, int | float) else float("inf")


def _towers(base: ast.expr) -> int:
    """Count the powers inside a base: each may multiply the number of digits by 64."""
    nodes = list(ast.walk(base))
    operators = sum(isinstance(node, ast.Pow | ast.LShift) for node in nodes)
    return operators + sum(isinstance(node, ast.Name) and node.id in _POWERS for node in nodes)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 120 else f"{text[:100]}...")
