import sys

import pytest
import torch

from sparsify.errors import UsageError
from sparsify.task import Score, Task, accuracy, example_inputs, mean_score, resolve

MINE = """
import torch
from sparsify.task import Score

class Mine:
    name = "mine"
    def __init__(self):
        self.size = 3
    def batches(self, split, *, seed=0):
        return [torch.ones(2)]
    def loss(self, model, batch):
        return model(batch).mean()
    def score(self, model):
        return Score(-1.0, "negative perplexity", 3)

def make():
    return Mine()

instance = Mine()
number = 3

class Crowded(Mine):
    def batches(self, split, other):
        return []

class Half:
    name = "half"
    def batches(self, split, *, seed=0): ...

def returns_a_class():
    return 7
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)


def test_wilson_interval():
    score = accuracy(440, 450)
    assert score.value == pytest.approx(0.97778, abs=1e-5)
    assert score.interval == pytest.approx((0.95959, 0.98789), abs=1e-5)
    assert str(score) == "accuracy 0.9778 (0.9596 to 0.9879, n = 450)"


def test_the_interval_stays_inside_and_has_a_width_at_the_ends():
    assert accuracy(10, 10).interval == pytest.approx((0.72247, 1.0), abs=1e-5)
    assert accuracy(0, 10).interval == pytest.approx((0.0, 0.27753), abs=1e-5)


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts(correct, n):
    with pytest.raises(ValueError, match="right answers"):
        accuracy(correct, n)


def test_a_mean_and_its_interval():
    score = mean_score([1.0, 2.0, 3.0, 6.0], "points")
    assert (score.value, score.n, score.name) == (3.0, 4, "points")
    half = 1.959964 * (14 / 3 / 4) ** 0.5  # the variance is (4 + 1 + 0 + 9) / 3
    assert score.interval == pytest.approx((3 - half, 3 + half))
    assert mean_score([5.0], "points", n=7) == Score(5.0, "points", 7)
    with pytest.raises(ValueError, match="validation split empty"):
        mean_score([], "points")


def test_a_score_without_interval():
    assert str(Score(-1.5, "negative perplexity", 3)) == "negative perplexity -1.5000 (n = 3)"


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("spec", ["mine.py:Mine", "mine.py:make", "mine.py:instance", "mine:make"])
def test_a_users_task(spec):
    task = resolve(spec)
    assert isinstance(task, Task)
    assert task.name == "mine"
    assert example_inputs(task) is None
    assert resolve(task) is task


def test_built_in():
    task = resolve("digits")
    assert isinstance(task, Task)
    assert task.name == "digits"
    args, kwargs = example_inputs(task)
    assert args[0].shape == (8, 1, 8, 8)
    assert args[0].dtype == torch.float32
    assert kwargs == {}


def test_options_of_a_built_in():
    assert resolve("digits:batch_size=32,split_seed=3") == type(resolve("digits"))(32, 3)
    assert resolve("digits:32") == resolve("digits:batch_size=32")
    assert resolve("digits:32,split_seed=3") == resolve("digits:batch_size=32,split_seed=3")
    with pytest.raises(UsageError, match="batch_size"):
        resolve("digits:batchsize=32")


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "no built-in task 'digit' .did you mean 'digits'.*There are: .*digits.*file.py:factory"),
        ("mine.py:Half", "is a Half without loss, score"),
        ("mine.py:number", "is a int without batches, loss, score"),
        ("mine.py:returns_a_class", "is a int without batches"),
        ("mine.py:Crowded", r"must be called as batches\(split\), or batches\(split, seed=0\)"),
        ("mine.py:Absent", "has no 'Absent'"),
    ],
)
def test_what_is_no_task_is_refused(spec, message):
    with pytest.raises(UsageError, match=message):
        resolve(spec)


def test_a_wrong_object_is_refused():
    with pytest.raises(UsageError, match="object without batches, loss, score"):
        resolve(object())


def test_a_file_alone_means_its_make(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from sparsify.tasks.digits import Digits\nmake = Digits\n", encoding="utf-8")
    assert resolve("mine.py").name == resolve("mine.py:make").name == "digits"
    (tmp_path / "other.py").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"other\.py has no 'make'"):
        resolve("other.py")


def test_a_score_as_json_has_it():
    found = Score(0.5, "accuracy", 10, (0.2, 0.8)).as_dict()
    assert found == {"value": 0.5, "name": "accuracy", "n": 10, "interval": [0.2, 0.8]}
    assert Score(0.5, "accuracy", 10).as_dict()["interval"] is None
