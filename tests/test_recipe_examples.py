"""The recipes in examples/: each trains its network, here for two steps on files of the right format."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.command import sparsify
from helpers.datasets import CIFAR10, write_cifar, write_idx

from sparsify.recipe import read_recipe

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RECIPES = sorted(EXAMPLES.glob("recipes/*.yaml"))
OF_A_FAMILY = ("conv-4", "conv-6", "resnet-32", "resnet-56")  # deeper networks of one whose recipe is tried anyhow
SHORT = {"every": "1it", "steps": "2it", "rounds": "1", "rewind": "1it", "warmup": "0it", "score_every": "0it"}


def networks():
    spec = importlib.util.spec_from_file_location("networks", EXAMPLES / "networks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shortened(spec):
    """Return a spec with two steps and one round."""
    name, _, options = spec.partition(":")
    parts = [option.partition("=") for option in options.split(",")]
    return f"{name}:" + ",".join(f"{key}={SHORT.get(key, value)}" if sign else key for key, sign, value in parts)


def recipes():
    slow = {path for path in RECIPES if path.stem.startswith(OF_A_FAMILY)}
    return [pytest.param(path, marks=[pytest.mark.slow] if path in slow else [], id=path.stem) for path in RECIPES]


@pytest.mark.parametrize("path", recipes())
def test_a_recipe_trains_its_network(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    write_idx(tmp_path / "data" / "mnist", train=140)
    write_cifar(tmp_path / "data" / "cifar10", CIFAR10, "labels", count=30)
    module = networks()
    name = next(name for name in module.NETWORKS if path.stem.startswith(name.replace("lenet-300-100", "lenet")))
    module.sp.save(module.network(name), "model.pt2")
    recipe = read_recipe(path)
    small = re.sub(r"batch_size=\d+", "batch_size=10", recipe.task)
    recipe = replace(recipe, retrain=shortened(recipe.retrain), task=small)
    ran = sparsify("model.pt2", *recipe.options(), "--work", "run")
    assert (ran.status, ran.err) == (0, "")
    assert "accuracy" in ran.out
    assert (tmp_path / "run" / "log.jsonl").exists()


def test_every_network_has_a_recipe():
    stems = " ".join(path.stem for path in RECIPES)
    assert all(name.replace("lenet-300-100", "lenet") in stems for name in networks().NETWORKS)
