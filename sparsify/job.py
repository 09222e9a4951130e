"""The main job: load a model, run a recipe on it, write the artefacts, measure and report."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sparsify import registry
from sparsify.artefacts import Artefacts, check_outputs, is_folder
from sparsify.atomic import check_writable
from sparsify.coding.planes import check_zstd
from sparsify.errors import ExportError, InputError, OptionError, UsageError
from sparsify.export.coreml import check_tools
from sparsify.export.hugging_face import check_expressible
from sparsify.export.onnx import check_types
from sparsify.export.storage import parse_storage
from sparsify.gates import Gates, Verdict, refuse, write_junit
from sparsify.inputs import parse
from sparsify.layer_table import layer_table
from sparsify.load import load
from sparsify.loading.hugging_face import read_folder
from sparsify.parallel.ranks import started
from sparsify.parallel.strategy import Kind, Parallel, parallel
from sparsify.pass_manager import Observer, PassManager
from sparsify.pipeline import Result, execute
from sparsify.program import Program
from sparsify.recipe import Recipe
from sparsify.report.files import check_reports, write_reports
from sparsify.retrain import parse_method
from sparsify.spec import parse_spec, with_option
from sparsify.speedup import NotMeasured, speed_of, speedup
from sparsify.staging import Staging, staging
from sparsify.task import Task, example_inputs, resolve
from sparsify.trackers import tracking
from sparsify.training.log import log_of_a_run
from sparsify.training.watch import OnStep
from sparsify.training.work import Listener

__all__ = ["Job", "load_program"]

Stage = Callable[[str], None]
_FOLLOWING: dict[str, Any] = {
    "outputs": (), "reports": (), "junit": None, "max_drop": None, "min_speedup": None, "max_size": None,
    "storage": "dense", "compress": None, "observer": None, "trackers": (),
}  # fmt: skip
"""What processes behind the first one leave to it."""
_TOLD, _GATED = 2.0, 10.0  # seconds to time two models, to tell how fast they are and where a gate depends on it


@dataclass(frozen=True)
class Job:
    """One run of the command.

    Attributes:
        model: the file, or the Hugging Face folder, to start from.
        recipe: what to do with it.
        outputs: files to write; the ending says the format.
        reports: files to write the report to, `.json` or `.html`.
        factory: makes the module for a state dict.
        device: where to run.
        trust: files may run code.
        verify: check after every pass.
        max_drop: how much the score may fall.
        min_speedup: how many times as fast as before the model must be, as ONNX in onnxruntime.
        max_size: what each output may take, as `parse_size` reads it.
        junit: where what the three gates found is written as JUnit's XML, or None.
        observer: called at every step of the pipeline.
        on_step: called after every training step.
        work: a folder for the retraining, which goes on there where it was stopped.
        storage: of pruned weights in `.onnx` and `.safetensors` files, as `export_onnx` takes it.
        compress: `zstd` compresses `.safetensors` files.
        trackers: specs of where the retraining is shown, such as `tensorboard:folder=runs`.
        stage: told what begins.
        warn: told what a user should know.
        compact: the retraining keeps of masked and frozen weights only the values that are trained.
        parallel: how the processes that torchrun has started retrain together; the first one writes and tells.
    """

    model: Path
    recipe: Recipe
    outputs: Sequence[Path] = ()
    reports: Sequence[Path] = ()
    factory: str | None = None
    device: str = "cpu"
    trust: bool = False
    verify: bool = True
    max_drop: float | None = None
    min_speedup: float | None = None
    max_size: str | None = None
    junit: Path | None = None
    observer: Observer | None = None
    on_step: OnStep = lambda event: None
    work: Path | None = None
    storage: str = "dense"
    compress: Literal["zstd"] | None = None
    trackers: Sequence[str] = ()
    stage: Stage = lambda text: None
    warn: Stage = lambda text: None
    compact: bool = False
    parallel: Kind | None = None

    def run(self) -> dict[str, Any]:
        """Do the job; return the report.

        Raises:
            GateError: a gate failed. It has the report, which is also written, and no output is.
            SparsifyError: of the kind that says what failed; nothing half-written is left behind.
        """
        with parallel(self.parallel, self.device) as spread:
            job = self if spread.ranks.leads else replace(self, **_FOLLOWING)
            return job._run(spread)

    def _run(self, spread: Parallel) -> dict[str, Any]:
        started = time.perf_counter()
        check_outputs(self.outputs, self.model)
        check_reports(self.reports)
        for file in (log := self._log_file() if spread.ranks.leads else None, self.junit):
            if file is not None:
                check_writable(file)
        recipe, task = self._checked()
        self.stage(f"loading {self.model}")
        before = load_program(
            self.model, recipe.inputs, task, factory=self.factory, trust=self.trust, device=self.device
        )
        loaded = time.perf_counter()
        self._check_program(before)
        self.stage("running passes")
        with ExitStack() as stack:
            listeners: list[Listener] = [*stack.enter_context(tracking(self.trackers)), self._warned]
            if log is not None:
                listeners.append(stack.enter_context(log_of_a_run(log)))
            result = self._execute(before, recipe, task, listeners, spread=spread)
            report = {**result.report, "model": str(self.model), "recipe": recipe.as_dict()}
            report["log"] = None if log is None else str(log)
            report["load_seconds"] = round(loaded - started, 3)
            report["command"] = replace(self, recipe=recipe).command
            verdicts = self._deliver(before, result, report)
            if self.reports:
                self.stage("measuring layers")
                report["layers"] = layer_table(before, result.program, task, recipe.seed).as_dict()
            report["seconds"] = round(time.perf_counter() - started, 3)
            write_reports(self.reports, report, before, result.program)
            if self.junit is not None:
                write_junit(self.junit, verdicts, report["seconds"])
            refuse(verdicts, report, "No output was written." if self.outputs else "")
        return report

    @property
    def command(self) -> str:
        """The command that does the same; what only changes what is shown is not in it."""
        options = {
            "--model": self.factory,
            "--device": None if self.device == "cpu" else self.device,
            "--work": self.work,
            "--max-drop": _number(self.max_drop),
            "--min-speedup": _number(self.min_speedup),
            "--max-size": self.max_size,
            "--storage": None if self.storage == "dense" else self.storage,
            "--compress": self.compress,
            "--junit": self.junit,
            "--parallel": self.parallel,
        }
        unsaid = self.compact and "compact=" not in (self.recipe.retrain or "")  # its canonical form says it
        flags = {"--trust": self.trust, "--no-verify": not self.verify, "--compact": unsaid}
        words = [*(started() if self.parallel else ["sparsify"]), str(self.model), *self.recipe.options()]
        words += [word for spec in self.trackers for word in ("--track", spec)]
        words += [word for path in self.outputs for word in ("-o", str(path))]
        words += [word for path in self.reports for word in ("--report", str(path))]
        words += [word for name, value in options.items() if value is not None for word in (name, str(value))]
        return shlex.join([*words, *(name for name, given in flags.items() if given)])

    def _execute(
        self, before: Program, recipe: Recipe, task: Task | None, listeners: Sequence[Listener], *, spread: Parallel
    ) -> Result:
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
                check=self._check_result,
                parallel=spread,
            )

    def _check_result(self, after: Program) -> None:
        """Refuse before a retraining what no Hugging Face folder can say."""
        if self.recipe.retrain is not None and any(is_folder(path) for path in self.outputs):
            check_expressible(after, read_folder(self.model, cache=True))

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
        self._check_gates()
        if any(path.suffix == ".mlpackage" for path in self.outputs):
            check_tools()
        about_training = [
            name
            for name, given in (
                ("work", self.work), ("track", self.trackers), ("compact", self.compact), ("parallel", self.parallel)
            )
            if given
        ]  # fmt: skip
        if recipe.retrain is None and about_training:
            raise UsageError(f"--{about_training[0]} is about a retraining: give --retrain too.")
        for spec in self.trackers:
            registry.find("sparsify.trackers", parse_spec(spec)[0])
        with recipe.blamed("inputs"):
            if recipe.inputs is not None:
                parse(recipe.inputs)
        with recipe.blamed("task"):
            return recipe, None if recipe.task is None else resolve(recipe.task)

    @property
    def _gates(self) -> Gates:
        return Gates(self.min_speedup, self.max_size, self.max_drop)

    def _check_gates(self) -> None:
        if self.max_drop is not None and self.recipe.task is None:
            raise UsageError("--max-drop compares scores: give --task too.")
        if self.max_size is not None and not self.outputs:
            raise UsageError("--max-size looks at what is written: give -o too.")
        if not self._gates and self.junit is not None:  # limits that are none are refused here, too
            raise UsageError("--junit says what gates found: give --max-drop, --min-speedup or --max-size too.")

    def _check_program(self, before: Program) -> None:
        """Refuse before the passes run what no ONNX file can hold."""
        names = [str(path) for path in self.outputs if path.suffix == ".onnx"]
        for name in names or (["--min-speedup measures ONNX"] if self.min_speedup is not None else []):
            try:
                check_types(before, name)
            except ExportError as error:
                raise InputError(str(error)) from error

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
        beside = next(iter([*self.outputs, *self.reports]), None) or Path(self.model.name)
        return beside.with_suffix(".log.jsonl")

    def _warned(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "warning":
            self.warn(str(event["text"]))

    def _deliver(self, before: Program, result: Result, report: dict[str, Any]) -> list[Verdict]:
        """Write, measure and judge; with gates no output is in its place before all are passed.

        Where the score fell too much and no other gate asks for more, nothing is written to be looked at.
        """
        gates = self._gates
        verdicts = gates.drop(report["scores"])
        report.update(artefacts=[], latency=None)
        with staging(self.outputs, staged=bool(gates)) as stage:
            if gates.of_files or all(verdict.passed for verdict in verdicts):
                verdicts += self._write(before, result, report, stage)
            if all(verdict.passed for verdict in verdicts):
                stage.commit()
            else:
                report.update(artefacts=[], log=None)
        report["gates"] = [verdict.as_dict() for verdict in verdicts]
        return verdicts

    def _write(self, before: Program, result: Result, report: dict[str, Any], stage: Staging) -> list[Verdict]:
        """Write every output and measure; return what the gates of files say."""
        artefacts = Artefacts(
            result,
            self.model,
            self.storage,
            self.compress,
            {"sparsify.recipe": json.dumps(report["recipe"])},
            before,
        )
        artefacts.check(self.outputs)
        for path in self.outputs:
            self.stage(f"writing {path}")
            with stage.writing(path) as place:
                checked = artefacts.write(path, place)
            report["notes"] += [note for note in artefacts.notes(path, checked) if note not in report["notes"]]
            report["artefacts"].append({"path": str(path), **checked})
        verdicts = self._measure(before, result.program, report, stage)
        return verdicts + self._gates.sizes({item["path"]: item["bytes"] for item in report["artefacts"]})

    def _measure(self, before: Program, after: Program, report: dict[str, Any], stage: Staging) -> list[Verdict]:
        """Measure the model before beside the first ONNX file, in one run; without a file, if a gate or a page asks."""
        gates, file = self._gates, next((path for path in self.outputs if path.suffix == ".onnx"), None)
        shown = any(path.suffix == ".html" for path in self.reports)
        if file is None and gates.min_speedup is None and not shown:
            return []
        self.stage("measuring latency")
        place, seconds = None if file is None else stage.place(file), _TOLD if gates.min_speedup is None else _GATED
        where = "ONNX" if file is None else str(file)
        try:
            report["latency"] = speedup(before, after, place, seconds=seconds)
        except NotMeasured as error:  # the point of pruning may be that only the result can be written
            report["notes"].append(f"There is no latency to compare with: {error}")
            return gates.speed(str(error), where)
        return gates.speed(speed_of(report["latency"]), f"{where}, batch {report['latency']['after']['batch']}")


def load_program(
    path: Path, inputs: str | None, task: Task | None, *, factory: str | None, trust: bool, device: str
) -> Program:
    """Load a program from a file; a task may offer the inputs."""
    example = None if task is None else example_inputs(task)
    return load(path, inputs, trust=trust, factory=factory, example=example, device=device)


def _number(value: float | None) -> str | None:
    """Write a number as short as it can be read back."""
    return None if value is None else repr(value).removesuffix(".0")
