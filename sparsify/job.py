"""The main job: load a model, run a recipe on it, write the artefacts, measure and report."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sparsify import registry
from sparsify.atomic import check_new_folder, check_writable, writing
from sparsify.coding.planes import check_zstd
from sparsify.errors import ExportError, GateError, OptionError, PassError, UsageError
from sparsify.export.archive import save
from sparsify.export.checkpoint import save_state
from sparsify.export.coreml import check_package, check_tools, export_coreml
from sparsify.export.hugging_face import save_hugging_face
from sparsify.export.onnx import export_onnx, feed
from sparsify.export.plain_state import save_plain
from sparsify.export.storage import parse_storage
from sparsify.freezing import frozen_draws
from sparsify.inputs import parse, with_batch
from sparsify.latency import measure
from sparsify.load import load
from sparsify.loading.hugging_face import is_model_folder, read_folder
from sparsify.lowering.raising import has_sparse_layers
from sparsify.pass_manager import Observer, PassManager
from sparsify.pipeline import Result, execute
from sparsify.program import Program
from sparsify.recipe import Recipe
from sparsify.retrain import parse_method
from sparsify.spec import parse_spec, with_option
from sparsify.task import Task, example_inputs, resolve
from sparsify.trackers import tracking
from sparsify.training.log import log_of_a_run
from sparsify.training.train import OnStep
from sparsify.training.work import Listener

__all__ = ["ENDINGS", "Job", "check_outputs"]

ENDINGS = (".onnx", ".pt2", ".safetensors", ".pt", ".pth", ".mlpackage", ".ticket")
Stage = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One run of the command.

    Attributes:
        model: the file, or the Hugging Face folder, to start from.
        recipe: what to do with it.
        outputs: files to write; the ending says the format.
        report: a `.json` file to write, or None.
        factory: makes the module for a state dict.
        device: where to run.
        trust: files may run code.
        verify: check after every pass.
        max_drop: how much the score may fall.
        observer: called at every step of the pipeline.
        on_step: called after every training step.
        work: a folder for the retraining, which goes on there where it was stopped.
        storage: of pruned weights in `.onnx` and `.safetensors` files, as `export_onnx` takes it.
        compress: `zstd` compresses `.safetensors` files.
        trackers: specs of where the retraining is shown, such as `tensorboard:folder=runs`.
        stage: told what begins.
        warn: told what a user should know.
        compact: the retraining keeps of masked and frozen weights only the values that are trained.
    """

    model: Path
    recipe: Recipe
    outputs: Sequence[Path] = ()
    report: Path | None = None
    factory: str | None = None
    device: str = "cpu"
    trust: bool = False
    verify: bool = True
    max_drop: float | None = None
    observer: Observer | None = None
    on_step: OnStep = lambda event: None
    work: Path | None = None
    storage: str = "dense"
    compress: Literal["zstd"] | None = None
    trackers: Sequence[str] = ()
    stage: Stage = lambda text: None
    warn: Stage = lambda text: None
    compact: bool = False

    def run(self) -> dict[str, Any]:
        """Do the job; return the report.

        Raises:
            SparsifyError: of the kind that says what failed; nothing half-written is left behind.
        """
        started = time.perf_counter()
        check_outputs(self.outputs, self.report, self.model)
        if (log := self._log_file()) is not None:
            check_writable(log)
        recipe, task = self._checked()
        self.stage(f"loading {self.model}")
        before = load_program(
            self.model, recipe.inputs, task, factory=self.factory, trust=self.trust, device=self.device
        )
        loaded = time.perf_counter()
        self.stage("running passes")
        with ExitStack() as stack:
            listeners: list[Listener] = [*stack.enter_context(tracking(self.trackers)), self._warned]
            if log is not None:
                listeners.append(stack.enter_context(log_of_a_run(log)))
            result = self._execute(before, recipe, task, listeners)
            report = {**result.report, "model": str(self.model), "recipe": recipe.as_dict()}
            report["log"] = None if log is None else str(log)
            report["load_seconds"] = round(loaded - started, 3)
            self._gate(report)
            self._write(before, result, report)
            report["seconds"] = round(time.perf_counter() - started, 3)
            if self.report is not None:
                write_json(self.report, report)
        return report

    def _execute(self, before: Program, recipe: Recipe, task: Task | None, listeners: Sequence[Listener]) -> Result:
        with recipe.blamed("retrain", OptionError):
            return execute(
                before,
                recipe.passes,
                recipe.retrain,
                task,
                recipe.seed,
                observer=self.observer,
                on_step=self.on_step,
                work=self.work,
                listeners=listeners,
                verify=self.verify,
            )

    def _checked(self) -> tuple[Recipe, Task | None]:
        """Return the recipe in canonical form and its task; what is wrong should fail before the model is loaded."""
        recipe = replace(self.recipe, passes=PassManager(self.recipe.passes).specs)
        finds = False
        if recipe.retrain is not None:
            spec = with_option(recipe.retrain, "compact", "yes") if self.compact else recipe.retrain
            method, canonical = parse_method(spec)
            recipe, finds = replace(recipe, retrain=canonical), method.finds_ticket
            if recipe.task is None:
                raise UsageError("--retrain needs data and a loss: give --task too (digits, my_task.py:make).")
        if any(path.suffix == ".ticket" for path in self.outputs) and not finds:
            raise UsageError(
                "Only --retrain lth, pai and early-bird find a ticket: there is none to write to a .ticket file."
            )
        self._check_storage()
        if any(path.suffix == ".mlpackage" for path in self.outputs):
            check_tools()
        about_training = [
            name for name, given in (("work", self.work), ("track", self.trackers), ("compact", self.compact)) if given
        ]
        if recipe.retrain is None and about_training:
            raise UsageError(f"--{about_training[0]} is about a retraining: give --retrain too.")
        for spec in self.trackers:
            registry.find("sparsify.trackers", parse_spec(spec)[0])
        if self.max_drop is not None and recipe.task is None:
            raise UsageError("--max-drop compares scores: give --task too.")
        with recipe.blamed("inputs"):
            if recipe.inputs is not None:
                parse(recipe.inputs)
        with recipe.blamed("task"):
            return recipe, None if recipe.task is None else resolve(recipe.task)

    def _check_storage(self) -> None:
        chosen, endings = parse_storage(self.storage), {path.suffix for path in self.outputs}
        if chosen.mode != "dense" and not endings & {".onnx", ".safetensors"}:
            raise UsageError(
                f"--storage {self.storage} is about .onnx and .safetensors files: give -o FILE.onnx or "
                "-o FILE.safetensors, too."
            )
        if chosen.values != "fp32" and ".safetensors" in endings:
            raise UsageError(f"--storage {self.storage}: only .onnx files hold rounded values; .safetensors are exact.")
        if self.compress is not None and ".safetensors" not in endings:
            raise UsageError(f"--compress {self.compress} is about .safetensors files: give -o FILE.safetensors, too.")
        if self.compress is not None:
            check_zstd()

    def _log_file(self) -> Path | None:
        """Return where the log of a retraining goes that has no work folder: beside what the run writes, or here."""
        if self.recipe.retrain is None or self.work is not None:
            return None
        beside = next(iter(self.outputs), self.report) or Path(self.model.name)
        return beside.with_suffix(".log.jsonl")

    def _warned(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "warning":
            self.warn(str(event["text"]))

    def _gate(self, report: Mapping[str, Any]) -> None:
        if self.max_drop is None:
            return
        scores = report["scores"]
        drop = scores["before"]["value"] - scores["after"]["value"]
        if not drop <= self.max_drop:  # a score that is not a number passes no gate
            raise GateError(
                f"The {scores['after']['name']} fell by {drop:.4f}, more than --max-drop {self.max_drop:g} allows: "
                f"{scores['before']['value']:.4f} before, {scores['after']['value']:.4f} after. Nothing was written."
            )

    def _write(self, before: Program, result: Result, report: dict[str, Any]) -> None:
        after = result.program
        if result.ticket is None and any(path.suffix == ".ticket" for path in self.outputs):
            raise PassError(
                "There is no ticket: channels were removed at once, which no masks can say. Write .pt2 instead, or "
                "leave those groups out with protect=; `sparsify inspect` lists them. Nothing was written."
            )
        metadata = {"sparsify.recipe": json.dumps(report["recipe"])}
        report["artefacts"] = []
        report["latency"] = None
        self._add_notes(after, report["notes"])
        for path in self.outputs:
            self.stage(f"writing {path}")
            checked: dict[str, Any]
            if path.suffix == ".ticket" and result.ticket is not None:
                result.ticket.save(path)
                checked = {"bytes": path.stat().st_size}
            elif path.suffix == ".onnx":
                checked = export_onnx(after, path, metadata=metadata, storage=self.storage)
                if not any(artefact["path"].endswith(".onnx") for artefact in report["artefacts"]):
                    report["latency"] = self._compare(before, after, path, report["notes"])
            elif path.suffix == ".pt2":
                checked = save(after, path)
            elif path.suffix == ".mlpackage":
                checked = export_coreml(after, path)
            elif is_folder(path):
                model = read_folder(self.model, cache=True)
                checked = save_hugging_face(after, model, path, source=self.model)
            elif path.suffix == ".safetensors":
                mode = parse_storage(self.storage).mode
                checked = save_state(after, path, mode, compress=self.compress is not None)
            else:
                checked = save_plain(after, path)
            if note := _storage_note(after, path, self.storage, checked):
                report["notes"].append(note)
            report["artefacts"].append({"path": str(path), **checked})

    def _add_notes(self, after: Program, notes: list[str]) -> None:
        if has_sparse_layers(after) and any(path.suffix == ".onnx" for path in self.outputs):
            notes.append("Sparse layers compute in PyTorch (.pt2). ONNX files have dense layers with zeros in their "
                         "place: their size and latency are those of dense.")  # fmt: skip

    def _compare(self, before: Program, after: Program, path: Path, notes: list[str]) -> dict[str, Any] | None:
        """Measure the dense model beside the new one, in the same run."""
        self.stage("measuring latency")
        with tempfile.TemporaryDirectory(prefix="sparsify-") as folder:
            dense = Path(folder) / "dense.onnx"
            try:
                size = export_onnx(before, dense)["bytes"]
            except ExportError as error:  # the point of pruning may be that only the result can be written
                notes.append(f"There is no latency to compare with, for the model before cannot be written. {error}")
                return None
            feeds = [feed(program, with_batch(program, 1)) for program in (before, after)]
            first, second = measure([dense, path], feeds)
        return {"before": first.as_dict(), "after": second.as_dict(), "dense_bytes": size}


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


def load_program(
    path: Path, inputs: str | None, task: Task | None, *, factory: str | None, trust: bool, device: str
) -> Program:
    """Load a program from a file; a task may offer the inputs."""
    example = None if task is None else example_inputs(task)
    return load(path, inputs, trust=trust, factory=factory, example=example, device=device)


def check_outputs(outputs: Sequence[Path], report: Path | None, model: Path) -> None:
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
    if report is not None:
        if report.suffix != ".json":
            raise UsageError(f"{report}: a report is written as .json.")
        check_writable(report)


def is_folder(path: Path) -> bool:
    """Whether an output is a folder: its name has no ending; what is behind the dot of `qwen2.5-7b` is none."""
    return not path.suffix[1:].isalpha() and path.suffix not in ENDINGS


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
