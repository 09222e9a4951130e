import pytest
import torch
from helpers.regression import Regression
from helpers.residual import mlp
from torch import nn

import sparsify as sp
from sparsify import registry
from sparsify.criteria import Criterion
from sparsify.criteria.magnitude import Magnitude
from sparsify.criteria.snip import Snip
from sparsify.errors import PassError, UsageError
from sparsify.observation.calibration import Calibration
from sparsify.pruning.choice import chosen, made


def test_a_name_makes_the_criterion():
    assert made("magnitude") == Magnitude()
    assert type(made("block-influence")).__name__ == "BlockInfluence"


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"There is no criterion 'magnitud'.*magnitude"):
        made("magnitud")


def test_an_option_that_it_does_not_have_is_refused():
    with pytest.raises(UsageError, match="magnitude"):
        made("magnitude/colour=red")


def test_options_follow_after_slashes(tmp_path, monkeypatch):
    folder = tmp_path / "own_criteria"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "scaled.py").write_text(
        '"""Scaled."""\n'
        "from dataclasses import dataclass\n"
        "from sparsify.criteria import Criterion\n"
        "@dataclass(frozen=True)\n"
        "class Scaled(Criterion):\n"
        '    """Scaled.\n\n    Options:\n        by: a factor.\n        plus: a number.\n    """\n'
        "    by: float = 1.0\n"
        "    plus: int = 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sparsify.pruning.choice._PACKAGE", "own_criteria")
    found = made("scaled/by=0.5/plus=3")
    assert (found.by, found.plus) == (0.5, 3)
    assert made("scaled/plus=2").by == 1.0
    with pytest.raises(UsageError, match="plus"):
        made("scaled/plus=many")


def test_every_criterion_can_be_made_and_says_what_it_scores():
    for name, entry in registry.entries("sparsify.criteria").items():
        found = made(name)
        assert isinstance(found, Criterion)
        assert set(entry.scores or found.scores) == set(found.scores) <= {"weights", "channels", "blocks"}
        for scope, method in (("weights", "weight"), ("channels", "channel")):
            if scope in found.scores:
                names = {method, "weight"}
                assert any(getattr(type(found), own) is not getattr(Criterion, own) for own in names), name


def test_a_criterion_that_scores_something_else_is_refused_with_those_that_fit():
    _, program = mlp()
    with pytest.raises(PassError, match=r"oracle scores blocks, not channels\. Those that score channels: .*magnitude"):
        chosen("oracle", "channels", program, Calibration(Regression()))


def test_a_criterion_that_needs_a_loss_is_refused_without_a_task():
    _, program = mlp()
    with pytest.raises(PassError, match="snip needs a loss"):
        chosen("snip", "weights", program, Calibration(None))
    assert chosen("snip", "weights", program, Calibration(Regression())) == Snip()


def test_a_criterion_that_needs_inputs_is_refused_on_random_ones():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    program = sp.capture(model, (torch.randn(2, 3),))
    assert chosen("wanda", "weights", program, Calibration(None))
    program = program.with_example(program.example.args, program.example.kwargs, synthetic=True)
    with pytest.raises(PassError, match="wanda needs data, and the example inputs are random"):
        chosen("wanda", "weights", program, Calibration(None))
    assert chosen("magnitude", "weights", program, Calibration(None))
