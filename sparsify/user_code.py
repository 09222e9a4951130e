"""User code on the command line: `file.py:factory` and `package.module:factory` name an object to import."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from sparsify.errors import UsageError
from sparsify.spec import nearest

__all__ = ["extend_path", "load_object", "make", "reason"]


def load_object(spec: str, what: str) -> Any:
    """Import the object that `spec` names.

    Args:
        spec: `path/to/file.py:attribute` or `package.module:attribute`.
        what: the object's role, for messages, such as `task`.

    Raises:
        UsageError: the spec has another form, the file or module cannot be imported, or the attribute is missing.
    """
    source, colon, attribute = spec.rpartition(":")
    if not colon or not source or not attribute:
        raise UsageError(f"The {what} {spec!r} is not of the form file.py:name or package.module:name.")
    module = _import_file(source, what) if source.endswith(".py") else _import_module(source, what)
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        close = nearest(attribute, public)
        raise UsageError(f"The {what} {spec!r} was not found: {source} has no {attribute!r}{close}.")
    return getattr(module, attribute)


def make(factory: Any, spec: str, what: str) -> Any:
    """Call a user's class or function without arguments.

    Raises:
        UsageError: the call raised; the message says what and where.
    """
    try:
        return factory()
    except Exception as error:
        raise UsageError(f"The {what} {spec!r} could not be made: {reason(error)}.") from error


def _import_file(source: str, what: str) -> ModuleType:
    path = Path(source).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"The {what} file {source} does not exist.")
    # The user's file may import its neighbours; at the end of the path it shadows nothing.
    extend_path(path.parent)
    name = f"sparsify_user_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise UsageError(f"The {what} file {source} cannot be imported.")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickle look their module up here
    try:
        found.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"The {what} file {source} cannot be imported: {reason(error)}.") from error
    return module


def _import_module(source: str, what: str) -> ModuleType:
    extend_path(Path.cwd())
    try:
        return importlib.import_module(source)
    except Exception as error:
        raise UsageError(f"The {what} module {source} cannot be imported: {reason(error)}.") from error


def extend_path(directory: Path) -> None:
    """Let Python find the user's modules in a folder, after everything that is installed."""
    if str(directory) not in sys.path:
        sys.path.append(str(directory))


def reason(error: Exception) -> str:
    """Return the error in one line, with the place in the user's code that raised it."""
    text = f"{type(error).__name__}: {error}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text
