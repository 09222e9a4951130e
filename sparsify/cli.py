"""The command line. torch is imported only when a model is touched, so that `--help` answers at once."""

from __future__ import annotations

import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from sparsify import registry
from sparsify.atomic import check_writable
from sparsify.commands.bench import bench
from sparsify.commands.catalogue import criteria, explain, passes
from sparsify.commands.compare import compare
from sparsify.commands.diff import diff
from sparsify.commands.doctor import doctor
from sparsify.commands.evaluate import evaluate
from sparsify.commands.plot import plot
from sparsify.commands.sensitivity import sensitivity
from sparsify.commands.sweep import sweep
from sparsify.commands.unpack import unpack
from sparsify.console import err, out, print_json, progress, rank
from sparsify.errors import GateError, InputError, SparsifyError, UsageError
from sparsify.options import GATES, OUTPUT, WORK, AsJson, Audit, Compact, Device, Factory, Inputs, Model, Task, Trust
from sparsify.recipe import Recipe, read_recipe
from sparsify.report import terminal
from sparsify.report.groups import print_groups
from sparsify.spec import nearest, parse_spec

if TYPE_CHECKING:
    from sparsify.pass_manager import Event

__all__ = ["main"]

_BUG = 70  # the exit status of a fault of sparsify itself


def _version() -> str:
    from sparsify.version import __version__

    return __version__


