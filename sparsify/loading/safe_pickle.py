"""Pickles without trust: every global name is checked before anything is unpickled, and modules are read as inert data.

A pickle runs code through the names it imports. `scan` lists these names from the instructions, without following them;
`load` refuses a file with a name that is not needed for tensors, plain containers and torch.nn modules. The rest is
read by torch's own restricted unpickler, in which the classes of torch.nn stand for inert data (safe_module.py).

The list is shorter than torch's own: nothing that rebuilds sparse, quantized, nested or subclassed tensors (their
constructors trust their arguments), no `bytearray`. `_rebuild_from_type_v2` calls the object that it is given and sets
attributes; it is only read in example inputs, on which torch.export.Dim.DYNAMIC leaves attributes, and where that
object can be nothing but one of the other names.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import pickletools
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from sparsify.errors import InputError, UntrustedError
from sparsify.loading.safe_module import build, inert_globals
from sparsify.naming import first_names
from sparsify.user_code import extend_path

__all__ = ["UNREADABLE", "WAYS_OUT", "brief", "load", "load_plain", "load_trusted", "only", "scan"]

WAYS_OUT = (
    "If you trust whoever made the file, pass --trust (trust=True). Otherwise have the model saved where its code is: "
    "as a graph with torch.export.save(torch.export.export(model, args), 'model.pt2'), or its state_dict() alone, "
    "which needs --model pkg.module:factory here."
)

_TENSORS = frozenset(
    {"collections.OrderedDict", "builtins.set", "torch.Size", "torch.device"}
    | {f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "tensor_v3")}
    | {f"torch._utils._rebuild_{name}" for name in ("parameter", "parameter_with_state")}
)
_MARKED = frozenset({"torch._tensor._rebuild_from_type_v2", "torch.Tensor"})  # a tensor with attributes
_STORAGE = re.compile(r"torch\.(cuda\.)?[A-Z]\w*Storage|torch\.storage\.(Untyped|Typed)Storage")
_PICKLES_WITHOUT_ZIP = 5  # magic number, protocol, system, the object, the keys of its storages
_AGAIN = "Save the file again, or get a complete copy of it."

UNREADABLE = (
    *(ValueError, TypeError, LookupError, AttributeError, EOFError, OSError, RuntimeError, AssertionError),
    *(MemoryError, ArithmeticError, struct.error),
)
"""What torch and the standard library raise on damaged files."""


def scan(stream: bytes | IO[bytes], path: Path, *, pickles: int = 1) -> list[str]:
    """List the global names that a stream of pickles uses, in order, without unpickling anything.

    Args:
        stream: pickles one after the other, from the current position.
        path: of the file, for the message.
        pickles: how many to read.

    Raises:
        InputError: the instructions do not make up whole pickles.
    """
    file = io.BytesIO(stream) if isinstance(stream, bytes) else stream
    names: dict[str, None] = {}
    try:
        for _ in range(pickles):
            strings: list[str] = []
            for instruction, argument, _position in pickletools.genops(file):
                if instruction.name in ("GLOBAL", "INST"):
                    names[str(argument).replace(" ", ".")] = None
                elif instruction.name == "STACK_GLOBAL":
                    names[".".join(strings[-2:])] = None
                elif isinstance(argument, str):
                    strings.append(argument)
    except UNREADABLE as error:
        raise InputError(f"{path} is damaged: its pickled part cannot be read ({brief(error)}). {_AGAIN}") from error
    return [re.sub(r"^__builtin__\.", "builtins.", name) for name in names]


def load(file: IO[bytes], path: Path, pickled: bytes | None) -> Any:
    """Read a file that torch.save wrote, without running code of its own.

    Args:
        file: open for reading; torch reads the same object.
        path: of the file, for messages.
        pickled: the pickle inside a zip archive, or None for the old format without one.

    Returns:
        What was saved: tensors on the CPU, plain values, torch.nn modules.

    Raises:
        UntrustedError: the file names or holds something that could run code.
        InputError: the file is damaged.
    """
    known = inert_globals()
    file.seek(0)
    names = scan(file, path, pickles=_PICKLES_WITHOUT_ZIP) if pickled is None else scan(pickled, path)
    try:
        return _load(file, path, names, known, "cpu")
    except UntrustedError as error:
        raise UntrustedError(f"{path} could run code when it is loaded: {error}. {WAYS_OUT}") from error


def load_trusted(file: IO[bytes], path: Path) -> Any:
    """Unpickle a file that torch.save wrote and that the user trusts: it may run code.

    Raises:
        InputError: a module or class that the file names cannot be imported, or the file is damaged.
    """
    import torch

    extend_path(Path.cwd())  # as `python` would: the code of a model is mostly where its user stands
    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=False)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path} needs the Python module {error.name!r}, which cannot be imported. Install it, or start "
            "sparsify in the folder that it is in."
        ) from error
    except AttributeError as error:
        raise InputError(
            f"{path} names a class that is not where it was when the file was saved: {brief(error)}. Put the code that "
            "it was saved with on PYTHONPATH; a class of a script must be moved to a module and saved again."
        ) from error
    except Exception as error:
        raise InputError(f"{path} cannot be unpickled: {type(error).__name__}: {brief(error)}. {_AGAIN}") from error


def load_plain(data: bytes, path: Path) -> Any:
    """Read tensors and plain containers from the bytes of a file that torch.save wrote.

    Raises:
        UntrustedError: the bytes name something that could run code; the message is only what was found.
        InputError: the bytes are damaged.
    """
    import torch

    try:
        pickled = torch._C.PyTorchFileReader(io.BytesIO(data)).get_record("data.pkl")
    except UNREADABLE as error:
        raise InputError(f"{path} is damaged: {brief(error)}. {_AGAIN}") from error
    # As torch.export.load calls it, without a map: when that call fails, it unpickles the same bytes without limits.
    names = [name for name in scan(pickled, path) if name not in _MARKED]
    return _load(io.BytesIO(data), path, names, {}, None)


@contextlib.contextmanager
def only(known: Mapping[str, Any]) -> Iterator[None]:
    """Let torch's restricted unpickler know these global names, and none that other libraries registered."""
    import torch

    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([(stand_in, name) for name, stand_in in known.items()])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def brief(error: BaseException) -> str:
    """Return the part of an exception's text that says what happened, on one line of bounded length."""
    text = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    lines = [line.strip() for line in text.partition("Check the documentation")[0].splitlines() if line.strip()]
    # torch puts a whole traceback into some messages; its last line is the cause.
    line = lines[-1 if "Traceback" in text else 0] if lines else type(error).__name__
    return line.rstrip(".") if len(line) <= 200 else f"{line[:200]} [...]"


