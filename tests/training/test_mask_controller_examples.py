"""The examples of loops of one's own: each trains a pruned network, and nothing comes back."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("name", ["plain", "accelerate", "fabric"])
def test_a_loop_trains_what_is_left(name):
    spec = importlib.util.spec_from_file_location(f"loop_{name}", FOLDER / f"loop_{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(steps=100) > 0.9
