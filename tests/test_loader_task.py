import pytest
import torch
from helpers.zoo import FAMILIES
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import sparsify as sp
from sparsify.errors import UsageError
from sparsify.loader_task import LoaderTask
from sparsify.task import example_inputs

X = torch.linspace(-1, 1, 10).unsqueeze(1)
Y = (X[:, 0] > 0).long()
PAIRS = DataLoader(TensorDataset(X, Y), 4, shuffle=True)


class Signs(nn.Module):
    """Right for all numbers above the threshold."""

    def __init__(self, threshold=0.0):
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, x):
        return torch.cat([self.threshold - x, x - self.threshold], 1)


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def correct(model, batch):
    return model(batch[0]).argmax(1) == batch[1]


def test_it_is_a_task():
    task = LoaderTask(PAIRS, PAIRS, loss, correct, name="signs")
    assert isinstance(task, sp.Task)
    assert isinstance(task, sp.LoaderTask)
    assert (task.name, len(task.batches("train"))) == ("signs", 3)


def test_training_follows_the_seed_and_validation_does_not():
    task = LoaderTask(PAIRS, PAIRS, loss)

    def order(split, seed):
        return torch.cat([x for x, _ in task.batches(split, seed=seed)]).flatten().tolist()

    assert order("train", 1) == order("train", 1) != order("train", 2)
    assert order("validation", 1) == order("validation", 2)
    assert sorted(order("train", 1)) == X.flatten().tolist()


def test_a_function_of_the_seed():
    task = LoaderTask(lambda seed: [torch.tensor([seed])], [torch.tensor([5])], loss)
    assert [batch.item() for batch in task.batches("train", seed=9)] == [9]


def test_booleans_make_an_accuracy():
    score = LoaderTask(PAIRS, PAIRS, loss, correct).score(Signs(-0.5))
    assert (score.value, score.n, score.name) == (pytest.approx(0.8), 10, "accuracy")
    assert score.interval is not None
    named = LoaderTask(PAIRS, PAIRS, loss, correct, score_name="right").score(Signs(-0.5))
    assert (named.value, named.name) == (pytest.approx(0.8), "right")


def test_other_values_make_a_mean():
    task = LoaderTask(PAIRS, PAIRS, loss, lambda model, batch: batch[0][:, 0] ** 2)
    score = task.score(Signs())
    assert (score.value, score.n) == (pytest.approx(X.square().mean().item()), 10)
    half = 1.959964 * X.square().std().item() / 10**0.5
    assert score.interval == pytest.approx((score.value - half, score.value + half))


def test_a_score_of_everything():
    task = LoaderTask(PAIRS, PAIRS, loss, score_all=lambda model: model(X)[0, 0])
    assert task.score(Signs()) == sp.Score(1.0, "score", 10)
    known = sp.Score(0.3, "F1", 7)
    assert LoaderTask(PAIRS, PAIRS, loss, score_all=lambda model: known).score(Signs()) is known


def test_without_a_score_it_is_the_loss():
    score = LoaderTask(PAIRS, PAIRS, loss).score(Signs())
    assert (score.value, score.n) == (pytest.approx(-loss(Signs(), (X, Y)).item(), rel=1e-6), 10)
    assert score.name == "negative loss"


def test_labels_and_example():
    task = LoaderTask(PAIRS, DataLoader(TensorDataset(X, Y), 10), loss)
    assert task.labels((X, Y)) is Y
    assert task.labels({"input_ids": X, "labels": Y}) is Y
    with pytest.raises(UsageError, match="have no labels"):
        task.labels({"input_ids": X})
    (x,), kwargs = example_inputs(task)
    assert (torch.equal(x, X[:8]), kwargs) == (True, {})
    assert LoaderTask(PAIRS, [(X, Y, Y)], loss).example() is None


def test_batches_of_hugging_face():
    """A tokenizer's collator gives a BatchEncoding, which is no dictionary."""
    transformers = pytest.importorskip("transformers")
    ids = torch.randint(1, 59, (12, 7), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": row[0] % 5} for row in ids]

    def collate(items):
        return transformers.BatchEncoding({key: torch.stack([item[key] for item in items]) for key in items[0]})

    loader = DataLoader(rows, 4, shuffle=True, collate_fn=collate)
    task = LoaderTask(
        loader,
        loader,
        lambda model, batch: F.cross_entropy(model(input_ids=batch["input_ids"]).logits, batch["labels"]),
        lambda model, batch: model(input_ids=batch["input_ids"]).logits.argmax(1) == batch["labels"],
    )
    model, _, _ = FAMILIES["distilbert"]()
    args, kwargs = example_inputs(task)
    assert (args, list(kwargs), kwargs["input_ids"].shape) == ((), ["input_ids"], (4, 7))
    program = sp.capture(model, args, kwargs)
    pruned = sp.run(program, ["weight-prune:sparsity=0.3,criterion=fisher,batches=2"], task=task).program
    first, again = (sp.retrain(pruned, "fine-tune:steps=4it", task=task) for _ in range(2))
    assert first.report["scores"]["after"]["n"] == 12
    assert all(torch.equal(first.program.parameters[key], again.program.parameters[key]) for key in pruned.parameters)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (iter([1]), "train is a list_iterator, which can be gone through only once"),
        ((x for x in [1]), "train is a generator, which can be gone through only once"),
        (3, "train is a int, which gives no batches"),
    ],
)
def test_what_is_no_loader(train, message):
    with pytest.raises(UsageError, match=message):
        LoaderTask(train, PAIRS, loss)


def test_refusals():
    with pytest.raises(UsageError, match="has one score"):
        LoaderTask(PAIRS, PAIRS, loss, correct, score_all=float)
    with pytest.raises(UsageError, match="splits train and validation, not 'test'"):
        LoaderTask(PAIRS, PAIRS, loss).batches("test")
    for scores in ({}, {"score_each": correct}):
        with pytest.raises(UsageError, match="validation split of the task loaders gives no batch"):
            LoaderTask(PAIRS, [], loss, **scores).score(Signs())
    with pytest.raises(UsageError, match=r"score_each must return .* it returned \[4, 2\]"):
        LoaderTask(PAIRS, PAIRS, loss, lambda model, batch: model(batch[0])).score(Signs())
