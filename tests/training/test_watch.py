"""A watch ends a training, changes nothing before, and remembers what it saw when the training goes on elsewhere."""

from types import SimpleNamespace

import pytest
import torch
from helpers.sparse import Clusters, program_of

from sparsify.training.checkpoints import Checkpoints
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions
from sparsify.training.work import Work

OPTIONS = TrainOptions(steps="20it", learning_rate=0.05)


class EndsAt:
    """Ends a training behind a step, and lists the steps that it saw."""

    def __init__(self, step):
        self.step, self.seen = step, []

    @property
    def ended(self):
        return bool(self.seen) and self.seen[-1] >= self.step

    def look(self, event):
        self.seen.append(event.step)

    def state(self):
        return {"seen": list(self.seen)}

    def load_state(self, state):
        self.seen = list(state["seen"])


def same(one, other):
    return all(torch.equal(value, other.parameters[name]) for name, value in one.parameters.items())


def test_up_to_its_end_a_training_is_what_it_would_be_without():
    watch = EndsAt(7)
    ended = train(program_of(), Clusters(), OPTIONS, watch=watch)
    plain = train(program_of(), Clusters(), OPTIONS, span=(0, 7))
    assert watch.seen == list(range(1, 8))
    assert ended.losses == plain.losses
    assert same(ended.program, plain.program)


def test_one_that_never_ends_it_sees_every_step():
    watch = EndsAt(100)
    assert len(train(program_of(), Clusters(), OPTIONS, watch=watch).losses) == 20
    assert watch.seen[-1] == 20


@pytest.mark.parametrize("stopped_at", [3, 9])
def test_what_it_saw_is_kept_in_checkpoints(tmp_path, stopped_at):
    whole = train(program_of(), Clusters(), OPTIONS, watch=EndsAt(9))
    store = Checkpoints(tmp_path / "c", seconds=0)

    def stop(event):
        if event.step == stopped_at + 1 or (stopped_at == event.step == 9):
            raise SystemExit

    with pytest.raises(SystemExit):
        train(program_of(), Clusters(), OPTIONS, watch=EndsAt(9), checkpoints=store, on_step=stop)
    again = EndsAt(9)
    found = train(program_of(), Clusters(), OPTIONS, watch=again, checkpoints=store)
    assert again.seen == list(range(1, 10))
    assert found.losses == whole.losses
    assert same(found.program, whole.program)


def test_a_training_that_had_ended_when_it_was_kept_does_not_go_on(tmp_path):
    store = Checkpoints(tmp_path / "c", seconds=0)
    ended = train(program_of(), Clusters(), OPTIONS, watch=EndsAt(9), checkpoints=store)
    steps = []
    found = train(program_of(), Clusters(), OPTIONS, watch=EndsAt(9), checkpoints=store, on_step=steps.append)
    assert steps == []
    assert found.losses == ended.losses


def test_a_finished_training_tells_what_was_seen(tmp_path):
    work = Work(tmp_path / "w", {"a": 1})
    work.train("one", program_of(), Clusters(), OPTIONS, seed=0, watch=EndsAt(5))
    work.close()
    again = EndsAt(5)
    work = Work(tmp_path / "w", {"a": 1})
    found = work.train("one", program_of(), Clusters(), OPTIONS, seed=0, watch=again)
    assert len(found.losses) == 5
    assert SimpleNamespace(seen=again.seen, ended=again.ended) == SimpleNamespace(seen=[1, 2, 3, 4, 5], ended=True)
