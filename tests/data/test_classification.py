from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sparsify.data.classification import Batches, Classification
from sparsify.errors import UsageError


class Signs(Classification):
    """Is a number positive?"""

    name = "signs"

    def __init__(self, batch_size=4):
        self.batch_size = batch_size

    def data(self, split):
        x = torch.linspace(-1, 1, 10 if split == "train" else 6).unsqueeze(1)
        return x, (x[:, 0] > 0).long()


class Answer(nn.Module):
    """Right for all numbers above `threshold`; `wrap` says how the logits are returned."""

    def __init__(self, threshold=0.0, wrap=lambda logits: logits):
        super().__init__()
        self.threshold, self.wrap = threshold, wrap

    def forward(self, x):
        positive = (x > self.threshold).float()
        return self.wrap(torch.cat([1 - positive, positive], 1))


def test_training_batches_depend_on_the_seed_alone():
    task = Signs()
    first, again, other = (task.batches("train", seed=seed) for seed in (1, 1, 2))
    assert len(first) == len(list(first)) == 2  # the last two of the ten examples make no batch
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, first, strict=True))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))
    assert all(torch.equal((x[:, 0] > 0).long(), y) for x, y in first)


def test_validation_is_whole_and_in_order():
    batches = Signs().batches("validation", seed=5)
    assert [len(y) for _, y in batches] == [4, 2]
    assert len(batches) == 2
    assert torch.equal(torch.cat([x for x, _ in batches]), Signs().data("validation")[0])


def test_the_seed_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    list(Signs().batches("train", seed=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [0, 11])
def test_impossible_batch_sizes(size):
    with pytest.raises(UsageError, match="not between 1 and 10"):
        Signs(size).batches("train")


def test_an_unknown_split():
    with pytest.raises(UsageError, match="train and validation, not 'test'"):
        Signs().batches("test")


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: (x, None), lambda x: SimpleNamespace(logits=x)], ids=["tensor", "tuple", "logits"]
)
def test_score_and_loss(wrap):
    task = Signs()
    score = task.score(Answer(wrap=wrap))
    assert (score.value, score.n, score.name) == (1.0, 6, "accuracy")
    assert task.score(Answer(threshold=-0.5, wrap=wrap)).value == pytest.approx(5 / 6)
    batch = next(iter(task.batches("validation")))
    assert task.loss(Answer(wrap=wrap), batch).item() == pytest.approx(0.31326, abs=1e-5)  # -log(e / (e + 1))


def test_what_are_no_logits():
    with pytest.raises(UsageError, match=r"\[batch, classes\].*returned \[6\]"):
        Signs(6).score(Answer(wrap=lambda x: x[:, 0]))


def test_batches_without_the_last():
    batches = Batches(torch.arange(7), torch.arange(7), 3, partial=False)
    assert [x.tolist() for x, _ in batches] == [[0, 1, 2], [3, 4, 5]]
    assert len(batches) == 2
