"""A network that several test files need trained: once for all processes of a test run."""

import os

import torch

import sparsify as sp
from sparsify.atomic import writing
from sparsify.demo_net import digits_resnet
from sparsify.tasks.digits import Digits
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions


def trained_digits(factory):
    """Return the residual network of the demo after three epochs on the digits: right in 19 of 20.

    Args:
        factory: pytest's `tmp_path_factory`; pytest removes what it makes.
    """
    base = factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "digits.pt2"
    if not path.exists():
        program = sp.capture(digits_resnet(), (torch.randn(2, 1, 8, 8),))
        trained = train(program, Digits(), TrainOptions(steps="3ep")).program
        with writing(path) as temporary:
            sp.save(trained, temporary)
    return sp.load(path)
