"""The console: JSON on stdout and nothing else, progress on stderr and only in a terminal."""

import io
import json

import pytest
from rich.console import Console

from sparsify import console


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
