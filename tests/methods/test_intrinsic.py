"""intrinsic: d trained values, and the search for the d that is enough."""

import pytest
import torch
from helpers.sparse import Clusters, program_of

import sparsify as sp
from sparsify.embedding import embedded_names, folded
from sparsify.errors import OptionError, PassError, UsageError
from sparsify.methods.intrinsic import Intrinsic, smallest
from sparsify.training.work import Work


@pytest.mark.parametrize("least", [1, 2, 4, 5, 7, 11, 13])
def test_the_search_finds_the_smallest_that_is_enough(least):
    grid, asked = list(range(1, 14)), list[int]()

    def enough(number):
        asked.append(number)
        return number >= least

    assert smallest(grid, enough) == least
    assert len(asked) == len(set(asked)) <= 4 + 2
    assert smallest(grid, lambda number: False) is None


def test_one_dimension_is_trained_and_nothing_else():
    program = program_of()
    result = sp.retrain(program, "intrinsic:dimension=20,steps=8it", Clusters())
    after = result.program
    assert list(after.parameters) == ["coordinates"]
    assert after.parameters["coordinates"].shape == (20,)
    total = sum(value.numel() for value in program.parameters.values())
    record = result.report["retrain"]
    assert record["parameters"] == total
    assert record["dimensions"] == [{"dimension": 20, "score": result.report["score"]}]
    plain = folded(after)
    step = torch.cat([(plain.parameters[n] - program.parameters[n]).flatten() for n in embedded_names(after)])
    length = float(after.parameters["coordinates"].norm()) * (total / 20) ** 0.5
    assert float(step.norm()) == pytest.approx(length, rel=1e-4)


def test_biases_stay_where_only_weights_move():
    program = program_of()
    after = sp.retrain(program, "intrinsic:dimension=20,steps=4it,over=weights", Clusters()).program
    for name in (name for name in program.parameters if name.endswith("bias")):
        assert torch.equal(after.parameters[name], program.parameters[name])
        assert after.parameters[name].requires_grad
    assert set(embedded_names(after)) == {name for name in program.parameters if name.endswith("weight")}


def test_the_search_reports_what_it_tried_and_goes_on_where_it_was_stopped(tmp_path):
    method = Intrinsic(steps="30it", low=2, ratio=2.0, learning_rate=0.05)
    events = []
    first = method.retrain(program_of(), Clusters(), seed=1, work=Work(tmp_path, {}))
    record = first.record
    scores = {item["dimension"]: item["score"] for item in record["dimensions"]}
    assert record["d90"] in scores
    assert record["baseline"] > 0.5
    assert record["start"] == Clusters().score(program_of().module()).value
    assert scores[record["d90"]] >= 0.9 * record["baseline"]
    assert all(score < 0.9 * record["baseline"] for d, score in scores.items() if d < record["d90"])
    assert first.program.parameters["coordinates"].shape == (record["d90"],)
    again = method.retrain(program_of(), Clusters(), seed=1, work=Work(tmp_path, {}, on_step=events.append))
    assert again.record == record
    assert not events


def test_where_nothing_is_enough_it_says_so():
    class BestAtFirst(Clusters):
        """The baseline, which is scored first, is better than all that come."""

        asked = 0

        def score(self, model):
            BestAtFirst.asked += 1
            return sp.Score(1.0 if BestAtFirst.asked == 1 else 0.5, "accuracy", 8)

    told = []
    method = Intrinsic(steps="1it", low=2, ratio=30.0)
    trained = method.retrain(program_of(), BestAtFirst(), seed=0, work=Work(listeners=(told.append,)))
    assert trained.record["d90"] is None
    assert any("No dimension up to" in event.get("text", "") for event in told)


@pytest.mark.parametrize("method", ["intrinsic:steps=0it", "intrinsic:steps=2it,learning_rate=0.000001"])
def test_chance_is_no_intrinsic_dimension(method):
    with pytest.raises(OptionError, match=r"before a step is trained the score is 0\.\d+, and reach=0.9 of the 0\.\d+"):
        sp.retrain(program_of(), method, Clusters())


def test_a_model_that_is_trained_already_has_none_either():
    trained = sp.retrain(program_of(), "fine-tune:steps=80it", Clusters()).program
    with pytest.raises(OptionError, match=r"no dimension is needed.*--pass redraw"):
        sp.retrain(trained, "intrinsic:steps=10it", Clusters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimension": 0}, "dimension=0 is less than 1"),
        ({"low": 0}, "low=0 is less than 1"),
        ({"reach": 1.5}, r"reach=1.5 is not in \(0, 1\]"),
        ({"ratio": 1.0}, "ratio=1.0 is not above 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Intrinsic(**options)


def test_more_dimensions_than_parameters_are_refused():
    with pytest.raises(PassError, match=r"dimension=1000000 is not between 1 and"):
        sp.retrain(program_of(), "intrinsic:dimension=1000000,steps=1it", Clusters())
