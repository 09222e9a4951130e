"""The command `sparsify sweep`."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from sparsify.console import out, print_json, progress
from sparsify.errors import InputError, SparsifyError, SweepError, UsageError
from sparsify.naming import plural
from sparsify.options import INPUT, OUTPUT, WORK, AsJson, Device, Trust

if TYPE_CHECKING:
    from sparsify.console import Show
    from sparsify.sweeps.recipe import Plan
    from sparsify.sweeps.results import Measured
    from sparsify.sweeps.store import Store
    from sparsify.sweeps.trials import Sweep

__all__ = ["sweep"]

_JOBS = 16  # at most, if not said: memory, not processors, is what more of them lack


def sweep(
    recipe: Annotated[
        Path, Parameter(help="a YAML file with models, methods, sparsity, seeds, task", group=INPUT, show_default=False)
    ],
    /,
    *,
    folder: Annotated[
        Path | None,
        Parameter(
            name="--out",
            help="where trials are kept (default: beside the recipe); the same command goes on there",
            group=OUTPUT,
        ),
    ] = None,
    jobs: Annotated[int | None, Parameter(help="how many processes (default: the cores)", group=WORK)] = None,
    threads: Annotated[int, Parameter(help="of each process; results depend on them in the last bits", group=WORK)] = 1,
    batch_seeds: Annotated[
        Literal["auto", "yes", "no"],
        Parameter(
            help="train several seeds of a fine-tuning at once: where a few steps find that faster, wherever it is "
            "possible, or never",
            group=WORK,
        ),
    ] = "auto",
    ray: Annotated[
        str | None,
        Parameter(help="run on a Ray cluster: its address, auto, or local to start one (extra: ray)", group=WORK),
    ] = None,
    device: Device = "cpu",
    trust: Trust = False,
    dry_run: Annotated[
        bool, Parameter(negative="", show_default=False, help="only say what there is to run", group=WORK)
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run methods x sparsities x seeds x models, each trial once, and show which are worth it.

    In the specs of methods `$sparsity` stands for each of the sparsities. A trial that is done is not run again,
    whatever else changes in the recipe: its key is what decides its result. The folder gets sweep.html, sweep.csv and a
    report for each trial. Exit status 1: a trial failed; the same command tries it again.
    """
    count = jobs if jobs is not None else min(_JOBS, _cores() // max(1, threads) or 1)
    if count < 1 or threads < 1:
        raise UsageError("--jobs and --threads must be positive.")
    if not recipe.exists():  # said here, before torch is imported
        raise InputError(f"The sweep {recipe} cannot be read: no such file.")
    place = folder or recipe.with_name(f"{recipe.stem}-out")
    from sparsify.sweeps.recipe import read_plan
    from sparsify.sweeps.trials import Sweep

    with progress() as show:
        show(f"reading {recipe}")
        plan = read_plan(recipe)
        options = [*_given("--device", device, "cpu"), *(("--trust",) if trust else ())]
        trials = plan.trials(*options, device=device, threads=threads)
        most = max(1, len({trial.key for trial in trials}) // count)
        whole = Sweep(place, trials, plan.task, plan.inputs, plan.factory, device, trust, threads, batch_seeds, most)
        command = ["sparsify", "sweep", str(recipe), *_given("--out", folder, None), *options,
                   *_given("--threads", threads, 1), *_given("--batch-seeds", batch_seeds, "auto")]  # fmt: skip
        names = (recipe.name, shlex.join(command))
        errors: dict[str, str] = {}
        if not dry_run:
            errors = _run(whole, count, ray, show, lambda told: _write(whole, plan, names, told))
    found = _tell(whole, plan, names, errors, write=not dry_run, as_json=as_json)
    if failed := sum(one.error is not None for one in found):
        raise SweepError(f"{failed} of {plural(len(found), 'trial')} failed: the folder {place} says why, and the same "
                         "command tries them again.")  # fmt: skip


def _run(
    whole: Sweep, jobs: int, ray: str | None, show: Show, keep: Callable[[dict[str, str]], object]
) -> dict[str, str]:
    """Run what is to be run; return the errors of trials that failed, or `keep` what was done before Ctrl-C."""
    from sparsify.loading.placement import find_device
    from sparsify.sweeps.store import Store

    if ray in (None, "local"):
        find_device(whole.device)
    store = Store(whole.folder)
    store.enqueue(whole.trials)
    told = _progress(store, whole, show)
    told()
    try:
        if ray is not None:
            from sparsify.sweeps.on_ray import run_on_ray

            run_on_ray(whole, ray, jobs, told)
        elif jobs == 1:
            from sparsify.sweeps.working import run_here

            run_here(whole, told)
        else:
            from sparsify.sweeps.workers import run_in_processes

            run_in_processes(whole, jobs, told)
    except KeyboardInterrupt:
        with contextlib.suppress(SparsifyError):  # which the same command tells
            keep(store.errors(whole.trials))
        raise KeyboardInterrupt(f"Interrupted. The same command goes on; {whole.folder} keeps what was done.") from None
    return store.errors(whole.trials)


def _progress(store: Store, whole: Sweep, show: Show) -> Callable[[], None]:
    total = len({trial.key for trial in whole.trials})

    def tell() -> None:
        counts = store.counts(whole.trials)
        done, failed, running = (counts[name] for name in ("complete", "fail", "running"))
        words = [f"{done + failed} of {plural(total, 'trial')}", f"{running} running" if running else ""]
        show.count(" · ".join(filter(None, [*words, f"{failed} failed" if failed else ""])), done + failed, total)

    return tell


def _write(whole: Sweep, plan: Plan, names: tuple[str, str], errors: dict[str, str]) -> list[Path]:
    """Write the page and the table of what is done; return their paths."""
    from sparsify.report.sweep_page import write_sweep_page
    from sparsify.sweeps.results import measured, rows, write_csv

    found = measured(whole.folder, whole.trials, errors)
    files = [whole.folder / "sweep.html", whole.folder / "sweep.csv"]
    write_sweep_page(files[0], names, plan.text, rows(found), found)
    write_csv(files[1], found)
    return files


def _tell(
    whole: Sweep, plan: Plan, names: tuple[str, str], errors: dict[str, str], *, write: bool, as_json: bool
) -> list[Measured]:
    """Write and print what became of the trials."""
    from sparsify.report.sweep import print_sweep
    from sparsify.sweeps.results import measured, rows

    found = measured(whole.folder, whole.trials, errors)
    made = rows(found)
    files = _write(whole, plan, names, errors) if write else []
    if as_json:
        print_json({
            "folder": str(whole.folder), "rows": [row.as_dict() for row in made],
            "trials": [one.as_dict() for one in found],
        })  # fmt: skip
        return found
    print_sweep(out, made, found)
    if not write:
        done = sum(one.report is not None for one in found)
        out.print(f"{done} of {plural(len(found), 'trial')} done, {len(found) - done} to run", highlight=False)
    for path in files:
        out.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)
    return found


def _given(name: str, value: object, default: object) -> tuple[str, ...]:
    return () if value == default else (name, str(value))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
