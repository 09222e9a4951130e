"""Claim: 2:4 costs at most 5 instructions for each dense weight in the inner loop, and no kernel spills registers.

Needs no GPU: every plan of the decoding kernels is compiled ahead of time for compute capabilities 9.0 and 8.0, and
its machine code is counted. Results of several versions of Triton stand beside each other; another one is measured by
running this with it first on PYTHONPATH.

Limit: a GPU that reads 4.8 TB/s and issues 33 T instructions of a thread each second has 7.8 of them for each weight of
1.125 bytes; 5 leave a third of its slots empty.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import triton
from common import RESULTS, save, table

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from helpers.ahead import ARCHITECTURES, compiled, decoding

from sparsify.kernels import _bitmask_decode, _nm_decode

DECODERS = {
    "nm": (_nm_decode.nm_decode, {"values": "*i32", "places": "*i32"}, _nm_decode.PLANS, 16, r"HMMA\.SP"),
    "bitmask": (
        _bitmask_decode.bitmask_decode, {"pairs": "*i32", "bits": "*i32", "before": "*u8", "begin": "*i32"},
        _bitmask_decode.PLANS, 8, "HMMA",
    ),
}  # fmt: skip


def main() -> None:
    """Compile, count, and judge."""
    found: dict[str, Any] = {}
    rows = []
    for name, (kernel, weight, plans, weights, instruction) in DECODERS.items():
        for architecture in ARCHITECTURES:
            for tiles, plan in ((count, plan) for count in plans for plan in plans[count]):
                code = compiled(kernel, *decoding(weight, plan, tiles), architecture, plan.warps)
                loop = code.loop(instruction)
                products = sum("HMMA" in text for text in loop)
                each = len(loop) / (weights * products / tiles)
                key = f"{name} sm_{architecture} batch {8 * tiles} {plan}"
                found[key] = {"instructions": each, "registers": code.registers, "stack": code.stack,
                              "shared": code.shared, "LDG.128": sum("LDG.E.128" in t for t in loop)}  # fmt: skip
                rows.append([key, f"{each:.2f}", code.registers, code.stack, code.shared])
    table(["kernel", "instructions", "registers", "stack", "shared"], rows)
    path = RESULTS / "instructions.json"
    known = json.loads(path.read_text("utf-8"))["results"] if path.exists() else {}
    most = max(item["instructions"] for key, item in found.items() if key.startswith("nm"))
    others = max(item["instructions"] for key, item in found.items() if key.startswith("bitmask"))
    spilled = [key for key, item in found.items() if item["stack"]]
    save(
        __file__,
        "2:4 costs at most 5 instructions for each dense weight in the inner loop, and no kernel spills registers",
        most <= 5 and not spilled,
        f"with Triton {triton.__version__}: 2:4 at most {most:.2f}, pairs behind bits {others:.2f}; "
        f"{len(spilled)} kernels spill.",
        {**known, f"triton {triton.__version__}": found},
    )


if __name__ == "__main__":
    main()
