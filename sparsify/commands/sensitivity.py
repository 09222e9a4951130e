"""The command `sparsify sensitivity`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from sparsify.atomic import check_writable
from sparsify.console import out, print_json, progress
from sparsify.errors import InputError, UsageError
from sparsify.options import INPUT, OUTPUT, WORK, AsJson, Device, Factory, Inputs, Model, Task, Trust
from sparsify.report.heat import print_heat

if TYPE_CHECKING:
    from sparsify.sensitivity import Scan

__all__ = ["sensitivity"]


def sensitivity(
    model: Model,
    /,
    *,
    task: Task = None,
    inputs: Inputs = None,
    factory: Factory = None,
    device: Device = "cpu",
    trust: Trust = False,
    unit: Annotated[
        Literal["weights", "channels"],
        Parameter(help="prune weights of each layer, or channels of each group", group=WORK),
    ] = "weights",
    criterion: Annotated[
        str, Parameter(help="what goes first; `sparsify criteria` lists them", group=WORK)
    ] = "magnitude",
    sparsities: Annotated[
        str, Parameter(help="the fractions of each that go, rising", group=WORK)
    ] = "0.3,0.5,0.6,0.7,0.8,0.9,0.95,0.98",
    only: Annotated[
        str, Parameter(help="names or patterns of the modules and parameters that are scanned", group=WORK)
    ] = "",
    batches: Annotated[int, Parameter(help="how many training batches the loss is taken over", group=INPUT)] = 8,
    seed: Annotated[int, Parameter(help="of their order and of the criterion", group=WORK)] = 0,
    output: Annotated[
        Path, Parameter(name=("--output", "-o"), help="the scan; the same command goes on where it ended", group=OUTPUT)
    ] = Path("sensitivity.json"),
    html: Annotated[Path | None, Parameter(help="also draw it as a heat map, in one .html file", group=OUTPUT)] = None,
    as_json: AsJson = False,
) -> None:
    """Prune each layer alone, more and more, and show what that does to the loss.

    The file is a table for `--pass weight-prune:allocation=table,table=sensitivity.json,sparsity=0.8`, and with
    `--unit channels` for `--pass channel-prune:table=sensitivity.json,macs=0.5`.
    """
    levels = _numbers(sparsities)
    if html is not None and html.suffix != ".html":
        raise UsageError("--html takes the name of an .html file.")
    for path in filter(None, (output, html)):
        check_writable(path)
    if not model.exists():  # said here, before torch is imported
        raise InputError(f"{model} cannot be opened: no such file.")
    from sparsify.job import load_program
    from sparsify.sensitivity import read_scan, scan, write_scan
    from sparsify.task import resolve

    known_task = None if task is None else resolve(task)
    with progress() as show:
        show(f"loading {model}")
        program = load_program(model, inputs, known_task, factory=factory, trust=trust, device=device)

        def keep(found: Scan, rows: int) -> None:
            write_scan(output, found)
            show(f"scanned {len(found.layers)} of {rows}")

        found = scan(
            program,
            known_task,
            unit=unit,
            criterion=criterion,
            sparsities=levels,
            only=[word for word in only.split(",") if word],
            batches=batches,
            seed=seed,
            known=read_scan(output) if output.exists() else None,
            on_row=keep,
        )
        write_scan(output, found)
    if html is not None:
        from sparsify.report.heat_page import write_heat

        write_heat(html, found, model.name)
    if as_json:
        from dataclasses import asdict

        print_json(asdict(found))
        return
    print_heat(out, found)
    for path in filter(None, (output, html)):
        out.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",") if word]
    except ValueError:
        raise UsageError(f"--sparsities {text}: write fractions such as 0.5,0.8,0.9.") from None
