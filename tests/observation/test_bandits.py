import pytest
import torch
from helpers.regression import Regression
from helpers.residual import mlp

from sparsify.axes import axes
from sparsify.groups import groups_of
from sparsify.observation.bandits import PULLS, Arms, play, source
from sparsify.observation.calibration import Calibration
from sparsify.observation.signals import group_signals
from sparsify.observation.subject import Subject


def subject_of(program, task, **options):
    found = axes(program)
    signals = group_signals(found, [g for g in groups_of(found) if not g.frozen])
    return Subject(program, Calibration(task, **options), (), signals)


def test_arms_know_means_deviation_and_extremes():
    arms = Arms(2, source(0, "a"))
    for arm, damage in [(0, 1.0), (1, 4.0), (0, 3.0)]:
        arms.note(arm, damage)
    assert arms.means.tolist() == [2.0, 4.0]
    assert arms.deviation == pytest.approx(torch.tensor([1.0, 4.0, 3.0]).std(correction=0).item())
    assert (arms.lowest, arms.highest) == (1.0, 4.0)


def test_every_arm_is_pulled_before_the_strategy_is_asked():
    arms = Arms(5, source(0, "a"))
    assert sorted(arms.next(lambda arms: 99) for _ in range(5)) == [0, 1, 2, 3, 4]
    assert arms.next(lambda arms: 99) == 99


def test_the_budget_is_a_number_of_pulls_for_each_arm():
    _, program = mlp()
    pulled = []

    def choose(arms):
        pulled.append(int(arms.pulls.sum()))
        return 0

    play(subject_of(program, Regression()), choose)
    sizes = [4, 6, 6, 6]
    assert len(pulled) == sum((PULLS - 1) * size for size in sizes)


def test_pulls_go_through_all_batches():
    _, program = mlp()
    task = Regression(count=4)
    play(subject_of(program, task, batches=3), lambda arms: 0)
    assert task.asked == PULLS * 6  # of the largest group; the others take their pulls on the same batches


def test_an_arm_of_one_pull_has_the_damage_of_that_batch():
    _, program = mlp()
    found = play(subject_of(program, Regression(count=1)), lambda arms: 3)
    again = play(subject_of(program, Regression(count=1)), lambda arms: 0)
    for key, means in found.items():
        torch.testing.assert_close(means, again[key])  # with a single batch every pull of an arm is the same


def test_sources_of_groups_differ_and_repeat():
    def draw(seed, key):
        return torch.rand(3, generator=source(seed, key)).tolist()

    assert draw(0, "a") == draw(0, "a")
    assert draw(0, "a") != draw(0, "b")
    assert draw(0, "a") != draw(1, "a")


def test_no_groups_need_no_data():
    _, program = mlp()
    task = Regression()
    assert play(Subject(program, Calibration(task)), lambda arms: 0) == {}
    assert task.asked == 0
