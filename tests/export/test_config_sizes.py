"""The configuration of a smaller model, found by trying: here of models that are a function of plain numbers."""

import pytest

from sparsify.errors import ExportError
from sparsify.export.config_sizes import with_sizes, without_layers

SETTINGS = {
    "layers": 3, "width": 32, "inner": None, "heads": 4, "kv": 2, "head_dim": 8, "kinds": ["a", "b", "a"], "vocab": 99,
    "num_attention_heads": 4, "nested": {"experts": 4},
}  # fmt: skip


def make(settings):
    width, inner = settings["width"], settings["inner"] or 4 * settings["width"]
    if width % settings["heads"] or len(settings["kinds"]) != settings["layers"]:
        raise ValueError("these do not go together")
    size = settings["head_dim"]
    layer = {
        "qkv": ((settings["heads"] + 2 * settings["kv"]) * size, width),
        "out": (width, settings["heads"] * size),
        "mlp": (inner, width),
        "experts": (settings["nested"]["experts"], inner, width),
        "fixed": (width // settings["heads"], 3),
    }
    names = {f"h.{i}.{name}": shape for i in range(settings["layers"]) for name, shape in layer.items()}
    return {"embed": (settings["vocab"], width), **names}


@pytest.mark.parametrize("change", [
    {},
    {"width": 24},
    {"head_dim": 6},
    {"inner": 100},
    {"nested": {"experts": 3}},
    {"width": 64, "inner": 128},
    {"inner": 64, "head_dim": 6, "nested": {"experts": 2}},
])  # fmt: skip
def test_the_numbers_are_found(change):
    wanted = {**SETTINGS, **change}
    found = list(with_sizes(SETTINGS, make, make(wanted)))
    assert all(make(settings) == make(wanted) for settings in found)
    assert any(settings.items() >= change.items() for settings in found)


def test_what_changes_is_what_changed():
    assert list(with_sizes(SETTINGS, make, make({**SETTINGS, "inner": 64}))) == [{**SETTINGS, "inner": 64}]
    assert list(with_sizes(SETTINGS, make, make(SETTINGS))) == [SETTINGS]


def test_layers_that_differ_are_refused():
    wanted = dict(make(SETTINGS))
    wanted["h.1.mlp"] = (100, 32)
    with pytest.raises(ExportError, match=r"h.\*.mlp has the shapes \[100, 32\] and \[128, 32\] in different layers"):
        next(with_sizes(SETTINGS, make, wanted))


def test_what_no_number_sets_is_refused():
    wanted = {name: (7, 3) if name.endswith("fixed") else shape for name, shape in make(SETTINGS).items()}
    with pytest.raises(ExportError, match=r"No number of the configuration gives h.0.fixed, .* \(\[7, 3\]\)"):
        next(with_sizes(SETTINGS, make, wanted))


def test_layers_go_with_what_is_said_of_each():
    names = set(make({**SETTINGS, "layers": 2, "kinds": ["a", "a"]}))
    found = without_layers(SETTINGS, make, names, count=3, removed=[1], where="h")
    assert (found["layers"], found["kinds"]) == (2, ["a", "a"])
    assert found["width"] == 32
    with pytest.raises(ExportError, match=r"1 of the 4 layers in h are gone, and no number"):
        without_layers(SETTINGS, make, names, count=4, removed=[1], where="h")
