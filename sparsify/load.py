"""Load: a file becomes an nn.Module or an exported program, and that a Program. Nothing in it runs without trust.

The kind of a file is read from its content. A `.pt2` archive, an ONNX file and a pickled module are complete; a state
dict needs the user's factory. Where the example inputs come from, in this order: the user's spec, the archive, the
task, the shapes in an ONNX file.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sparsify.errors import InputError, NoInputsError, UntrustedError, UsageError
from sparsify.loading.hugging_face import CONFIG, example_inputs, is_model_folder, read_folder

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from sparsify.coding.sparse_state import Chosen
    from sparsify.program import Program

    Source = nn.Module | ExportedProgram | Mapping[str, Tensor]

__all__ = ["load", "read"]

Inputs = tuple[tuple[Any, ...], dict[str, Any]]

_LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")  # a pickled number, after the two bytes of the protocol
_ONNX = re.compile(rb"\x08[\x01-\x1f][\x12\x1a\x22\x2a\x32\x3a\x42]")  # the format's version, then another field
_HEAD = 512
_LARGEST_HEADER = 100_000_000  # of a .safetensors file, by its specification
_OTHERS = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"GGUF": "a GGUF file of llama.cpp",
    b"PK": "an empty or broken zip archive",
    b"\x80": "a plain pickle that torch.save did not write",
}
_WANTED = (
    "sparsify reads .pt2 archives (torch.export.save), .onnx, modules and state dicts (torch.save), and .safetensors."
)


def load(
    path: str | Path,
    inputs: str | None = None,
    *,
    trust: bool = False,
    factory: str | None = None,
    example: Inputs | None = None,
    device: str = "cpu",
) -> Program:
    """Load a model from a file and capture it.

    Inputs given for a `.pt2` archive replace its example; they must fit the shapes it was exported for, because a graph
    cannot be captured again for others.

    Args:
        path: of a `.pt2` archive, an `.onnx` file, a file that torch.save wrote, a `.safetensors` file, or a Hugging
            Face folder.
        inputs: the spec of example inputs, such as `1x3x224x224`, or a file of them.
        trust: the file may run code.
        factory: `package.module:factory` or `file.py:factory`, makes the module of a state dict.
        example: args and kwargs to use when neither the user nor the file gives inputs.
        device: where the model and its inputs go.

    Raises:
        UsageError: the inputs' spec, the factory or the device is wrong.
        InputError: the file cannot be read, or there are no inputs (NoInputsError); UntrustedError if reading it could
            run code.
        CaptureError: the model cannot be captured.
    """
    from torch import nn
    from torch.jit import ScriptModule

    from sparsify.capture import capture, from_exported
    from sparsify.inputs import parse
    from sparsify.loading.placement import find_device, move_inputs, move_model, with_inputs
    from sparsify.onnx_in.importing import example_of, to_program
    from sparsify.onnx_in.network import OnnxNetwork

    place = find_device(device)
    synthetic = inputs is not None and Path(inputs).suffix not in (".npz", ".safetensors")
    given = None if inputs is None else move_inputs(parse(inputs), place)
    found, marked = _read(path, trust=trust, factory=factory)
    source = move_model(found, place)
    own = None if isinstance(source, nn.Module) else source.example_inputs
    chosen = given or own or move_inputs(example, place)
    if isinstance(source, OnnxNetwork):
        if chosen is None:
            chosen, synthetic = move_inputs(example_of(source), place), True
        if chosen is not None:
            return to_program(source, chosen, Path(path), synthetic=synthetic)
    if chosen is None and isinstance(source, nn.Module) and Path(path).is_dir():
        chosen, synthetic = move_inputs(example_inputs(source), place), True
    if chosen is None:
        raise NoInputsError(
            f"{path} has no example inputs, and a graph cannot be captured without them. "
            "Give their shapes, such as --inputs 1x3x224x224 or --inputs ids:int64[2,128]%30522, or a task."
        )
    args, kwargs = chosen
    if isinstance(source, ScriptModule):
        from sparsify.loading.torchscript import convert

        source = convert(source, args, kwargs, Path(path))
    if isinstance(source, nn.Module):
        program = capture(source, args, kwargs, synthetic=synthetic)
        return program if marked is None else marked.of(program)
    program = from_exported(with_inputs(source, (args, kwargs), Path(path)))
    return program if inputs is None else program.with_example(args, kwargs, synthetic=synthetic)


def read(path: str | Path, *, trust: bool = False, factory: str | None = None) -> nn.Module | ExportedProgram:
    """Read what a file holds: a module, or an exported program. The file is not changed.

    Raises:
        UsageError: the factory is wrong, or the file needs none.
        InputError: the file is missing, damaged, of another kind, or does not fit the factory.
        UntrustedError: reading the file could run code, and it is not trusted; the message names what was found.
    """
    return _read(path, trust=trust, factory=factory)[0]


def _read(path: str | Path, *, trust: bool, factory: str | None) -> tuple[nn.Module | ExportedProgram, Chosen | None]:
    """As `read`; return what of a state dict is masked or frozen, too."""
    path = Path(path)
    if path.is_dir() and is_model_folder(path):
        if factory is not None:
            raise UsageError(f"{path} says which model it holds, so the factory {factory!r} is not needed.")
        return read_folder(path), None
    with _opened(path) as file:
        source = _reader(file, path)(file, path, trust)
    if isinstance(source, Mapping):
        from sparsify.coding.sparse_state import SparseState
        from sparsify.loading.state_dict import fill

        state = SparseState(source, path)
        return fill(state, factory, path), state.chosen
    if factory is not None:
        raise UsageError(f"{path} holds a whole model, so the factory {factory!r} is not needed: leave --model out.")
    return source, None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if path.is_dir():
        raise InputError(
            f"{path} is a directory without {CONFIG}. Give the model's file inside, such as model.pt2 or "
            "model.safetensors."
        )
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}.") from error
    with file:
        yield file


def _reader(file: IO[bytes], path: Path) -> Callable[[IO[bytes], Path, bool], Source]:
    """Return the reader of the kind that the first bytes, or the entries of a zip archive, say."""
    head = file.read(_HEAD)
    if not head:
        raise InputError(f"{path} is empty.")
    if head.startswith(b"PK\x03\x04"):
        return _zip_reader(file, path)
    if head[2:].startswith(_LEGACY_MAGIC):
        return _read_saved
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LARGEST_HEADER:
        return _read_safetensors
    if _ONNX.match(head):
        return _read_onnx
    if head[257:262] == b"ustar":
        raise InputError(f"{path} is a tar archive. {_WANTED}")
    other = next((name for start, name in _OTHERS.items() if head.startswith(start)), "no model of a known kind")
    raise InputError(f"{path} is {other}. {_WANTED}")


def _zip_reader(file: IO[bytes], path: Path) -> Callable[[IO[bytes], Path, bool], Source]:
    from sparsify.loading.safe_archive import read_exported
    from sparsify.loading.safe_zip import entries

    names = {info.filename.partition("/")[2] or info.filename for info in entries(file, path)}
    if names & {"archive_format", "serialized_exported_program.json"}:
        return lambda file, path, trust: read_exported(file, path, trust=trust)
    if "constants.pkl" in names:
        return _read_script
    if "data.pkl" in names:
        return _read_saved
    what = "a NumPy archive" if any(name.endswith(".npy") for name in names) else "a zip archive without a model"
    raise InputError(f"{path} is {what}. {_WANTED}")


def _read_script(file: IO[bytes], path: Path, trust: bool) -> Source:
    if not trust:
        raise UntrustedError(
            f"{path} is a TorchScript archive, a program of its own that would have to be run. If you trust whoever "
            "made it, pass --trust (trust=True). Otherwise load it where its Python class lives and save that module "
            "with torch.export.save."
        )
    from sparsify.loading.torchscript import read_script

    return read_script(file, path)


def _read_saved(file: IO[bytes], path: Path, trust: bool) -> Source:
    from sparsify.loading import safe_pickle
    from sparsify.loading.safe_zip import open_archive
    from sparsify.loading.state_dict import unwrap

    file.seek(0)
    zipped = file.read(2) == b"PK"
    pickled = open_archive(file, path).read("data.pkl") if zipped else None
    tree = safe_pickle.load_trusted(file, path) if trust else safe_pickle.load(file, path, pickled)
    return unwrap(tree, path)


def _read_onnx(_file: IO[bytes], path: Path, _trust: bool) -> Source:
    from sparsify.onnx_in.importing import read_onnx

    return read_onnx(path)


def _read_safetensors(_file: IO[bytes], path: Path, _trust: bool) -> Source:
    from sparsify.coding.tensor_file import TensorFile

    return TensorFile(path)
