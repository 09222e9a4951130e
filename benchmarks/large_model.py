"""Claim: a model of three billion parameters is pruned from the command line with its weights read as they are needed.

A Llama-like folder of 3.0 billion random weights (hidden 3072, 26 layers, grouped queries; bfloat16, 6 GB in files of a
layer each) is generated, and the command prunes it into a new folder: magnitude at 50% of each layer, 2:4, Wanda at 50%
on 8 batches of 32 tokens, and 4 layers less. All checks are on: the graph is compared with the model, the result of the
pass runs, and transformers loads the new folder and must compute the same. `--fp32` stores the weights in float32, 12
GB; `--quick` is a model of 70 million to try the script out.

Limit: the disk. `bound` is the bytes that the process read and wrote divided by the speed of the disk, measured
without the page cache before the first run. The rest of the time is the processor's, running the model eight times and
more for the checks. The files of the model are out of the page cache when a run starts.

Reading: `anonymous` is the most memory that the process held at once that the system cannot take away, sampled;
`resident` also counts pages of the files, which it can. `mask` is a byte for every weight that may be pruned. `limit`
is what there is at all: in a control group of 8 GiB, less than the weights take twice, it is that.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import QUICK, save, table

from sparsify.coding.tensor_file import Part, write_plain

FP32 = "--fp32" in sys.argv
SMALL = 16  # GiB: below it the result has a file of its own
DTYPE = torch.float32 if FP32 else torch.bfloat16
SIZES = {
    "hidden_size": 768 if QUICK else 3072, "intermediate_size": 2048 if QUICK else 8192,
    "num_hidden_layers": 6 if QUICK else 26, "num_attention_heads": 6 if QUICK else 24,
    "num_key_value_heads": 2 if QUICK else 8, "vocab_size": 32000 if QUICK else 64000,
}  # fmt: skip
PASSES = {
    "magnitude": ["--pass", "weight-prune:sparsity=0.5,scope=layer"],
    "2:4": ["--pass", "weight-prune:pattern=2:4"],
    "wanda": ["--pass", "weight-prune:sparsity=0.5,criterion=wanda", "--inputs", "input_ids:int64[2,16]%256"],
    "layer-prune": ["--pass", "layer-prune:count=4"],
}
ONLY = [name for name in PASSES if name in sys.argv[1:]]
_BLOCK, _BLOCKS = 16 << 20, 16 if QUICK else 256


def limit() -> float:
    """Return how many GiB there are for this process and what it starts: its control group's, or the machine's."""
    known = [line.split(":")[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    groups = [group for controllers, group in known if controllers in ("", "memory")]
    ends = ("{}/memory.max", "/memory{}/memory.limit_in_bytes")
    files = [Path("/sys/fs/cgroup" + end.format(group)) for group in groups for end in ends]
    told = [path.read_text().strip() for path in files if path.exists()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([memory, *(int(text) for text in told if text != "max")]) / 2**30


def generate(folder: Path) -> int:
    """Write the model, a file for each layer and one for the rest; return its parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**SIZES, max_position_embeddings=512, tie_word_embeddings=False, dtype=DTYPE)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    files = defaultdict(list)
    for name, value in model.state_dict().items():
        layer = re.match(r"model\.layers\.(\d+)\.", name)
        files[f"model-{int(layer[1]) + 1 if layer else 0:05d}.safetensors"].append((name, tuple(value.shape)))
    torch.manual_seed(0)
    for file, tensors in files.items():
        parts = [Part(name, DTYPE, shape, partial(_drawn, shape)) for name, shape in tensors]
        write_plain(folder / file, parts, {"format": "pt"})
    where = {name: file for file, tensors in files.items() for name, _ in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return model.num_parameters()


def _drawn(shape: tuple[int, ...]) -> torch.Tensor:
    value = torch.empty(shape, dtype=DTYPE)
    return value.fill_(1) if len(shape) == 1 else value.normal_(0, 0.02)


def disk_speed(folder: Path) -> tuple[float, float]:
    """Return the bytes that the disk reads and writes in a second, one block after the other past the page cache."""
    path = folder / "speed"
    block = mmap.mmap(-1, _BLOCK)  # aligned, as direct access must be
    block.write(os.urandom(_BLOCK))
    found = []
    for flags, move in ((os.O_WRONLY | os.O_CREAT, os.writev), (os.O_RDONLY, os.readv)):
        file = os.open(path, flags | os.O_DIRECT)
        start = time.perf_counter()
        for _ in range(_BLOCKS):
            if move(file, [block]) != _BLOCK:
                raise OSError(f"{path}: less than a block was moved")
        os.fsync(file)
        found.append(_BLOCK * _BLOCKS / (time.perf_counter() - start))
        os.close(file)
    path.unlink()
    return found[1], found[0]


def forget(folder: Path) -> None:
    """Take the files of a folder out of the page cache."""
    for path in folder.iterdir():
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def run(model: Path, words: list[str], folder: Path) -> dict[str, Any]:
    """Run the command; return what it took."""
    out, log = folder / "out", folder / "log.json"
    command = [str(Path(sysconfig.get_path("scripts")) / "sparsify"), str(model), *words, "--json", "-o", str(out)]
    start = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file)
        anonymous = max(_anonymous(process.pid), default=0)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{' '.join(command)}: status {status}")
    report = json.loads(log.read_text())
    shutil.rmtree(out)
    return {
        "seconds": seconds, "load": report["load_seconds"], "pass": report["passes"][0]["seconds"],
        "verify": report["passes"][0]["verify_seconds"], "anonymous": anonymous / 2**30,
        "resident": usage.ru_maxrss / 2**20, "read": usage.ru_inblock * 512, "written": usage.ru_oublock * 512,
        "mask": report["passes"][0].get("weights", 0) / 2**30,
    }  # fmt: skip


