import dataclasses
import importlib
import inspect
import sys

import pytest

from sparsify import registry
from sparsify.errors import UsageError

PACKAGES = ("sparsify.passes", "sparsify.criteria", "sparsify.methods", "sparsify.tasks")
EVERYTHING = [(package, name) for package in PACKAGES for name in registry.entries(package)]

# What a pass cannot do without.
NEEDED = {"channel-prune": ":sparsity=0.5"}


@pytest.mark.parametrize(("package", "name"), EVERYTHING)
def test_the_source_text_says_what_the_class_is(package, name):
    entry = registry.entries(package)[name]
    cls = getattr(importlib.import_module(entry.module), entry.class_name)
    fields = [field for field in dataclasses.fields(cls) if field.init]
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