app = App(
    name="sparsify",
    version=_version,
    help="""Make PyTorch models smaller and faster, and check after every step that what should hold still holds.

    `sparsify model.pt --pass layer-prune -o small.onnx` captures the model, removes its least useful residual block,
    checks the result and writes ONNX. `sparsify demo` shows it on a model that it trains in seconds.

    Any command takes `--debug`, which shows the traceback of an error. Exit status: 0 done; 1 a gate such as
    `--max-drop`, or a trial of a sweep, failed; 2 wrong use, or a bad or untrusted file; 3 a contract or an export
    check was violated; 70 a fault of sparsify; 130 interrupted.""",
    help_format="markdown",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


@app.default
def prune(
    model: Model,
    /,
    *,
    passes: Annotated[
        list[str] | None,
        Parameter(name="--pass", negative="", help="NAME[:key=value,...]; repeat for a pipeline", group=WORK),
    ] = None,
    recipe: Annotated[
        Path | None, Parameter(help="a YAML file with passes, task, inputs, retrain, seed", group=WORK)
    ] = None,
    retrain: Annotated[
        str | None, Parameter(help="METHOD[:key=value,...] after the passes, such as fine-tune:steps=5ep", group=WORK)
    ] = None,
    task: Task = None,
    inputs: Inputs = None,
    factory: Factory = None,
    seed: Annotated[int | None, Parameter(help="of everything random (default: 0)", group=WORK)] = None,
    device: Device = "cpu",
    trust: Trust = False,
    output: Annotated[
        list[Path] | None,
        Parameter(
            name=("--output", "-o"),
            negative="",
            help=".onnx, .pt2, .safetensors, .pt (a plain state dict), .mlpackage, .ticket; without ending a Hugging "
            "Face folder; may be repeated",
            group=OUTPUT,
        ),
    ] = None,
    storage: Annotated[
        str,
        Parameter(
            help="of pruned weights in .onnx and .safetensors: dense; packed, without what masks leave out (runtimes "
            "put zeros back when they load .onnx); auto; packed:values=fp16 or int8 also rounds what .onnx keeps",
            group=OUTPUT,
        ),
    ] = "dense",
    compress: Annotated[
        Literal["zstd"] | None, Parameter(help="compress .safetensors files (zstd); unpack undoes it", group=OUTPUT)
    ] = None,
    report: Annotated[
        list[Path] | None,
        Parameter(
            negative="", help="write the report: .html for people, .json for programs; may be repeated", group=OUTPUT
        ),
    ] = None,
    work: Annotated[
        Path | None,
        Parameter(help="folder for the retraining's log and checkpoints; the same command goes on there", group=WORK),
    ] = None,
    track: Annotated[
        list[str] | None,
        Parameter(negative="", help="also show the retraining there: tensorboard, mlflow or wandb", group=WORK),
    ] = None,
    compact: Compact = False,
    audit: Audit = False,
    parallel: Annotated[
        Literal["ddp", "fsdp"] | None,
        Parameter(help="processes of torchrun retrain together: ddp shares batches, fsdp the weights, too", group=WORK),
    ] = None,
    max_drop: Annotated[float | None, Parameter(help="a gate: how much the score may fall", group=GATES)] = None,
    min_speedup: Annotated[
        float | None,
        Parameter(help="a gate: how many times as fast it must be in onnxruntime as the model before", group=GATES),
    ] = None,
    max_size: Annotated[
        str | None, Parameter(help="a gate: how large each output may be: 500kB, 10MB", group=GATES)
    ] = None,
    junit: Annotated[Path | None, Parameter(help="write what the gates found as JUnit's XML", group=GATES)] = None,
    print_after: Annotated[
        str | None, Parameter(help="print the program after this pass, or after all", group=OUTPUT)
    ] = None,
    time_passes: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="print how long each pass and its checks took", group=OUTPUT),
    ] = False,
    no_verify: Annotated[
        bool, Parameter(negative="", show_default=False, help="do not check the program after every pass", group=WORK)
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run passes on a model, check after each, and write the result."""
    given = Recipe(tuple(passes or ()), retrain, task, inputs, seed or 0)
    chosen = given.over(read_recipe(recipe)) if recipe else given
    if seed is not None:
        chosen = replace(chosen, seed=seed)
    chosen = chosen.audited() if audit else chosen
    if not chosen.passes and not chosen.retrain and not output:
        if not model.exists():
            raise UsageError(_unknown(str(model)))
        raise UsageError("Nothing to do: give --pass, --retrain, --recipe or -o. `sparsify inspect MODEL` only looks.")
    names = [parse_spec(spec)[0] for spec in chosen.passes]
    for name in names:
        registry.find("sparsify.passes", name)
    if print_after not in (None, "all", *names):
        raise UsageError(f"--print-after {print_after}: no such pass runs; give all or one of {', '.join(names)}.")
    if rank() is not None and parallel is None:
        raise UsageError("torchrun has started several processes, which would do the same: give --parallel ddp.")
    if not model.exists():  # said here, before torch is imported
        raise InputError(f"{model} cannot be opened: no such file.")
    from sparsify.job import Job

    with progress() as show:
        job = Job(
            model=model,
            recipe=chosen,
            outputs=output or (),
            storage=storage,
            compress=compress,
            reports=report or (),
            factory=factory,
            device=device,
            trust=trust,
            verify=not no_verify,
            max_drop=max_drop,
            min_speedup=min_speedup,
            max_size=max_size,
            junit=junit,
            observer=_observer(print_after, time_passes, show),
            on_step=show.step,
            work=work,
            trackers=track or (),
            stage=show,
            warn=_warn,
            compact=compact,
            parallel=parallel,
        )
        failed = None
        try:
            result: Mapping[str, Any] = job.run()
        except GateError as error:
            if error.report is None:
                raise
            failed, result = error, error.report
    if as_json:
        print_json(result)
    else:
        terminal.print_report(out, result, *(report or ()), junit)
    if failed is not None:
        raise failed


@app.command
def inspect(
    model: Model,
    /,
    *,
    granularity: Annotated[
        Literal["layer", "sublayer"], Parameter(help="list whole layers or single branches", group=OUTPUT)
    ] = "layer",
    task: Task = None,
    inputs: Inputs = None,
    factory: Factory = None,
    device: Device = "cpu",
    trust: Trust = False,
    graph: Annotated[
        bool, Parameter(negative="", show_default=False, help="print the program as text instead", group=OUTPUT)
    ] = False,
    html: Annotated[
        Path | None, Parameter(help="also draw the groups over the graph, in one .html file", group=OUTPUT)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a model's inputs, cost, blocks and groups: what can be removed, and why the rest cannot."""
    if html is not None:
        if graph or html.suffix != ".html":
            raise UsageError("--html takes the name of an .html file, and does not go with --graph.")
        check_writable(html)
    from sparsify.inspection import inspection
    from sparsify.job import load_program
    from sparsify.task import resolve

    with progress() as show:
        show(f"loading {model}")
        program = load_program(
            model, inputs, None if task is None else resolve(task), factory=factory, trust=trust, device=device
        )
        if graph:
            out.print(str(program), highlight=False, markup=False, soft_wrap=True)
            return
        show("looking for blocks and groups")
        found = inspection(program, granularity)
        if html is not None:
            from sparsify.report.page import write_page

            write_page(html, program, found, model.name)
    if as_json:
        print_json(found.as_dict())
        return
    terminal.print_summary(out, found, str(model))
    terminal.print_block_list(out, found.blocks, found.savings)
    print_groups(out, found.prunable)
    if html is not None:
        out.print(f"wrote {html}", highlight=False, markup=False, soft_wrap=True)


for _command in (bench, evaluate, sensitivity, sweep, plot, compare, unpack, passes, criteria, explain, diff, doctor):
    app.command(_command)


@app.command
def demo(
    *,
    folder: Annotated[Path, Parameter(help="where the files go", group=OUTPUT)] = Path("demo-out"),
    seed: Annotated[int, Parameter(help="of the training", group=WORK)] = 0,
) -> None:
    """Train a small residual network on real digits, remove layers, fine-tune, compare and write ONNX."""
    from sparsify.demo import run_demo

    with progress() as show:
        result = run_demo(folder, seed, show)
    result.print(out)


def _warn(text: str) -> None:
    if rank():
        return  # the first process says it
    err.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=not err.is_terminal)


