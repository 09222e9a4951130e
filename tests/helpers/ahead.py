"""Kernels for GPUs compiled ahead of time on a machine without one, and what their machine code says."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource, GluonJITFunction

ARCHITECTURES = {90: 232448, 80: 166912}
"""Compute capabilities, and how many bytes of shared memory a program may have there."""

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Machine:
    """The machine code of a kernel.

    Attributes:
        code: its instructions, each with its address.
        shared: bytes of shared memory.
        registers: of a thread.
        stack: bytes of a thread; above 0 registers were spilled.
    """

    code: tuple[tuple[int, str], ...]
    shared: int
    registers: int
    stack: int

    def count(self, pattern):
        """Return how many instructions match."""
        return sum(bool(re.search(pattern, text)) for _, text in self.code)

    def loop(self, pattern):
        """Return the instructions of the longest innermost loop in which one matches."""
        found = []
        spans = [(int(m[1], 16), at) for at, text in self.code if (m := re.search(r"BRA\S*.* 0x([0-9a-f]+)", text))]
        for begin, end in spans:
            body = [text for at, text in self.code if begin <= at <= end]
            inner = any(begin < b <= e < end or begin <= b <= e < end for b, e in spans if b < e)
            if begin < end and not inner and any(re.search(pattern, text) for text in body) and len(body) > len(found):
                found = body
        return found


def decoding(weight, plan, tiles, activation="gelu", kind="bf16"):
    """Return signature, constants and aligned arguments of a kernel that takes a weight in fragment order.

    Args:
        weight: types of what the kernel takes of it, by name.
        plan: how the product is divided.
        tiles: of eight inputs.
        activation: of the layer.
        kind: of the numbers: bf16 or f16.
    """
    numbers = dict.fromkeys(("batch", "rows", "words", "steps_in_all", "chunks"), "i32")
    constants = {
        "kind": kind, "biased": True, "activation": activation, "partial": plan.split > 1,
        "row_warps": plan.row_warps, "inner_warps": plan.inner_warps, "row_tiles": plan.row_tiles, "tiles": tiles,
        "steps": plan.steps,
    }  # fmt: skip
    if plan.split > 1:
        constants |= {"biased": False, "activation": "none"}
    number = {"bf16": "*bf16", "f16": "*fp16"}[kind]
    out = "*fp32" if plan.split > 1 else number
    signature = {"x": "*i32", **weight, "bias": number, "out": out, **numbers}
    return signature, constants, ("x", *weight, "bias", "out", "rows", "words")


def compiled(kernel, signature, constants, aligned, architecture, warps, *, stages=3):  # noqa: PLR0917
    """Compile a kernel for an architecture such as 90; `aligned` names arguments that are multiples of 16."""
    source = GluonASTSource if isinstance(kernel, GluonJITFunction) else ASTSource
    names = list(signature) + list(constants)
    assert names == kernel.arg_names, (names, kernel.arg_names)
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    types = {**signature, **dict.fromkeys(constants, "constexpr")}
    made = triton.compile(
        source(fn=kernel, signature=types, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": warps, "num_stages": stages},
    )
    return machine(made.asm["cubin"], made.metadata.shared)


def machine(binary, shared):
    """Return what a binary holds."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        text, usage = (
            subprocess.run([TOOLS / "cuobjdump", option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("-sass", "-res-usage")
        )
    code = re.findall(r"^\s+/\*([0-9a-f]{4,5})\*/\s+(.*?);", text, re.MULTILINE)
    registers, stack = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))
    return Machine(tuple((int(at, 16), line) for at, line in code), shared, registers, stack)
