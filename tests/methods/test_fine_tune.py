import torch
from torch import nn

from sparsify.capture import capture
from sparsify.methods.fine_tune import FineTune
from sparsify.task import resolve
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions
from sparsify.training.work import Work


def test_it_is_training_from_the_weights_that_there_are_at_a_small_rate():
    task = resolve("digits")
    torch.manual_seed(0)
    program = capture(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), task.example()[0])
    options = TrainOptions(steps="3it", learning_rate=0.01)
    expected = train(program, task, options, seed=2)
    assert FineTune().learning_rate == 0.01 < TrainOptions().learning_rate
    assert FineTune(steps="3it").retrain(program, task, seed=2, work=Work()).losses == expected.losses
