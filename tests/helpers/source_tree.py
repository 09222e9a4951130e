"""The repository as text: its files, their syntax trees, and what they import. Imports none of it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

PACKAGES = {"sparsify": "sparsify", "passes": "sparsify.passes", "kernels": "sparsify.kernels"}
TEXT_SUFFIXES = {"", ".css", ".html", ".js", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
NOT_COMMITTED = {"build", "dist", "demo-out", "__pycache__"}
HIDDEN_BUT_COMMITTED = {".ci", ".github"}
Import = ast.Import | ast.ImportFrom
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class File:
    """One text file; `path` is relative to the root, with forward slashes."""

    path: str
    text: str

    @property
    def stem(self) -> str:
        return PurePosixPath(self.path).stem

    @property
    def top(self) -> str:
        return self.path.partition("/")[0]

    @property
    def module(self) -> str:
        """`passes/layer_prune.py` → `sparsify.passes.layer_prune`."""
        folder, *rest = self.path.removesuffix(".py").removesuffix("/__init__").split("/")
        return ".".join([PACKAGES.get(folder, folder), *rest])

    @property
    def needs_a_test(self) -> bool:
        return self.top in PACKAGES and not self.stem.startswith("_")

    @property
    def test(self) -> str:
        """Where its test belongs: `sparsify/export/onnx.py` → `tests/export/test_onnx.py`."""
        folder, _, name = self.path.removeprefix("sparsify/").rpartition("/")
        return "/".join(filter(None, ["tests", folder, f"test_{name}"]))

    @cached_property
    def syntax(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.syntax))


class Tree:
    """Every text file under a root that could be committed."""

    def __init__(self, root: Path):
        self.texts = [File(path.relative_to(root).as_posix(), path.read_text("utf-8")) for path in text_files(root)]
        self.python = [file for file in self.texts if file.path.endswith(".py")]
        self.source = [file for file in self.python if file.top in PACKAGES]
        self.modules = {file.module: file for file in self.source}

    @cached_property
    def startup_imports(self) -> dict[str, set[str]]:
        """Module → what importing it imports: our modules by their own name, others by their top-level package."""
        found = {
            name: {
                self.owner(target)
                for node in imports(file.syntax, in_functions=False)
                for target in targets(node, file)
            }
            for name, file in self.modules.items()
        }
        return {name: names - {name} for name, names in found.items()}

    def owner(self, target: str) -> str:
        """The module a dotted name lives in: `sparsify.errors.UsageError` → `sparsify.errors`, `torch.nn` → `torch`."""
        top = target.partition(".")[0]
        while target != top and target not in self.modules:
            target = target.rpartition(".")[0]
        return target


def text_files(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir()):
        if path.is_file():
            if path.suffix in TEXT_SUFFIXES:
                yield path
        elif path.name in HIDDEN_BUT_COMMITTED or not (
            path.name.startswith(".") or path.name in NOT_COMMITTED or path.suffix == ".egg-info"
        ):
            yield from text_files(path)


def imports(node: ast.AST, *, in_functions: bool) -> Iterator[Import]:
    """Import statements below a node, without those only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Import):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from imports(ast.Module(child.orelse, []), in_functions=in_functions)
        elif in_functions or not isinstance(child, Function):
            yield from imports(child, in_functions=in_functions)


def targets(node: Import, file: File) -> list[str]:
    """The dotted names an import statement refers to: `from a import b` → `a.b`, whether b is a module or not."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    package = file.module if file.stem == "__init__" else file.module.rpartition(".")[0]
    above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
    return [".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names]
