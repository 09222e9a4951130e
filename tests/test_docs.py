"""The README and the docs: every command runs, and whatever they name exists."""

import importlib.util
import re
from functools import cache
from pathlib import Path
from posixpath import normpath

import pytest
import yaml
from helpers.marks import some
from helpers.pages import DOCS, ROOT, commands, pages
from helpers.scratch import NOT_HERE, NOT_RUN, Scratch

import sparsify
from sparsify import latency
from sparsify.registry import entries

PAGES = pages()
LANGUAGES = {"sh", "python", "yaml", "json", "text"}
# Options of other programs that pages speak of.
FOREIGN = {"--sparsity", "--weight_sparsity", "--profilingVerbosity", "--exportLayerInfo"}
GENERATED = {"reference/commands.md"}


@cache
def hooks():
    """What mkdocs calls; it lies beside the pages and is no part of the package."""
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


def runnable(page):
    return any(fence.language in ("sh", "python") for fence in page.fences)


# Pages whose commands take longer than a few seconds.
LONG = {
    "tutorial.md", "ci-gate.md", "evaluation.md", "concepts/decide-remove-lower.md", "concepts/embeddings.md",
    "concepts/orthogonal.md", "how-to/cnn.md", "how-to/llm.md", "how-to/models-and-data.md", "how-to/onnxruntime.md",
    "how-to/report.md", "runtimes.md", "how-to/tensorrt.md", "how-to/tickets.md", "how-to/transformer.md",
}  # fmt: skip
RUN = [name for name, page in PAGES.items() if runnable(page)]


@pytest.mark.parametrize("name", some([name for name in RUN if name not in LONG], RUN))
def test_the_commands_of_a_page_run(name, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = latency._session  # how exact a latency is does not matter here
    monkeypatch.setattr(latency, "_session", lambda runs, seconds, least: session(runs, min(seconds, 0.02), least))
    scratch = Scratch(PAGES[name], prepared)
    for fence in PAGES[name].fences:
        scratch.run(fence)
    code = "\n".join(fence.code for fence in PAGES[name].fences)
    unused = [title for title in scratch.written if not re.search(rf"\b{Path(title).stem}\b", code)]
    assert unused == [], "files that the page writes and never uses"


@pytest.mark.parametrize("name", PAGES)
def test_code_is_where_the_tests_look_for_it(name):
    page = PAGES[name]
    assert {fence.language for fence in page.fences} <= LANGUAGES
    start = re.compile(r"^(\$ |sparsify [\w./-]+ -|python \S+\.py|(import|from) \w+)", re.MULTILINE)
    assert [fence.line for fence in page.fences if fence.language == "text" and start.search(fence.code)] == []
    assert re.findall(r"^(?: {4}|\t)(?:sparsify|python|pip|make|import|from) .*", page.prose, re.MULTILINE) == []


def test_what_is_not_run_is_little_and_could_be():
    words = [w for p in PAGES.values() for f in p.fences if f.language == "sh" for w in commands(f.code)]
    assert {w[0] for w in words} - {"sparsify", "python", "torchrun"} <= NOT_RUN
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {word for w in words if w[0] == "make" for word in w[1:] if "=" not in word} <= targets
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE))
    asked = re.findall(r"(?:sparsify-fx|\.)\[([\w,]+)\]", "\n".join(page.text for page in PAGES.values()))
    assert {extra for group in asked for extra in group.split(",")} <= extras
    assert not [name for name in NOT_HERE if importlib.util.find_spec(name)], "run what is here"


@cache
def known_options():
    return set(re.findall(r"--[a-z][a-z-]*", hooks().commands())) | {"--debug", "--help"}


@pytest.mark.parametrize("name", PAGES)
def test_every_option_exists(name):
    page = PAGES[name]
    asked = [word for span in page.spans if not span.startswith("trt") for word in span.split()]
    asked += [
        word
        for fence in page.fences
        for words in commands(fence.code if fence.language == "sh" else "")
        if words[0] == "sparsify"
        for word in words
    ]
    options = {word.partition("=")[0].strip(",.;") for word in asked if re.match(r"--[a-z]", word)}
    assert options - known_options() - FOREIGN == set()


