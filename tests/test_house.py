"""The house rules, checked on the text of the repository: layout, sizes, imports, docstrings.

A rule is a function from a tree to its offenders; its docstring is the rule, and the message when it is broken.
To add a rule: write the function under `@rule` and add one tree that breaks it to `BROKEN`.
"""

import ast
import io
import math
import re
import statistics
import tokenize
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers.source_tree import File, Function, Tree, imports, targets

ROOT = Path(__file__).resolve().parents[1]
TESTS_OF_NO_FILE = (
    "tests/test_house.py",
    "tests/test_action.py",
    "tests/test_api.py",
    "tests/test_docs.py",
    "tests/test_theorem",
    "tests/families/",
    "tests/gpu/",
    "tests/helpers/",
)
# What stands above the core; the rest of sparsify/ is the core.
FRONT = (
    "sparsify.cli",
    "sparsify.demo",
    "sparsify.job",
    "sparsify.recipe",
    "sparsify.commands.plot",
    "sparsify.commands.evaluate",
    "sparsify.commands.sensitivity",
    "sparsify.commands.sweep",
    "sparsify.sweeps.recipe",
    "sparsify.__main__",
)
PLUGINS = ("sparsify.passes", "sparsify.criteria", "sparsify.methods", "sparsify.kernels")
LIGHT = ("sparsify", "sparsify.cli", "sparsify.registry", "sparsify.errors")  # what `sparsify --help` imports
HEAVY = ("torch", "onnx", "onnxruntime", "onnxscript", "networkx", "sklearn", "transformers", "triton")
MAY_PRINT = ("sparsify/cli.py", "sparsify/demo.py", "sparsify/report/")

# Folders of the machine somebody happened to work on, without their slashes so that this file does not offend.
FOREIGN_PATH = re.compile(r"(?<![\w.-])/(work|opt|root)/" + r"|\.\./(shared|\.library)\b")

Rule = Callable[[Tree], list[str]]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    RULES[function.__name__] = function
    return function


@rule
def every_source_file_has_a_test(tree: Tree) -> list[str]:
    """`sparsify/x.py` has `tests/test_x.py`, `passes/x.py` has `tests/passes/test_x.py`, and so on."""
    paths = {file.path for file in tree.python}
    return [f"{file.path} has no {file.test}" for file in tree.source if file.needs_a_test and file.test not in paths]


@rule
def every_test_file_has_a_source(tree: Tree) -> list[str]:
    """A test file mirrors a source file, or a side of one (test_weight_prune_scope.py), or is listed in
    TESTS_OF_NO_FILE."""
    mirrors = {file.test for file in tree.source if file.needs_a_test}
    sides = tuple(f"{mirror.removesuffix('.py')}_" for mirror in mirrors)
    tests = [file.path for file in tree.python if file.top == "tests" and file.stem not in ("__init__", "conftest")]
    return [path for path in tests if path not in mirrors and not path.startswith((*TESTS_OF_NO_FILE, *sides))]


@rule
def one_public_thing_per_plugin_file(tree: Tree) -> list[str]:
    """A pass, criterion or method file has one public class, a kernel file one public class or function, named like the
    file: layer_prune.py ↔ LayerPrune (or layer_prune)."""
    offenders = []
    for file in tree.source:
        if file.needs_a_test and within(file.module, PLUGINS):
            kinds = ast.ClassDef | Function if file.top == "kernels" else ast.ClassDef
            public = [node.name for node in file.syntax.body if isinstance(node, kinds) and node.name[0] != "_"]
            if public not in ([file.stem], ["".join(part.capitalize() for part in file.stem.split("_"))]):
                offenders.append(f"{file.path} defines {', '.join(public) or 'nothing public'}")
    return offenders


@rule
def every_package_is_installed(tree: Tree) -> list[str]:
    """pyproject.toml lists every package: an editable install works without, a wheel would lack the files."""
    listed = next((file.text for file in tree.texts if file.path == "pyproject.toml"), "")
    packages = [file.module for file in tree.source if file.stem == "__init__"]
    return [f"{name} is not in [tool.setuptools] packages" for name in packages if f'"{name}"' not in listed]


@rule
def files_fit_in_a_head(tree: Tree) -> list[str]:
    """No Python file has over 350 lines; the median file of sparsify/, passes/ and kernels/ has at most 120."""
    lines = {file.path: file.text.count("\n") for file in tree.python}
    offenders = [f"{path}: {count} lines" for path, count in lines.items() if count > 350]
    median = statistics.median([lines[file.path] for file in tree.source] or [0])
    return offenders + [f"the median is {median:g} lines"] * (median > 120)


