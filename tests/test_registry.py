import dataclasses
import importlib
import inspect
import subprocess
import sys

import pytest

from sparsify import registry
from sparsify.errors import UsageError

PACKAGES = ("sparsify.passes", "sparsify.criteria", "sparsify.methods", "sparsify.tasks")
EVERYTHING = [(package, name) for package in PACKAGES for name in registry.entries(package)]

# What a pass or a task cannot do without.
NEEDED = {
    "apply-ticket": ":file=a.ticket",
    **dict.fromkeys(("cifar10", "cifar100", "cifar10c", "images", "mnist"), ":folder=data"),
    "text": ":file=book.txt",
    **dict.fromkeys(("channel-prune", "freeze", "merge-channels", "pai", "weight-prune"), ":sparsity=0.5"),
    "embed": ":kind=interspace",
    "sanity": ":control=shuffle",
}


@pytest.mark.parametrize(("package", "name"), EVERYTHING)
def test_the_source_text_says_what_the_class_is(package, name):
    entry = registry.entries(package)[name]
    cls = getattr(importlib.import_module(entry.module), entry.class_name)
    refused = getattr(cls, "refuses", ())
    fields = [field for field in dataclasses.fields(cls) if field.init and field.name not in refused]
    assert entry.refuses == refused
    assert [option.name for option in entry.options] == [field.name for field in fields]
    for option, field in zip(entry.options, fields, strict=True):
        if option.default is None:
            assert field.default is dataclasses.MISSING
        else:
            items = field.default if isinstance(field.default, tuple) else (field.default,)
            assert option.default == ",".join(repr(item).strip("'\"") for item in items)
    assert entry.text == inspect.getdoc(cls)


@pytest.mark.parametrize(("package", "name"), EVERYTHING)
def test_everything_and_every_option_is_described(package, name):
    entry = registry.entries(package)[name]
    assert entry.summary.endswith(".")
    assert [option.name for option in entry.options if not option.help] == []


@pytest.mark.parametrize(("package", "name"), EVERYTHING)
def test_everything_can_be_made_by_its_name(package, name):
    asked = name + NEEDED.get(name, "")
    instance, spec = registry.make(package, asked)
    assert spec == asked
    assert dataclasses.is_dataclass(instance)


def test_a_spec_becomes_an_instance_and_a_canonical_spec():
    instance, spec = registry.make("sparsify.passes", "layer-prune:criterion=snip, count=2,batches=8")
    assert (instance.count, instance.criterion, instance.batches) == (2, "snip", 8)
    assert spec == "layer-prune:count=2,criterion=snip"


@pytest.mark.parametrize(
    ("package", "kind"),
    [("sparsify.passes", "pass"), ("sparsify.criteria", "criterion"), ("sparsify.methods", "retraining method")],
)
def test_an_unknown_name_gets_the_known_ones(package, kind):
    with pytest.raises(UsageError, match=f"There is no {kind} 'nothing-like-it'. There are: "):
        registry.make(package, "nothing-like-it")


def test_a_near_miss_gets_a_suggestion():
    with pytest.raises(UsageError, match=r"no pass 'layer_prune' \(did you mean 'layer-prune'\?\)"):
        registry.find("sparsify.passes", "layer_prune")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package like `passes/`, empty as yet."""
    folder = tmp_path / "plugins_of_this_test"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    registry.entries.cache_clear()
    for name in [name for name in sys.modules if name.startswith("plugins_of_this_test")]:
        del sys.modules[name]


def test_a_file_is_all_it_takes(package):
    (package / "_private.py").write_text("raise SystemError")
    (package / "two_words.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar, Literal\n\n"
        "@dataclass(frozen=True)\nclass TwoWords:\n"
        '    """Do it.\n\n    Options:\n        size: how big,\n            in metres.\n    """\n\n'
        "    fixed: ClassVar[int] = 1\n    size: float | None\n    kind: Literal['a', 'b'] = 'a'\n"
    )
    (entry,) = registry.entries(package.name).values()
    assert (entry.name, entry.summary, entry.class_name) == ("two-words", "Do it.", "TwoWords")
    assert entry.options == (
        registry.Option("size", "float", None, "how big, in metres."),
        registry.Option("kind", "a|b", "a", ""),
    )
    instance, spec = registry.make(package.name, "two-words:kind=b,size=2")
    assert (instance.size, instance.kind, spec) == (2.0, "b", "two-words:size=2.0,kind=b")


def test_a_file_without_its_class_is_refused(package):
    (package / "two_words.py").write_text("class Other: ...")
    with pytest.raises(UsageError, match=r"two_words.py should define the class TwoWords"):
        registry.entries(package.name)


def test_types_that_are_imported_are_spelled_out():
    types = {option.name: option.type for option in registry.find("sparsify.passes", "weight-prune").options}
    assert types["first"] == "prune|dense"
    assert types["last"] == "prune|half|dense"
    assert types["allocation"] == "uniform|global|lamp|snip-ratios|er|erk|smart|table"
    assert types["schedule"] == "one-shot|linear|cubic|cosine|exponential|iterative"
    assert types["scope"] == "global|layer"
    assert types["rounds"] == "int"
    assert types["protect"] == "tuple[str, ...]"


def test_a_type_that_the_file_or_another_module_of_sparsify_defines_is_spelled_out(package):
    (package / "one.py").write_text(
        "from dataclasses import dataclass\nfrom typing import Literal, TypeAlias\n"
        "from sparsify.schedules import Shape as Curve\nfrom os import PathLike\n\n"
        "Size: TypeAlias = Literal['small', 'large']\n\n"
        '@dataclass(frozen=True)\nclass One:\n    """Do it."""\n\n'
        "    size: Size | None = None\n    curve: Curve = 'linear'\n    path: PathLike = ''\n    missing: Nowhere = 1\n"
    )
    (entry,) = registry.entries(package.name).values()
    assert {option.name: option.type for option in entry.options} == {
        "size": "small|large", "curve": "constant|linear|cubic|cosine", "path": "PathLike", "missing": "Nowhere",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"), [(p, n) for p in ("criteria", "statistics") for n in registry.entries(f"sparsify.{p}")]
)
def test_what_a_class_says_of_itself_is_read_from_the_source(kind, name):
    entry = registry.find(f"sparsify.{kind}", name)
    cls = getattr(importlib.import_module(entry.module), entry.class_name)
    assert entry.scores == getattr(cls, "scores", ())
    assert entry.needs == getattr(cls, "needs", ())
    assert entry.data == getattr(cls, "data", "")


def test_scores_needs_and_data_by_name():
    snip, oracle = (registry.find("sparsify.criteria", name) for name in ("snip", "oracle"))
    assert (snip.scores, snip.needs) == (("weights", "channels", "blocks"), ("gradient",))
    assert (oracle.scores, oracle.needs) == (("blocks",), ("damage",))
    assert registry.find("sparsify.statistics", "gradient").data == "loss"
    assert registry.find("sparsify.passes", "weight-prune").scores == ()


def test_listing_everything_imports_neither_torch_nor_what_is_listed():
    code = (
        "import sys\nfrom sparsify import registry\n"
        "for name in ('passes', 'criteria', 'statistics', 'methods', 'tasks'):\n"
        "    assert registry.entries(f'sparsify.{name}')\n"
        "print(sorted({'torch', 'sparsify.criteria.magnitude', 'sparsify.passes.weight_prune'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "[]", found.stderr