KINDS = ("passes", "criteria", "methods", "mask_updates", "strong", "tasks")


@cache
def options_by_name():
    known: dict[str, set[str]] = {}
    for entry in (entry for kind in KINDS for entry in entries(f"sparsify.{kind}").values()):
        known.setdefault(entry.name, set()).update(option.name for option in entry.options)
    return known


@pytest.mark.parametrize("name", PAGES)
def test_every_option_of_a_pass_or_method_exists(name):
    known = options_by_name()
    every = set().union(*known.values())
    wrong = []
    for span in PAGES[name].spans:
        for word in span.split():
            spec = re.fullmatch(r"([a-z0-9-]+):((?:[a-z_]+=[^,]*,?)+.*)", word)
            if spec and spec[1] in known:
                wrong += [word for key in re.findall(r"(?:^|,)([a-z_]+)=", spec[2]) if key not in known[spec[1]]]
        alone = re.fullmatch(r"([a-z_]+)=[\w-]*", span)
        if alone and alone[1] not in every | {"values", "dynamic", "tokenizer"}:
            wrong.append(span)
    assert wrong == []


@pytest.mark.parametrize("name", PAGES)
def test_links_and_pictures_resolve(name):
    page = PAGES[name]
    broken = []
    for link in page.links:
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        relative = normpath(str(target.relative_to(ROOT))) if ROOT in [*target.parents, target] else str(target)
        if relative.removeprefix("docs/") in GENERATED:
            continue
        inside = next((other for other in PAGES.values() if other.path == target), None)
        there = target.is_file() or (name == "README.md" and target.is_dir())
        if not there or (anchor and (inside is None or anchor not in inside.anchors)):
            broken.append(link)
    assert broken == []


def navigation(items):
    for item in items:
        value = next(iter(item.values())) if isinstance(item, dict) else item
        yield from navigation(value) if isinstance(value, list) else [value]


def test_the_navigation_has_every_page():
    read = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    listed = list(navigation(read["nav"]))
    assert len(listed) == len(set(listed))
    assert set(listed) - GENERATED == set(PAGES) - {"README.md"}


def test_nothing_of_the_site_comes_from_another_machine():
    text = (ROOT / "mkdocs.yml").read_text("utf-8") + "".join(
        path.read_text("utf-8") for path in (DOCS / "assets").iterdir()
    )
    assert "font: false" in text
    assert re.findall(r"https?://\S+", text) == []


def test_the_reference_has_every_public_name():
    homes = {f"sparsify.{home}.{name}" for name, home in sparsify._HOMES.items()}
    named = re.findall(r"^::: (\S+)$", PAGES["reference/python.md"].text, re.MULTILINE)
    assert sorted(named) == sorted(homes)


def test_the_reference_of_commands_has_every_command_and_option():
    from sparsify.cli import app

    text = hooks().commands()
    names = [name for name in app.resolved_commands() if not name.startswith("-")]
    assert {"inspect", "bench", "demo"} <= set(names)
    assert [name for name in names if f"\n## sparsify {name}\n" not in text] == []
    assert text.startswith("# Commands\n")
    assert "* `--max-drop FLOAT`: " in text


def test_links_out_of_the_docs_lead_to_copies_in_the_site():
    text = "[a](../../examples/own_task.py) [b](cnn.md) [c](../index.md) [d](../../benchmarks/results/demo.json#x)"
    assert hooks().outside(text, "how-to/llm.md") == {
        "../../examples/own_task.py": "examples/own_task.py",
        "../../benchmarks/results/demo.json": "benchmarks/results/demo.json",
    }
    assert hooks().outside("[a](../examples/own_task.py)", "index.md") == {
        "../examples/own_task.py": "examples/own_task.py"
    }


def test_the_readme_fits_on_a_screen():
    assert PAGES["README.md"].text.count("\n") <= 80
