"""A folder in which the commands of a page can be run: the files that it starts from, and what runs its words."""

import ast
import os
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from helpers.command import sparsify
from helpers.datasets import write_idx
from helpers.pages import ROOT, Page, commands
from helpers.rank_jobs import of_command
from helpers.ranks import together
from torch import nn

import sparsify as sp
from sparsify.demo_net import ResNet
from sparsify.tasks.digits import Digits
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions

# Programs that are not run: they are not here, or change the machine.
NOT_RUN = {"pip", "make", "source", "trtexec", "grep", "olive"}
# Modules that are not here; a block of Python that imports one is only parsed.
NOT_HERE = {"openvino", "coremltools"}
# What `sparsify` and Python need one of those, or Olive, for.
NEEDS_MORE = re.compile(r"\.mlpackage$|^sparsify\.integrations\.olive$")
GATES = {"--min-speedup", "--max-size", "--max-drop"}  # on a busy machine they may fail, which is status 1

_NET = """\
from sparsify.demo_net import ResNet


def Net():
    return ResNet((3,), (16,))
"""


def trained() -> sp.Program:
    """A network of three blocks after two epochs on the digits."""
    torch.manual_seed(0)
    program = sp.capture(ResNet((3,), (16,)), (torch.randn(2, 1, 8, 8),))
    return train(program, Digits(), TrainOptions(steps="2ep", learning_rate=3e-3, optimizer="adamw")).program


def _llama(folder: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "vocab_size": 300}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    LlamaForCausalLM(LlamaConfig(**sizes, **heads)).save_pretrained(folder)
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train([str(ROOT / "LICENSE")], vocab_size=300, show_progress=False)
    tokenizer.save(str(folder / "tokenizer.json"))


def _untrained(path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    sp.save(sp.capture(network, (torch.randn(2, 1, 8, 8),)), path)


def _for_mnist(path: Path) -> None:
    torch.manual_seed(0)
    sp.save(sp.capture(ResNet((2, 1), (4, 8)), (torch.randn(2, 1, 28, 28),)), path)


def _data(folder: Path) -> None:
    folder.mkdir()
    write_idx(folder, train=300, validation=60)


def _run(*words: object) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        ran = sparsify(path.with_name("model.pt2"), *words, path)
        assert ran.status == 0, ran.err

    return make


# What pages start from. A page gets those files that its commands name before they make them.
FILES: dict[str, Callable[[Path], None]] = {
    "model.pt2": lambda path: sp.save(trained(), path),
    "untrained.pt2": _untrained,
    "model28.pt2": _for_mnist,
    "module.pt": lambda path: torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU()), path),
    "weights.safetensors": _run("-o"),
    "model.onnx": _run("-o"),
    "dense.onnx": _run("-o"),
    "small.onnx": _run("--pass", "layer-prune", "-o"),
    "small.pt2": _run("--pass", "layer-prune", "-o"),
    "report.json": _run("--pass", "layer-prune", "--report"),
    "my_net": lambda path: path.with_suffix(".py").write_text(_NET),
    "my_task.py": lambda path: shutil.copy(ROOT / "examples" / "own_task.py", path),
    "data": _data,
    "book.txt": lambda path: shutil.copy(ROOT / "LICENSE", path),
    "Llama": _llama,
    "examples": lambda path: path.symlink_to(ROOT / "examples"),
    "constraints.txt": lambda path: shutil.copy(ROOT / "constraints.txt", path),
}
_MAKES = re.compile(r"(-o|--output|--report|--html|--plot|>|title=\")\s*$")


class Scratch:
    """Runs a page in a folder that is the working directory.

    Args:
        page: what is run.
        cache: a folder where the files that pages start from are kept.
    """

    def __init__(self, page: Page, cache: Path):
        self.cache = cache
        self.names: dict[str, Any] = {"__name__": "__main__"}  # of all blocks of Python of the page
        self.written: list[str] = []
        for name in FILES:
            if self._given(page, name):
                self._place(name)

    def run(self, fence: Any) -> None:
        """Do what a reader would do with a block."""
        if fence.title:
            Path(fence.title).write_text(fence.code)
            self.written.append(fence.title)
        elif fence.language == "sh":
            for words in commands(fence.code):
                self.command(words)
        elif fence.language == "python":
            self.python(fence.code)

    def command(self, words: list[str]) -> None:
        """Run a command in this process."""
        if words[0] in NOT_RUN or any(NEEDS_MORE.search(word) for word in words):
            return
        target = words[words.index(">") + 1] if ">" in words else None
        words = words[: words.index(">")] if target else words
        with open(target or os.devnull, "w", encoding="utf-8") as out, redirect_stdout(out):  # noqa: PTH123 (devnull)
            if words[0] == "python":
                self._script(words[1:])
                return
            if words[0] == "torchrun":
                assert words[1:5] == ["--nproc-per-node", words[2], "-m", "sparsify"]
                found = together(int(words[2]), of_command, words[5:])
                assert all(status == 0 for status, *_ in found), found
                return
            assert words[0] == "sparsify", f"{words[0]} is neither run nor in NOT_RUN"
            ran = sparsify(*words[1:])
            out.write(ran.out)
        allowed = {0, 1} if GATES & set(words) else {0}
        assert ran.status in allowed, f"{' '.join(words)}\nleft with {ran.status}:\n{ran.err}\n{ran.out}"
        if ran.status == 0:
            made = [word for option, word in pairwise(words) if option in ("-o", "--html", "--report")]
            assert [path for path in made if not Path(path).exists()] == []

    def python(self, code: str) -> None:
        """Run a block of Python with the names of those before it, and with those that pages take as given."""
        tree = ast.parse(code)
        found = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        unknown = {node.id for node in found if isinstance(node.ctx, ast.Load)} - self.names.keys()
        unknown -= {node.id for node in found if isinstance(node.ctx, ast.Store)}
        roots = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        if NOT_HERE & (roots | unknown):
            return
        if unknown & {"model", "images", "program"}:
            self._place("model.pt2")
            program = sp.load(self.cache / "model.pt2")
            self.names |= {
                "program": program,
                "model": ResNet((3,), (16,)).eval(),
                "images": torch.zeros(2, 1, 8, 8),
            }
        with redirect_stdout(None):
            exec(compile(tree, "a block of Python", "exec"), self.names)

    def _script(self, words: list[str]) -> None:
        assert words[0] != "-m", "python -m is not run here"
        before, argv = set(sys.modules), sys.argv
        sys.argv, here = words, str(Path.cwd())
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        try:
            runpy.run_path(words[0], run_name="__main__")
        finally:
            sys.argv = argv
            sys.path.pop(0)
            for name in set(sys.modules) - before:  # what lies in this folder is another page's tomorrow
                if (getattr(sys.modules[name], "__file__", None) or "").startswith(here):
                    del sys.modules[name]

    def _given(self, page: Page, name: str) -> bool:
        text = "\n".join(f'title="{fence.title}"\n{fence.code}' for fence in page.fences if fence.language != "text")
        first = re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w-])", text)
        return first is not None and not _MAKES.search(text[: first.start()].rpartition("\n")[2])

    def _place(self, name: str) -> None:
        """Make a file once, in the cache, and put it here."""
        kept = self.cache / name
        made = kept.with_suffix(".py") if name == "my_net" else kept
        if not (self.cache / "model.pt2").exists() and name != "model.pt2":
            FILES["model.pt2"](self.cache / "model.pt2")
        if not made.exists():
            FILES[name](kept)
        here = Path(made.name)
        if not here.exists():
            here.symlink_to(made.resolve()) if made.is_dir() else shutil.copy(made, here)