@rule
def functions_are_short(tree: Tree) -> list[str]:
    """Nine in ten functions have at most 35 lines, docstrings not counted."""
    functions = [(file, node) for file in tree.source for node in file.nodes if isinstance(node, Function)]
    lengths = sorted(body_lines(node) for _, node in functions)
    if not lengths or lengths[math.ceil(0.9 * len(lengths)) - 1] <= 35:
        return []
    return [
        f"{where(file, node)} {node.name}: {body_lines(node)} lines"
        for file, node in functions
        if body_lines(node) > 35
    ]


def body_lines(function: Function) -> int:
    doc = function.body[0] if ast.get_docstring(function, clean=False) is not None else None
    return function.end_lineno - function.lineno + 1 - (doc.end_lineno - doc.lineno + 1 if doc else 0)


@rule
def imports_go_one_way(tree: Tree) -> list[str]:
    """cli → recipe → passes → core, never back, not inside functions either; a pass imports no other pass."""
    return [
        f"{where(file, node)} imports {name}"
        for file in tree.python
        for node in imports(file.syntax, in_functions=True)
        for name in targets(node, file)
        if within(name, forbidden_imports(file))
    ]


def forbidden_imports(file: File) -> tuple[str, ...]:
    nobodys = ("passes", "kernels")  # their names are sparsify.passes and sparsify.kernels
    if file.module == "sparsify.recipe":
        return (*nobodys, "sparsify.cli", "sparsify.demo", "sparsify.__main__")
    if file.module in FRONT or not within(file.module, ("sparsify",)):
        return nobodys
    return (*nobodys, *FRONT, "sparsify.passes")


@rule
def no_import_cycles(tree: Tree) -> list[str]:
    """Modules do not import each other in a circle."""
    try:
        TopologicalSorter(tree.startup_imports).prepare()
    except CycleError as error:
        return [" → ".join(reversed(error.args[1]))]
    return []


@rule
def help_imports_nothing_heavy(tree: Tree) -> list[str]:
    """What `sparsify --help` imports does not import torch and its like, directly or through another module."""
    offenders = []
    for start in LIGHT:
        chains, seen = [[start]], {start}
        for chain in chains:  # grows while it is read: breadth first, so the chain reported is a shortest one
            package = chain[-1].rpartition(".")[0]  # importing a module runs its package first
            for name in sorted((tree.startup_imports.get(chain[-1], set()) | {package}) - seen):
                seen.add(name)
                chains.append([*chain, name])
        offenders += [" → ".join(chain) for chain in chains if chain[-1] in HEAVY]
    return offenders


@rule
def public_things_are_documented(tree: Tree) -> list[str]:
    """Every public function, class and method has a docstring."""
    public = [(file, node) for file in tree.source for node in public_definitions(file.syntax)]
    return [f"{where(file, node)} {node.name}" for file, node in public if ast.get_docstring(node) is None]


def public_definitions(owner: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    for node in owner.body:
        if isinstance(node, Function | ast.ClassDef) and node.name[0] != "_":
            decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
            if not decorators & {"overload", "override", "setter"}:
                yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node)


@rule
def only_the_front_prints(tree: Tree) -> list[str]:
    """`print` is for the command line, the demo and the reports; everything else returns values."""
    silent = [file for file in tree.source if not file.path.startswith(MAY_PRINT)]
    calls = [(file, node) for file in silent for node in file.nodes if isinstance(node, ast.Call)]
    return [where(file, call) for file, call in calls if ast.unparse(call.func) == "print"]


@rule
def no_bare_except(tree: Tree) -> list[str]:
    """`except` names what it expects."""
    handlers = [(file, node) for file in tree.python for node in file.nodes if isinstance(node, ast.ExceptHandler)]
    return [where(file, node) for file, node in handlers if node.type is None]


@rule
def todos_have_an_owner_and_a_condition(tree: Tree) -> list[str]:
    """A to-do comment reads `TODO(name): do this when that holds`; FIXME, XXX and HACK are not used."""
    marked = [file for file in tree.python if re.search("TODO|FIXME|XXX|HACK", file.text)]
    comments = [(file, token) for file in marked for token in comments_of(file)]
    return [
        f"{file.path}:{token.start[0]} {token.string}"
        for file, token in comments
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", token.string)
        and not re.search(r"\bTODO\(\w+\): .+\bwhen\b", token.string)
    ]


