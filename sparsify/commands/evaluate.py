"""The command `sparsify evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from sparsify.console import out, print_json, progress
from sparsify.errors import InputError, UsageError
from sparsify.options import INPUT, WORK, AsJson, Device, Factory, Inputs, Task, Trust

if TYPE_CHECKING:
    from sparsify.program import Program
    from sparsify.task import Task as TaskOf

__all__ = ["evaluate"]


def evaluate(
    *models: Annotated[
        Path, Parameter(help="the dense model, and those to compare with it", group=INPUT, show_default=False)
    ],
    task: Task = None,
    shifted: Annotated[
        list[str] | None,
        Parameter(negative="", help="NAME=TASK: score on other data, too; may be repeated", group=INPUT),
    ] = None,
    inputs: Inputs = None,
    factory: Factory = None,
    device: Device = "cpu",
    trust: Trust = False,
    examples: Annotated[
        int | None, Parameter(help="look at so many validation examples (default: all)", group=INPUT)
    ] = None,
    corruptions: Annotated[
        str, Parameter(help="all, none, or names with commas, such as gaussian-noise,fog", group=WORK)
    ] = "all",
    severities: Annotated[str, Parameter(help="which of 1 to 5, with commas", group=WORK)] = "1,2,3,4,5",
    similarity: Annotated[
        Literal["layers", "output", "none"], Parameter(help="where CKA with the first model is measured", group=WORK)
    ] = "layers",
    seconds: Annotated[
        float, Parameter(help="how long latency is measured; 0 leaves it and energy out", group=WORK)
    ] = 10.0,
    batch: Annotated[
        int | None, Parameter(help="examples in a measured run (default: 1, or what models fix)", group=WORK)
    ] = None,
    threads: Annotated[
        int | None, Parameter(help="how many a measured run may use (default: all processors)", group=WORK)
    ] = None,
    meter: Annotated[
        Literal["auto", "watts", "rapl", "codecarbon"],
        Parameter(help="what energy is estimated from (auto: the processor's counters, else watts)", group=WORK),
    ] = "auto",
    watts: Annotated[
        float | None, Parameter(help="the machine's power while it runs a model (assumed: 65)", group=WORK)
    ] = None,
    grid: Annotated[
        float | None, Parameter(help="grams of CO2 for each kWh (default: 475, the world's mean in 2018)", group=WORK)
    ] = None,
    country: Annotated[
        str | None, Parameter(help="three letters: with codecarbon, the grid of that country", group=WORK)
    ] = None,
    seed: Annotated[int, Parameter(help="of the corruptions", group=WORK)] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure models beside a dense one: score, likeness, robustness, cost, latency, energy.

    Robustness is the score on images with corruptions like those of CIFAR-10-C, made here, and on the data of
    --shifted. Likeness is linear CKA of outputs and of layers that both have. Energy and CO2 are estimates, which say
    what they rest on. docs/evaluation.md has the formulas.
    """
    if not models or task is None:
        raise UsageError("Say what to evaluate, and on which data: sparsify evaluate DENSE MODEL... --task TASK.")
    levels = _severities(severities)
    _check_meter(meter, watts, grid, country)
    if seconds < 0 or any(number is not None and number < 1 for number in (batch, examples, threads)):
        raise UsageError("--examples, --batch and --threads must be at least 1, and --seconds not negative.")
    for path in models:
        if not path.exists():  # said here, before torch is imported
            raise InputError(f"{path} cannot be opened: no such file.")
    from sparsify.evaluation.corruptions import named
    from sparsify.evaluation.energy import GRID
    from sparsify.evaluation.evaluate import Evaluation, Power
    from sparsify.evaluation.evaluate import evaluate as evaluated
    from sparsify.report.evaluation import print_evaluation
    from sparsify.task import resolve

    chosen, data = named(corruptions), resolve(task)
    others = _others(shifted or [])
    with progress() as show:
        programs = _loaded(models, data, show, inputs=inputs, factory=factory, trust=trust, device=device)
        how = Evaluation(
            corruptions=chosen,
            severities=levels,
            similarity=similarity,
            shifted=others,
            examples=examples,
            seconds=seconds,
            batch=batch,
            threads=threads,
            power=Power(meter, watts, GRID if grid is None else grid, country),
            seed=seed,
            stage=show,
        )
        found = evaluated(programs, data, how)
    if as_json:
        print_json(found)
        return
    print_evaluation(out, found)


def _severities(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or any(word not in ("1", "2", "3", "4", "5") for word in words):
        raise UsageError(f"--severities {text}: write numbers from 1 to 5 with commas, such as 1,3,5.")
    return sorted({int(word) for word in words})


def _check_meter(meter: str, watts: float | None, grid: float | None, country: str | None) -> None:
    if (watts is not None and not watts > 0) or (grid is not None and not grid >= 0):
        raise UsageError("--watts must be more than 0, and --grid not negative.")
    if watts is not None and meter in ("rapl", "codecarbon"):
        raise UsageError(f"--watts is for --meter watts; {meter} finds the power itself.")
    if country is not None and (meter != "codecarbon" or grid is not None):
        raise UsageError("--country is for --meter codecarbon, and instead of --grid.")


def _others(specs: list[str]) -> dict[str, TaskOf]:
    from sparsify.task import resolve

    found: dict[str, TaskOf] = {}
    for spec in specs:
        name, equals, task = spec.partition("=")
        if not equals or not name or not task or ":" in name:
            raise UsageError(f"--shifted {spec}: write NAME=TASK, such as fog=cifar10c:DIR,corruption=fog.")
        if name in found:
            raise UsageError(f"--shifted {spec}: there are two of the name {name}.")
        found[name] = resolve(task)
    return found


def _loaded(
    models: tuple[Path, ...],
    task: TaskOf,
    show: Callable[[str], None],
    *,
    inputs: str | None,
    factory: str | None,
    trust: bool,
    device: str,
) -> dict[str, Program]:
    from sparsify.job import load_program

    programs: dict[str, Program] = {}
    for path in models:
        show(f"loading {path}")
        if str(path) in programs:
            raise UsageError(f"{path} is given twice.")
        programs[str(path)] = load_program(path, inputs, task, factory=factory, trust=trust, device=device)
    return programs