def _observer(print_after: str | None, time_passes: bool, show: Callable[[str], None]) -> Callable[[Event], None]:
    def observe(event: Event) -> None:
        show(f"{event.spec}: {'checking' if event.kind == 'transformed' else 'running'}")
        name = event.spec.partition(":")[0]
        if time_passes and event.kind != "started":
            err.print(f"{event.seconds:8.3f} s  {event.spec} ({event.kind})", highlight=False, markup=False)
        if event.kind == "transformed" and print_after in (name, "all"):
            err.print(f"--- after {event.spec}\n{event.program}", highlight=False, markup=False, soft_wrap=True)

    return observe


def main(words: list[str] | None = None) -> None:
    """Run the command and leave with its exit status."""
    signal.signal(signal.SIGTERM, _terminated)
    words = sys.argv[1:] if words is None else words
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    sys.exit(_run(words or ["--help"], debug))


def _terminated(number: int, _frame: object) -> None:
    """Leave as an exception does, so that temporary files go."""
    sys.exit(128 + number)


def _run(words: list[str], debug: bool) -> int:
    try:
        app(words, exit_on_error=False, print_error=False)
    except (SparsifyError, CycloptsError) as error:
        caught: BaseException = error
        status = error.exit_status if isinstance(error, SparsifyError) else 2
        message = _unexpected(words) if isinstance(error, UnusedCliTokensError) else str(error)
    except KeyboardInterrupt as error:
        caught = error
        status, message = 130, str(error) or "Interrupted; nothing half-written is left behind."
    except Exception as error:  # noqa: BLE001 -- the last line of defence: no traceback without --debug
        caught = error
        status = _BUG
        message = f"This is a fault of sparsify, not yours: {type(error).__name__}: {error}. --debug shows where."
    else:
        return 0
    if debug:
        traceback.print_exception(caught)
    # In a file or a pipe the paragraph is one line, so that no path in it is broken.
    who = f"sparsify (process {rank()})" if rank() else "sparsify"
    err.print(f"{who}: {message}", style="red", highlight=False, markup=False, soft_wrap=not err.is_terminal)
    return status


def _unexpected(words: list[str]) -> str:
    """Say which word is one too many, or that the first one should have been a command."""
    if words[0].startswith("-") or words[0] in app or Path(words[0]).exists():
        own = f" {words[0]}" if words[0] in app and not words[0].startswith("-") else ""
        text = shlex.join(words) + (". A report of your own goes behind --run" if own == " compare" else "")
        return f"There is one word too many in: sparsify {text}. `sparsify{own} --help` shows what is possible."
    return _unknown(words[0])


def _unknown(word: str) -> str:
    commands = [name for name in app if not name.startswith("-")]
    return f"{word!r} is neither a file nor a command{nearest(word, commands)}. Commands: {', '.join(commands)}."
