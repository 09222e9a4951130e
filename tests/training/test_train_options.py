"""Options of training: what is out of range, which optimizer, which numbers."""

import pytest
import torch
from helpers.sparse import Clusters, program_of
from torch import nn

from sparsify.errors import UsageError
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0.0 is not positive"),
        ({"momentum": 1.0}, r"momentum=1.0 is not in \[0, 1\)"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0 is negative"),
        ({"clip": 0.0}, "clip=0.0 is not positive"),
        ({"steps": "many"}, "'many' is not a number of steps"),
        ({"score_every": "5"}, "'5' is not a number of steps"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(UsageError, match=message):
        TrainOptions(**options)


def test_only_weights_decay():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    sgd = TrainOptions(weight_decay=0.1).make_optimizer(list(model.parameters()))
    assert [(group["weight_decay"], [p.ndim for p in group["params"]]) for group in sgd.param_groups] == [
        (0.1, [2]), (0.0, [1, 1, 1])
    ]  # fmt: skip
    adamw = TrainOptions(optimizer="adamw", momentum=0.8).make_optimizer(list(model.parameters()))
    assert adamw.defaults["betas"] == (0.8, 0.999)


def test_bf16_computes_in_bf16_and_keeps_the_weights():
    seen = []

    class Looks(Clusters):
        def loss(self, model, batch):
            output = model(batch[0])
            seen.append(output.dtype)
            return nn.functional.cross_entropy(output, batch[1])

    trained = train(program_of(), Looks(), TrainOptions(steps="3it", precision="bf16"))
    assert set(seen) == {torch.bfloat16}
    assert {value.dtype for value in trained.program.parameters.values()} == {torch.float32}


def test_fp16_needs_a_gpu():
    with pytest.raises(UsageError, match="precision=fp16 needs a GPU; take bf16 or fp32"):
        train(program_of(), Clusters(), TrainOptions(steps="3it", precision="fp16"))


def test_a_compiled_model_learns_the_same():
    options = TrainOptions(steps="5it")
    plain = train(program_of(), Clusters(), options)
    with torch._dynamo.config.patch(suppress_errors=False):
        compiled = train(program_of(), Clusters(), TrainOptions(steps="5it", compile=True))
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-4)
    assert compiled.program.parameters.keys() == plain.program.parameters.keys()