def comments_of(file: File) -> Iterator[tokenize.TokenInfo]:
    tokens = tokenize.generate_tokens(io.StringIO(file.text).readline)
    return (token for token in tokens if token.type == tokenize.COMMENT)


@rule
def no_paths_of_somebodys_machine(tree: Tree) -> list[str]:
    """No file mentions a path that exists only on the machine it was written on."""
    lines = [(file, number, line) for file in tree.texts for number, line in enumerate(file.text.splitlines(), 1)]
    return [f"{file.path}:{number} {line.strip()}" for file, number, line in lines if FOREIGN_PATH.search(line)]


def where(file: File, node: ast.stmt | ast.expr | ast.excepthandler) -> str:
    return f"{file.path}:{node.lineno}"


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


@pytest.fixture(scope="module")
def tree() -> Tree:
    if not (ROOT / "sparsify").is_dir():
        pytest.skip("these tests are a copy without the source tree, which is what the house rules are about")
    return Tree(ROOT)


@pytest.mark.parametrize("name", RULES)
def test_the_house_keeps_the_rule(name, tree):
    offenders = RULES[name](tree)
    if offenders:
        pytest.fail("\n  ".join([RULES[name].__doc__, *offenders]), pytrace=False)


DOC = '"""Documented."""\n'
BROKEN = {  # rule → a tree that breaks it once: path → text
    "every_source_file_has_a_test": {"passes/a.py": ""},
    "every_test_file_has_a_source": {"tests/passes/test_gone.py": ""},
    "one_public_thing_per_plugin_file": {"passes/layer_prune.py": "class LayerDrop: ..."},
    "every_package_is_installed": {"sparsify/export/__init__.py": "", "pyproject.toml": 'packages = ["sparsify"]'},
    "files_fit_in_a_head": {"tests/test_a.py": "\n" * 351},
    "functions_are_short": {"sparsify/a.py": "def f():\n" + "    x = 1\n" * 35},
    "imports_go_one_way": {"sparsify/a.py": "def f():\n    from .passes import layer_prune\n"},
    "no_import_cycles": {"sparsify/a.py": "from sparsify import b", "sparsify/b.py": "import sparsify.a"},
    "help_imports_nothing_heavy": {"sparsify/cli.py": "from .a import b", "sparsify/a/__init__.py": "import torch.nn"},
    "public_things_are_documented": {"sparsify/a.py": f"class A:\n    {DOC}    def f(self): ...\n"},
    "only_the_front_prints": {"passes/a.py": "print(1)"},
    "no_bare_except": {"tests/test_a.py": "try:\n    f()\nexcept:\n    pass\n"},
    "todos_have_an_owner_and_a_condition": {"sparsify/a.py": "x = 1  # TODO make this fast\n"},
    "no_paths_of_somebodys_machine": {".ci/run": "cd " + "/".join(["", "opt", "x"])},
}
TIDY = {  # keeps every rule, close to the edges of several
    "README.md": "see --work DIR and demo-out/work/\n",
    "pyproject.toml": 'packages = ["sparsify", "sparsify.passes"]',
    "sparsify/__init__.py": DOC + "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n",
    "sparsify/errors.py": DOC,
    "sparsify/cli.py": DOC + "from sparsify.errors import E\ndef f():\n    'Doc.'\n    import torch\n    print(1)\n",
    "sparsify/program.py": DOC + "import torch\nfrom . import errors\n# TODO(ada): drop this when torch 3 is out\n",
    "passes/__init__.py": DOC,
    "passes/layer_prune.py": DOC + "from ..program import P\nclass LayerPrune:\n    'Doc.'\ndef _f(): ...\n",
    **{f"tests/{name}.py": "" for name in ("conftest", "test_errors", "test_cli", "test_program")},
    "tests/passes/test_layer_prune.py": "",
    "build/lib/stale.py": "except: not even Python",
}


def write(root: Path, files: dict[str, str]) -> Tree:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
    return Tree(root)


def test_every_rule_has_a_broken_tree():
    assert BROKEN.keys() == RULES.keys()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_finds_what_breaks_it(name, tmp_path):
    assert len(RULES[name](write(tmp_path, BROKEN[name]))) == 1


@pytest.mark.parametrize("name", RULES)
def test_a_rule_accepts_a_tidy_tree(name, tmp_path):
    assert RULES[name](write(tmp_path, TIDY)) == []
