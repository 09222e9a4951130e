import pytest
import torch
from torch import nn

from sparsify.data.labelled import Labelled, check_size, check_split, device_of
from sparsify.errors import UsageError
from sparsify.task import Task

X = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])


class Rows(Labelled):
    """Which of two numbers is larger? The last answer is wrong."""

    name = "rows"

    def batches(self, split, *, seed=0):
        return [(X[:2], torch.tensor([0, 1])), (X[2:], torch.tensor([1]))]

    def example(self):
        return (X,), {}


def test_it_is_a_task():
    assert isinstance(Rows(), Task)


def test_loss_is_the_mean_cross_entropy():
    batch = Rows().batches("train")[0]
    expected = (torch.log1p(torch.tensor(-2.0).exp()) + torch.log1p(torch.tensor(-1.0).exp())) / 2
    assert torch.isclose(Rows().loss(nn.Identity(), batch), expected)
    assert Rows().labels(batch).tolist() == [0, 1]


def test_score_is_the_accuracy_over_all_batches():
    score = Rows().score(nn.Identity())
    assert (score.value, score.n, score.name) == (pytest.approx(2 / 3), 3, "accuracy")


def test_the_device_of_a_model():
    assert device_of(nn.Identity()) == torch.device("cpu")
    assert device_of(nn.Linear(2, 2, device="meta")) == torch.device("meta")


@pytest.mark.parametrize(("size", "split"), [(0, "train"), (0, "validation"), (11, "train")])
def test_impossible_batch_sizes(size, split):
    with pytest.raises(UsageError, match=f"rows: batch_size={size} is not between 1 and 10"):
        check_size("rows", size, split, 10)


def test_a_validation_split_may_be_smaller_than_a_batch():
    check_size("rows", 11, "validation", 10)


def test_an_unknown_split():
    with pytest.raises(UsageError, match="rows has the splits train and validation, not 'test'"):
        check_split("rows", "test")
