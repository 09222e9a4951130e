"""What a run writes: a file or a folder in the format that the ending of its name says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sparsify.atomic import check_new_folder, check_writable
from sparsify.errors import PassError, UsageError
from sparsify.export.archive import save
from sparsify.export.checkpoint import save_state
from sparsify.export.coreml import check_package, export_coreml
from sparsify.export.hugging_face import save_hugging_face
from sparsify.export.onnx import export_onnx
from sparsify.export.plain_state import save_plain
from sparsify.export.storage import parse_storage
from sparsify.freezing import frozen_draws
from sparsify.loading.hugging_face import is_model_folder, read_folder
from sparsify.lowering.raising import sparse_layers
from sparsify.pipeline import Result
from sparsify.program import Program

__all__ = ["ENDINGS", "Artefacts", "check_outputs", "is_folder"]

ENDINGS = (".onnx", ".pt2", ".safetensors", ".pt", ".pth", ".mlpackage", ".ticket")


@dataclass(frozen=True)
class Artefacts:
    """Writes the result of a run.

    Attributes:
        result: of the run.
        model: the file, or the Hugging Face folder, that it started from.
        storage: of pruned weights in `.onnx` and `.safetensors` files, as `export_onnx` takes it.
        compress: `zstd` compresses `.safetensors` files.
        metadata: of `.onnx` files.
        before: the program that the run started from.
    """

    result: Result
    model: Path
    storage: str = "dense"
    compress: Literal["zstd"] | None = None
    metadata: Mapping[str, str] | None = None
    before: Program | None = None

    def write(self, target: Path, place: Path) -> dict[str, Any]:
        """Write a file or a folder.

        Args:
            target: its name for the user, whose ending says the format.
            place: where it is written; the name in its folder is the same.

        Returns:
            What was checked, `bytes` always.

        Raises:
            SparsifyError: what the format's own function raises.
        """
        program = self.result.program
        if is_folder(target):
            model = read_folder(self.model, cache=True)
            return save_hugging_face(program, model, place, source=self.model, before=self.before)
        if target.suffix == ".ticket" and self.result.ticket is not None:
            self.result.ticket.save(place)
            return {"bytes": place.stat().st_size}
        match target.suffix:
            case ".onnx":
                return export_onnx(program, place, metadata=self.metadata, storage=self.storage)
            case ".pt2":
                return save(program, place)
            case ".mlpackage":
                return export_coreml(program, place)
            case ".safetensors":
                mode = parse_storage(self.storage).mode
                return save_state(program, place, mode, compress=self.compress is not None)
        return save_plain(program, place)

    def check(self, targets: Sequence[Path]) -> None:
        """Check before anything is written that there is what should be written.

        Raises:
            PassError: there is no ticket.
        """
        if self.result.ticket is None and any(path.suffix == ".ticket" for path in targets):
            raise PassError(
                "There is no ticket: channels were removed at once, which no masks can say. Write .pt2 instead, or "
                "leave those groups out with protect=; `sparsify inspect` lists them. Nothing was written."
            )

    def notes(self, target: Path, checked: Mapping[str, Any]) -> list[str]:
        """Say what is otherwise in a file than one might think."""
        found = []
        if target.suffix == ".onnx" and sparse_layers(self.result.program):
            found.append("Sparse layers compute in PyTorch (.pt2). ONNX files have dense layers with zeros in their "
                         "place: their size and latency are those of dense.")  # fmt: skip
        if note := _storage_note(self.result.program, target, self.storage, checked):
            found.append(note)
        return found


def check_outputs(outputs: Sequence[Path], model: Path) -> None:
    """Check endings and folders before any work is done.

    Raises:
        UsageError: an ending says no known format, or the file is the model itself.
        InputError: a file cannot be written.
    """
    for path in outputs:
        if is_folder(path):
            if not is_model_folder(model):
                raise UsageError(
                    f"{path}: the ending says what is written; use one of {', '.join(ENDINGS)}. A name without is a "
                    f"Hugging Face folder, which is written of another: {model} is none. In Python, "
                    "sparsify.save_hugging_face takes the model itself."
                )
            check_new_folder(path)
            continue
        if path.suffix not in ENDINGS:
            raise UsageError(f"{path}: the ending says what is written; use one of {', '.join(ENDINGS)}.")
        if path.exists() and model.exists() and path.samefile(model):
            raise UsageError(f"{path} is the model itself, which is never overwritten; name another file.")
        check_package(path) if path.suffix == ".mlpackage" else check_writable(path)


def is_folder(path: Path) -> bool:
    """Whether an output is a folder: its name has no ending; what is behind the dot of `qwen2.5-7b` is none."""
    return not path.suffix[1:].isalpha() and path.suffix not in ENDINGS


def _storage_note(program: Program, path: Path, storage: str, checked: Mapping[str, Any]) -> str:
    """Say what is stored otherwise than it was asked for, and why."""
    frozen = len(frozen_draws(program)) if path.suffix == ".onnx" else 0
    if storage != "dense" and checked.get("storage") == "dense":
        more = (
            " Frozen weights are computed from their seed with --storage packed only: such a file is for onnxruntime."
        )
        tagged = "its 2:4 weights stay so, for TensorRT must see their zeros" if checked.get("two_of_four") else ""
        return f"{path} is stored dense: {tagged or 'packed it would not be smaller'}.{more if frozen else ''}"
    drawn = len({item["name"] for item in checked.get("packed", ()) if item["drawn"]})
    if parse_storage(storage).mode == "packed" and drawn < frozen:
        return (f"{path}: {frozen - drawn} of {frozen} frozen weights are stored whole: they are small, or computing "
                "all of them from their seed would take onnxruntime more than 4 GiB.")  # fmt: skip
    return ""
