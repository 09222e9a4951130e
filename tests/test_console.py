"""The console: JSON on stdout and nothing else, progress on stderr and only in a terminal."""

import io
import json

import pytest
from rich.console import Console

from sparsify import console
from sparsify.training.watch import StepEvent


@pytest.fixture
def screen(monkeypatch):
    """A terminal in the place of stderr."""
    held = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=held, force_terminal=True, width=80))
    return held


def test_json_is_printed_as_it_is(capsys):
    value = {"a": [1, 0.5, None, True], "names": "[red]layer[/red] é", "long": "x" * 300}
    console.print_json(value)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == value
    assert printed.out.endswith("\n}\n")
    assert printed.err == ""
    assert "x" * 300 in printed.out  # no line is broken to fit a terminal


def test_results_and_errors_go_where_the_streams_point_now(capsys):
    console.out.print("result")
    console.err.print("error")
    assert capsys.readouterr() == ("result\n", "error\n")


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    with console.progress() as show:
        show("loading")
    assert capsys.readouterr() == ("", "")


def test_progress_moves_in_a_terminal_and_leaves_nothing_on_stdout(screen, capsys):
    with console.progress() as show:
        show("loading [bold]model.pt2[/bold]")
        console.err.print("between")
    text = screen.getvalue()
    assert "loading [bold]model.pt2[/bold]" in text
    assert "between" in text
    assert capsys.readouterr().out == ""


def work():
    with console.progress() as show:
        show("working")
        raise ValueError("no")


def test_an_error_passes_through_and_the_terminal_is_free_again(screen):
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            work()


def event(step: int, done: int, **more) -> StepEvent:
    return StepEvent(step, 20, 0.25, 0.1, 1.0, None, steps_done=done, steps_of_all=40, **more)


def test_a_training_is_shown_with_its_round_and_a_bar_of_all_trainings(screen):
    with console.progress() as show:
        show.step(event(10, 30, training="round-1", density=0.25, score=0.5))
        drawn = io.StringIO()
        Console(file=drawn, width=80).print(show)
        show.step(event(20, 40))
        after = io.StringIO()
        Console(file=after, width=80).print(show)
    assert "round 1 · step 10 of 20 · loss 0.250 · score 0.5000 · 75.0% sparse" in drawn.getvalue()
    assert "75%" in drawn.getvalue()
    assert "%" not in after.getvalue()  # the bar goes with the last step


def test_what_an_earlier_process_did_does_not_speed_up_the_estimate(screen):
    with console.progress() as show:
        show.step(event(10, 30))
        (bar,) = show._bar.tasks
        assert (bar.completed, bar.total) == (30, 40)
        assert bar.time_remaining is None or bar.time_remaining > 0