def _anonymous(process: int) -> Iterator[int]:
    """Yield the bytes of anonymous memory of a process, until it ends."""
    while True:
        found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
        if found is None:  # it has ended, and has no memory
            return
        yield int(found[1]) * 1024
        time.sleep(0.02)


def main() -> None:
    """Measure, and judge."""
    with tempfile.TemporaryDirectory(prefix="large-model-") as name:
        folder = Path(name)
        model, text = folder / "model", folder / "text.txt"
        parameters = generate(model)
        text.write_bytes(bytes(torch.randint(256, (400,), dtype=torch.uint8).tolist()))
        task = ["--task", f"text:{text},length=16,batch_size=2"]
        size = sum(path.stat().st_size for path in model.iterdir())
        reads, writes = disk_speed(folder)
        print(f"{parameters:,} parameters, {size / 2**30:.2f} GiB; {reads / 1e6:.0f} and {writes / 1e6:.0f} MB/s")
        results: dict[str, dict[str, Any]] = {}
        for kind in ONLY or PASSES:
            forget(model)
            found = run(model, [*PASSES[kind], *(task if kind == "wanda" else [])], folder)
            bound = found["read"] / reads + found["written"] / writes
            results[kind] = {**found, "bound": bound, "ratio": found["seconds"] / bound}
            print(kind, {key: round(value, 2) for key, value in results[kind].items()}, flush=True)
    judge(parameters, size, (reads, writes), results)


def judge(parameters: int, size: int, speeds: tuple[float, float], results: dict[str, dict[str, Any]]) -> None:
    """Print a table, and save."""
    keys = ("seconds", "load", "pass", "verify", "bound", "ratio", "anonymous", "resident", "mask")
    rows = list(results.values())
    table(["", *keys], [[kind, *(float(found[key]) for key in keys)] for kind, found in results.items()])
    worst = {key: max(found[key] for found in rows) for key in keys}
    least = {key: min(found[key] for found in rows) for key in keys}
    save(
        __file__.replace(".py", ("_fp32" if FP32 else "") + (f"_{limit():.0f}gib" if limit() < SMALL else "") + ".py"),
        f"3 billion parameters are pruned on a machine of {limit():.0f} GiB, with less memory than the weights take",
        worst["anonymous"] < size / 2**30 and worst["resident"] < limit(),
        f"{parameters / 1e9:.2f} billion parameters, {size / 2**30:.2f} GiB of files: {least['seconds']:.0f} to "
        f"{worst['seconds']:.0f} s, at most {worst['anonymous']:.2f} GiB that cannot be evicted. The disk alone "
        f"(reading {speeds[0] / 1e6:.0f}, writing {speeds[1] / 1e6:.0f} MB/s) would take {least['bound']:.0f} to "
        f"{worst['bound']:.0f} s.",
        {"parameters": parameters, "bytes": size, "limit": limit(), "reads": speeds[0], "writes": speeds[1], **results},
    )


if __name__ == "__main__":
    main()
