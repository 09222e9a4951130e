"""What a run writes: a file or a folder in the format that the ending of its name says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sparsify.errors import PassError
from sparsify.export.archive import save
from sparsify.export.checkpoint import save_state
from sparsify.export.coreml import export_coreml
from sparsify.export.hugging_face import save_hugging_face
from sparsify.export.onnx import export_onnx
from sparsify.export.plain_state import save_plain
from sparsify.export.storage import parse_storage
from sparsify.freezing import frozen_draws
from sparsify.loading.hugging_face import read_folder
from sparsify.lowering.raising import has_sparse_layers
from sparsify.pipeline import Result
from sparsify.program import Program

__all__ = ["ENDINGS", "Artefacts", "is_folder"]

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
    """

    result: Result
    model: Path
    storage: str = "dense"
    compress: Literal["zstd"] | None = None
    metadata: Mapping[str, str] | None = None

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
            return save_hugging_face(program, read_folder(self.model, cache=True), place, source=self.model)
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
        if target.suffix == ".onnx" and has_sparse_layers(self.result.program):
            found.append("Sparse layers compute in PyTorch (.pt2). ONNX files have dense layers with zeros in their "
                         "place: their size and latency are those of dense.")  # fmt: skip
        if note := _storage_note(self.result.program, target, self.storage, checked):
            found.append(note)
        return found


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
