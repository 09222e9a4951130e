"""The command `sparsify bench`."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from sparsify.atomic import check_writable
from sparsify.console import out, print_json, progress
from sparsify.errors import UsageError
from sparsify.options import INPUT, OUTPUT, WORK, AsJson, Device, Inputs, Trust
from sparsify.report.terminal import print_gates

if TYPE_CHECKING:
    from sparsify.kernel_bench import Row

__all__ = ["bench"]


def bench(
    *files: Annotated[
        Path, Parameter(help=".onnx runs in onnxruntime, every other model in PyTorch", group=INPUT, show_default=False)
    ],
    inputs: Inputs = None,
    batches: Annotated[
        str | None,
        Parameter(help="with commas (default: 1, or what files are fixed to; 1,16 of --kernels)", group=INPUT),
    ] = None,
    threads: Annotated[
        int | None, Parameter(help="how many each may use (default: all processors)", group=WORK)
    ] = None,
    provider: Annotated[str, Parameter(help="of onnxruntime: cpu, cuda, tensorrt, ...", group=WORK)] = "cpu",
    seconds: Annotated[float, Parameter(help="how long to measure for each batch size", group=WORK)] = 10.0,
    kernels: Annotated[
        bool, Parameter(negative="", show_default=False, help="measure sparse layers beside dense ones", group=WORK)
    ] = False,
    shapes: Annotated[
        str, Parameter(help="outputs x inputs of the layers of --kernels", group=INPUT)
    ] = "4096x1024,1024x4096",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        Parameter(help="of the layers of --kernels (default: float32 on a CPU, bfloat16 elsewhere)", group=INPUT),
    ] = None,
    device: Device = "cpu",
    trust: Trust = False,
    min_speedup: Annotated[
        float | None, Parameter(help="exit with 1 when a file is not so many times as fast as the first", group=OUTPUT)
    ] = None,
    max_size: Annotated[
        str | None, Parameter(help="exit with 1 when a file but the first is larger: 500kB, 10MB", group=OUTPUT)
    ] = None,
    junit: Annotated[Path | None, Parameter(help="write what the gates found as JUnit's XML", group=OUTPUT)] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast models are, side by side, and say which differences are more than noise.

    Models run in turns and are loaded eight times, because the same file is a percent faster or slower each time.
    Speeds are those against the first file, with their 99% intervals. `--min-speedup` and `--max-size` are gates.

    `--kernels` measures sparse layers beside the best dense one instead. On a GPU every kernel that fits is tried, and
    the fastest is remembered: sparse layers of these sizes use it from then on.
    """
    if kernels == bool(files):
        raise UsageError("Say what to measure: sparsify bench FILE FILE..., or sparsify bench --kernels.")
    gated = min_speedup is not None or max_size is not None
    if (gated and kernels) or (junit is not None and not gated) or (min_speedup is not None and len(files) < 2):
        raise UsageError("--min-speedup compares files, --max-size looks at them, and --junit says what they found.")
    counts = [_positive(text, "--batches") for text in batches.split(",")] if batches else None
    if kernels:
        _bench_kernels([_shape(text) for text in shapes.split(",")], counts or [1, 16], dtype, device, as_json)
        return
    if (threads is not None and threads < 1) or not seconds > 0:
        raise UsageError("--threads and --seconds must be more than 0.")
    if junit is not None:
        check_writable(junit)
    from sparsify.contenders import contender, provider_called
    from sparsify.file_bench import compare
    from sparsify.gates import Gates, refuse, write_junit
    from sparsify.report.speeds import print_speeds

    gates = Gates(min_speedup, max_size)
    started = time.perf_counter()
    with progress() as show:
        chosen = provider_called(provider)
        models = [contender(path, inputs, provider=chosen, device=device, trust=trust) for path in files]
        found = compare(models, counts, threads=threads, seconds=seconds, stage=show)
    verdicts = gates.verdicts(found)
    if junit is not None:
        write_junit(junit, verdicts, time.perf_counter() - started)
    gated_by = [verdict.as_dict() for verdict in verdicts]
    if as_json:
        print_json({"batches": [table.as_dict() for table in found], "gates": gated_by})
    else:
        print_speeds(out, found)
        print_gates(out, gated_by)
    refuse(verdicts)


def _bench_kernels(
    sizes: list[tuple[int, int]], counts: list[int], dtype: str | None, device: str, as_json: bool
) -> None:
    import torch

    from sparsify.kernel_bench import measure_kernels
    from sparsify.kernels._measured import device_name, file_of
    from sparsify.loading.placement import find_device

    where = find_device(device)
    kind = getattr(torch, dtype or ("float32" if where.type == "cpu" else "bfloat16"))
    with progress() as show:
        rows = list(measure_kernels(where, kind, sizes, counts, show))
    if as_json:
        print_json([row.as_dict() for row in rows])
        return
    threads = f", {torch.get_num_threads()} threads" if where.type == "cpu" else ""
    _print(rows, f"{device_name(where)}, {str(kind).removeprefix('torch.')}{threads}")
    if where.type == "cuda":
        out.print(f"wrote {file_of(device_name(where))}", highlight=False, markup=False, soft_wrap=True)


def _print(rows: list[Row], where: str) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    ways = any(row.way for row in rows)
    for title in ("layer", "batch", "format", "dense", "sparse", "speed", *(["kernel"] if ways else [])):
        table.add_column(title, justify="left" if title in ("layer", "format", "kernel") else "right", no_wrap=True)
    for row in rows:
        cells: list[Any] = [f"{row.outputs}x{row.inputs}", str(row.batch), row.kind, f"{row.dense:.3f} ms",
                            f"{row.sparse:.3f} ms", f"{row.speed:.2f}x", *([row.way] if ways else [])]  # fmt: skip
        table.add_row(*cells, style="green" if row.speed > 1 else "")
    out.print(table)
    out.print(
        f"Least times of calls in turns on {where}.",
        style="dim",
        highlight=False,
    )


def _shape(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip())
    if not match:
        raise UsageError(f"--shapes {text}: write outputs x inputs, such as 4096x1024; several with commas.")
    return _positive(match[1], f"--shapes {text}:"), _positive(match[2], f"--shapes {text}:")


def _positive(text: str, option: str) -> int:
    if not text.strip().isdigit() or int(text) < 1:
        raise UsageError(f"{option} {text!r} is no whole number of at least 1.")
    return int(text)
