import math
from pathlib import Path

import pytest
import torch
from helpers.zoo import FAMILIES
from torch import nn

from sparsify.capture import capture
from sparsify.errors import InputError, UsageError
from sparsify.pipeline import retrain, run
from sparsify.task import Task, example_inputs, resolve
from sparsify.tasks.text import Text

TEXT = bytes(range(32, 59)) * 40  # 1080 bytes, of which each decides the next; all of them are in the zoo's vocabulary


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT)
    return str(path)


class Next(nn.Module):
    """Expects the byte that comes next with e^sure times the weight of any other one."""

    def __init__(self, sure=0.0, wrap=lambda logits: logits):
        super().__init__()
        self.sure, self.wrap = nn.Parameter(torch.tensor(sure)), wrap

    def forward(self, tokens):
        following = torch.where(tokens == TEXT[26], TEXT[0], tokens + 1)
        return self.wrap(nn.functional.one_hot(following, 256) * self.sure)


def test_by_its_name(file):
    task = resolve(f"text:{file},length=16,inputs=input_ids,attention_mask")
    assert isinstance(task, Task)
    assert task == Text(file, 16, inputs=("input_ids", "attention_mask"))


def test_examples_follow_each_other(file):
    task = Text(file, length=100, batch_size=4, validation=0.25)
    inputs, targets = (torch.cat(part) for part in zip(*task.batches("validation"), strict=True))
    assert (inputs.dtype, targets.dtype) == (torch.int64, torch.int64)
    tokens = torch.tensor(list(TEXT[810:]))
    assert torch.equal(inputs, tokens[:200].view(2, 100))
    assert torch.equal(targets, tokens[1:201].view(2, 100))


def test_an_epoch(file):
    task = Text(file, length=20, batch_size=7, validation=0.5)
    batches = task.batches("train", seed=1)
    assert len(batches) == len(list(batches)) == 3  # 26 examples
    first, again, other = (torch.cat([x for x, _ in task.batches("train", seed=seed)]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert all(bytes(x.tolist()) in TEXT for x in first)


@pytest.mark.parametrize(
    "wrap",
    [lambda x: x, lambda x: (x, None), lambda x: {"loss": None, "logits": x}],
    ids=["tensor", "tuple", "mapping"],
)
def test_loss_and_score_in_nats(file, wrap):
    task = Text(file, length=50, batch_size=4, validation=0.2)
    assert task.loss(Next(wrap=wrap), next(iter(task.batches("train")))).item() == pytest.approx(math.log(256))
    score = task.score(Next(3.0, wrap))
    assert score.value == pytest.approx(-math.log(1 + 255 * math.exp(-3)), rel=1e-5)
    assert (score.name, score.n) == ("negative cross-entropy", 200)
    assert score.interval == pytest.approx((score.value, score.value), abs=1e-5)  # all examples are equally hard


def test_the_interval_is_that_of_the_mean_over_examples(file):
    Path(file).write_bytes(TEXT + b"!" * 270)
    task = Text(file, length=30, validation=0.4)
    model = Next(3.0)
    losses = torch.cat([task._losses(model, batch).mean(1) for batch in task.batches("validation")]).detach().double()
    half = 1.959964 * float(losses.std()) / len(losses) ** 0.5
    score = task.score(model)
    assert score.interval == pytest.approx((score.value - half, score.value + half))


@pytest.mark.parametrize(("name", "keyword"), [("gpt2", False), ("llama", True)])
def test_transformers_before_and_after_capture(file, name, keyword):
    model, _, _ = FAMILIES[name]()
    task = Text(file, length=8, batch_size=4, inputs=("input_ids",) if keyword else ())
    args, kwargs = example_inputs(task)
    assert (len(args), list(kwargs)) == ((0, ["input_ids"]) if keyword else (1, []))
    module = capture(model, args, kwargs).module()
    other = Text(file, length=8, batch_size=4)  # by position, however it was captured
    batch = next(iter(task.batches("validation")))
    expected = nn.functional.cross_entropy(model(batch[0]).logits.flatten(0, 1), batch[1].flatten())
    for each in (task, other):
        torch.testing.assert_close(each.loss(module, batch), expected)
        torch.testing.assert_close(each.loss(model, batch), expected)


class Masked(nn.Module):
    """Needs a mask, too."""

    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(256, 6), nn.Linear(6, 256)

    def forward(self, attention_mask, input_ids):
        return {"logits": self.out(self.embedding(input_ids) * attention_mask[:, :, None])}


def test_a_model_with_a_mask(file):
    model = Masked()
    task = Text(file, length=8, batch_size=4, inputs=("input_ids", "attention_mask"))
    program = capture(model, *example_inputs(task))
    ids, targets = batch = next(iter(task.batches("train")))
    expected = nn.functional.cross_entropy(model(torch.ones_like(ids), ids)["logits"].mT, targets)
    torch.testing.assert_close(task.loss(program.module(), batch), expected)
    with pytest.raises(
        UsageError, match=r"needs the inputs .*inputs=(input_ids,attention_mask|attention_mask,input_ids)"
    ):
        Text(file, length=8).loss(program.module(), batch)
    # This criterion puts a module of its own around the model, which does not say what it takes.
    pruned = run(program, ["weight-prune:sparsity=0.3,criterion=prospr,batches=2"], task=task)
    trained = retrain(pruned.program, "fine-tune:steps=3it", task=task)
    assert trained.report["scores"]["after"]["n"] == 104


def test_a_vocabulary_that_is_too_small(file):
    Path(file).write_bytes(TEXT + bytes([200]) * 500)
    model, _, _ = FAMILIES["gpt2"]()
    with pytest.raises(UsageError, match=r"text\.txt, of which the largest is 200.*tokenizer="):
        Text(file, length=8).score(model)


def test_a_model_that_predicts_something_else(file):
    task = Text(file, length=8)
    batch = next(iter(task.batches("validation")))
    with pytest.raises(UsageError, match=r"logits \[batch, tokens, vocabulary\].*returned \[10, 256\]"):
        task.loss(Next(wrap=lambda x: x[:, 0]), (batch[0][:10], batch[1][:10]))
    with pytest.raises(UsageError, match=r"logits \[10, 3, 256\] for tokens \[10, 8\]"):
        task.loss(Next(wrap=lambda x: x[:, :3]), (batch[0][:10], batch[1][:10]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 1.0}, "validation=1 is not between 0 and 1"),
        ({"length": 0}, "length=0 is not positive"),
        ({"inputs": ("attention_mask",)}, "inputs=attention_mask must have input_ids"),
        ({"inputs": ("input_ids", "labels")}, "be of input_ids, attention_mask, position_ids"),
        ({"batch_size": 40, "length": 100}, "batch_size=40 is not between 1 and 9"),
    ],
)
def test_impossible_options(file, options, message):
    with pytest.raises(UsageError, match=message):
        Text(file, **options).batches("train")


def test_a_text_that_is_too_short(file, tmp_path):
    with pytest.raises(InputError, match=r"has 108 tokens for the split validation, .*length=128 needs one more"):
        Text(file).batches("validation")
    with pytest.raises(InputError, match="does not exist"):
        Text(str(tmp_path / "nothing.txt")).batches("train")
