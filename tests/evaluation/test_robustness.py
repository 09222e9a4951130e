import builtins

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.errors import UsageError
from sparsify.evaluation.corruptions import corrupt
from sparsify.evaluation.pixels import PixelRange
from sparsify.evaluation.robustness import Corrupted, Known, Robustness, robustness, scored, unfit
from sparsify.task import Score, accuracy

SCALE = PixelRange(torch.full((1, 1, 1), -1.0), torch.full((1, 1, 1), 3.0), (8, 8), False)


class Seen(nn.Module):
    """Keeps what it gets."""

    def __init__(self):
        super().__init__()
        self.got = []

    def forward(self, images):
        self.got.append(images)
        return images.flatten(1)


def inputs(n=6):
    return 4 * torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 1


def right(*shares):
    return [accuracy(round(100 * share), 100) for share in shares]


def test_a_model_gets_corrupted_images_in_its_own_scale():
    model = Seen().eval()
    wrapped = Corrupted(model, SCALE, "gaussian-noise", 3, seed=7)
    assert not wrapped.training
    wrapped(inputs()[:4])
    wrapped(images=inputs()[4:])
    expected = 4 * corrupt((inputs() + 1) / 4, "gaussian-noise", 3, seed=7) - 1
    assert torch.allclose(torch.cat(model.got), expected, atol=1e-5)


def test_what_one_model_got_the_next_one_gets():
    known, models = Known(), [Seen(), Seen()]
    for model in models:
        wrapped = Corrupted(model, SCALE, "fog", 2, known=known)
        wrapped(inputs()[:4])
        wrapped(inputs()[4:])
    assert all(a is b for a, b in zip(models[0].got, models[1].got, strict=True))
    other = Seen()
    Corrupted(other, SCALE, "fog", 2, known=known)(inputs()[:4] / 2)  # not the same images: not the same result
    assert not torch.allclose(other.got[0], models[0].got[0])


def test_nothing_to_corrupt():
    with pytest.raises(UsageError, match="nothing to corrupt: the model gets 2 tensors"):
        Corrupted(Seen(), SCALE, "fog", 1)(torch.zeros(1), torch.zeros(1))


def test_which_do_not_fit(monkeypatch):
    names = ["fog", "saturate", "jpeg"]
    assert unfit(names, SCALE) == {"saturate": "the images are grey"}
    assert unfit(names, "there are no images") == dict.fromkeys(names, "there are no images")
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "PIL":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    assert unfit(["jpeg"], SCALE) == {"jpeg": "Pillow is not installed: pip install sparsify-fx[data]"}


def test_the_numbers_are_those_of_the_formulas():
    dense = Robustness(accuracy(90, 100), {"fog": right(0.8, 0.6), "snow": right(0.7, 0.5)})
    small = Robustness(accuracy(80, 100), {"fog": right(0.7, 0.4), "snow": right(0.6, 0.2)})
    assert small.overall == pytest.approx((0.55 + 0.4) / 2)
    # Σ errors: fog 0.9 over 0.6, snow 1.2 over 0.8.
    assert small.corruption_error(dense) == pytest.approx(1.5)
    # Rises over the clean error: fog 0.1 + 0.4 over 0.1 + 0.3, snow 0.2 + 0.6 over 0.2 + 0.4.
    assert small.relative_error(dense) == pytest.approx((0.5 / 0.4 + 0.8 / 0.6) / 2)
    assert dense.corruption_error(dense) == dense.relative_error(dense) == 1
    found = small.as_dict(dense)
    assert found["drop"] == pytest.approx(0.8 - 0.475)
    assert found["corruptions"]["fog"]["scores"] == [0.7, 0.4]
    assert found["interval"] == list(accuracy(48, 100).interval)  # 47.5 right answers in 100
    assert small.interval("fog") == accuracy(55, 100).interval


def test_what_has_no_meaning_is_none():
    perfect = Robustness(accuracy(100, 100), {"fog": right(1.0, 1.0)})
    assert perfect.corruption_error(perfect) is None
    loss = Robustness(Score(-1.0, "minus loss", 10), {"fog": [Score(-2.0, "minus loss", 10)]})
    assert (loss.corruption_error(loss), loss.interval(), loss.as_dict(loss)["mean"]) == (None, None, -2.0)
    nothing = Robustness(accuracy(1, 2), {})
    assert nothing.as_dict(nothing)["mean"] is None


def test_a_model_that_looks_at_the_corner_is_hurt_by_what_changes_it():
    """The label is whether the mean of an image is high: brightness moves all across the threshold, pixelate none."""
    images = inputs(40) * 0.2 + torch.linspace(-0.8, 1.2, 40)[:, None, None, None]
    data = [(images, (images.mean((1, 2, 3)) > 0.5).long())]

    class Threshold(nn.Module):
        def forward(self, x):
            level = x.mean((1, 2, 3))
            return torch.stack([0.5 - level, level - 0.5], 1)

    task = sp.LoaderTask(data, data, lambda m, b: m(b[0]).sum(), score_each=lambda m, b: m(b[0]).argmax(1) == b[1])
    clean = [scored(task, Threshold())]
    stages = []
    (found,) = robustness(
        [Threshold()], task, ["pixelate", "brightness"], SCALE, clean=clean, severities=(1, 5), stage=stages.append
    )
    assert found.clean.value == 1
    assert [score.value for score in found.scores["pixelate"]] == pytest.approx([1, 1], abs=0.05)
    mild, strong = (score.value for score in found.scores["brightness"])
    assert strong < mild < 1
    assert stages[-1] == "corrupting images: brightness, severity 5"


def test_a_task_must_give_a_score():
    task = sp.LoaderTask([], [], lambda m, b: 0, score_all=lambda model: 1.0)
    assert scored(task, nn.Identity()).value == 1
    object.__setattr__(task, "score", lambda model: 3)
    with pytest.raises(UsageError, match=r"must return a sparsify\.Score from score, not int"):
        scored(task, nn.Identity())
