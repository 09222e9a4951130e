"""What of sparsify can be used on this machine: versions, devices, runtimes, kernels, extras; each is tried."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from sparsify.errors import first_line
from sparsify.kernel_bench import encoded
from sparsify.latency import threads_here
from sparsify.lowering.sites import product_with
from sparsify.report.record import environment

__all__ = ["Finding", "examine"]

_DISTRIBUTION = "sparsify-fx"
_KINDS = {"nm": "2:4", "block": "block32 50%", "bitmask": "bitmask 70%", "index": "index 90%"}
_VECTORISED = ("bitmask", "index")  # have code of their own for CPUs
_DEVELOPMENT = ("dev", "bench")
_CLOSE = 1e-4  # of the largest number: a sum of 64 products in float32 is nearer to the true one


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: machine, runtimes, kernels or extras.
        name: what.
        state: works; missing, which may be as it should be; or broken.
        text: the version and what is known of it, or what to do.
    """

    part: str
    name: str
    state: Literal["works", "missing", "broken"]
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at the machine, its runtimes, the kernels and the extras."""
    return [*_machine(), *_runtimes(), *_kernels(), *_extras()]


def _machine() -> Iterator[Finding]:
    known = environment()
    yield Finding("machine", "sparsify", "works", f"{known['packages'][_DISTRIBUTION]}, Python {known['python']}")
    here = threads_here()
    yield Finding("machine", "CPU", "works", f"{known['processor']}, {platform.machine()}, {here} of {known['cores']} "
                                             "processors usable")  # fmt: skip
    if not torch.cuda.is_available():
        yield Finding("machine", "GPU", "missing", "PyTorch sees none")
        return
    for number in range(torch.cuda.device_count()):
        given = torch.cuda.get_device_properties(number)
        text = f"{given.name}, {given.total_memory / 2**30:.0f} GiB, compute capability {given.major}.{given.minor}"
        enough = (given.major, given.minor) >= (8, 0)
        yield Finding("machine", f"GPU {number}", "works" if enough else "missing",
                      text if enough else f"{text}; sparse kernels need 8.0")  # fmt: skip


def _runtimes() -> Iterator[Finding]:
    yield Finding("runtimes", "PyTorch", "works", str(torch.__version__))
    yield _tried("runtimes", "onnxruntime", "onnxruntime", "pip install onnxruntime", _onnxruntime)
    yield _tried("runtimes", "OpenVINO", "openvino", "pip install 'sparsify-fx[openvino]'", _version_of("openvino"))
    yield _tried("runtimes", "TensorRT", "tensorrt", "pip install tensorrt (NVIDIA GPUs)", _version_of("tensorrt"))


def _onnxruntime() -> str:
    import onnxruntime

    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return f"{onnxruntime.__version__}: {', '.join(providers)}"


def _version_of(module: str) -> Callable[[], str]:
    return lambda: str(importlib.import_module(module).__version__)


def _kernels() -> Iterator[Finding]:
    numba = importlib.util.find_spec("numba") is not None
    for name in _KINDS:
        if name in _VECTORISED:
            how = "vectorised by numba" if numba else "dense; pip install 'sparsify-fx[cpu]' for sparse code"
        else:
            how = "dense: there is no sparse code for CPUs"
        yield _computed(name, torch.device("cpu"), how)
    if not torch.cuda.is_available():
        text = f"Triton {importlib.metadata.version('triton')}" if importlib.util.find_spec("triton") else "no Triton"
        yield Finding("kernels", "on a GPU", "missing", f"no GPU; {text}")
        return
    for name in _KINDS:
        yield _computed(name, torch.device("cuda"), "measured when first used, or by `sparsify bench --kernels`")


def _computed(name: str, device: torch.device, how: str) -> Finding:
    """Compute a small layer, and compare it with the dense one in float64."""
    title = f"{name}_linear, {device.type.upper() if device.type == 'cpu' else 'GPU'}"
    generator = torch.Generator(device).manual_seed(0)
    weight, x = (torch.randn(size, generator=generator, device=device) for size in ((64, 64), (4, 64)))
    layer = encoded(_KINDS[name], weight, generator)
    wanted = x.double() @ layer.decode().double().T
    try:
        found = product_with(layer)(x)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it should be told
        return Finding("kernels", title, "broken", f"{type(error).__name__}: {first_line(error)}")
    gap = float((found - wanted).abs().max() / wanted.abs().max())
    if not gap < _CLOSE:
        return Finding("kernels", title, "broken", f"computes something else: {gap:.1e} of the largest number away")
    return Finding("kernels", title, "works", how)


def _extras() -> Iterator[Finding]:
    """Look for what the extras of the distribution ask for."""
    wanted: dict[str, list[str]] = {}
    for line in importlib.metadata.requires(_DISTRIBUTION) or ():
        package = re.match(r"[\w.-]+", line)
        for extra in re.findall(r"extra\s*==\s*['\"]([\w-]+)['\"]", line):
            if package and extra not in _DEVELOPMENT and package[0] != _DISTRIBUTION:
                wanted.setdefault(extra, []).append(package[0])
    for extra, packages in sorted(wanted.items()):
        versions = {package: _installed(package) for package in packages}
        lacking = [package for package, version in versions.items() if version is None]
        text = f"pip install 'sparsify-fx[{extra}]': no {', '.join(lacking)}" if lacking else ", ".join(
            f"{package} {version}" for package, version in versions.items())  # fmt: skip
        yield Finding("extras", extra, "missing" if lacking else "works", text)


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _tried(part: str, name: str, module: str, advice: str, version: Callable[[], str]) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(part, name, "missing", advice)
    try:
        return Finding(part, name, "works", version())
    except Exception as error:  # noqa: BLE001 -- a package that is there and cannot be imported is a finding
        return Finding(part, name, "broken", f"{type(error).__name__}: {first_line(error)}")