def _load(file: IO[bytes], path: Path, names: list[str], known: Mapping[str, Any], place: str | None) -> Any:
    import torch

    if strange := [name for name in names if not _is_plain(name) and name not in known]:
        raise UntrustedError(f"it uses {first_names(strange)}, which is neither a tensor nor part of torch.nn")
    file.seek(0)
    try:
        with only(known), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: it reads them or it does not
            tree = torch.load(file, map_location=place, weights_only=True)
        return build(tree)
    except pickle.UnpicklingError as error:
        raise UntrustedError(_refusal(brief(error))) from error
    except UntrustedError:
        raise
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}. {_AGAIN}") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply to be a model. {_AGAIN}") from error
    except UNREADABLE as error:
        if "deserialize object on" in str(error):
            raise InputError(f"{path} has tensors of another device: {brief(error)}. Save it from the CPU.") from error
        raise InputError(f"{path} is damaged or was not written by torch.save: {brief(error)}. {_AGAIN}") from error


def _refusal(reason: str) -> str:
    # All names are known ones by now; what is left are instructions that torch.save does not write by default.
    if "persistent_load" in reason:
        return "it holds a whole module in the format of torch < 1.6, which cannot be checked"
    if "Unsupported operand" in reason:
        return "it was saved with another pickle_protocol than torch.save's default, and cannot be checked"
    return f"torch's restricted unpickler refuses it ({reason})"


def _is_plain(name: str) -> bool:
    return name in _TENSORS or name in _dtypes() or bool(_STORAGE.fullmatch(name))


@functools.cache
def _dtypes() -> frozenset[str]:
    import torch

    return frozenset(str(value) for value in vars(torch).values() if isinstance(value, torch.dtype))
