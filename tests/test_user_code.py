import sys

import pytest

from sparsify.errors import UsageError
from sparsify.user_code import load_object, make

MINE = """
from __future__ import annotations
from dataclasses import dataclass
from neighbour_of_user_code import answer

@dataclass
class Thing:
    value: int = answer
"""


@pytest.fixture(autouse=True)
def _own_path(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)


def test_a_file_may_import_its_neighbours_and_hold_dataclasses(tmp_path):
    (tmp_path / "neighbour_of_user_code.py").write_text("answer = 42\n")
    (tmp_path / "mine.py").write_text(MINE)
    assert load_object(f"{tmp_path}/mine.py:Thing", "thing")().value == 42


def test_a_changed_file_is_read_again(tmp_path):
    (tmp_path / "mine.py").write_text("x = 1\n")
    assert load_object("mine.py:x", "thing") == 1
    (tmp_path / "mine.py").write_text("x = 1 + 1\n")
    assert load_object("mine.py:x", "thing") == 2


def test_a_module_is_found_in_the_working_directory(tmp_path):
    (tmp_path / "package_of_user").mkdir()
    (tmp_path / "package_of_user" / "module.py").write_text("x = 1\n")
    assert load_object("package_of_user.module:x", "thing") == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "not of the form"),
        ("file.py:", "not of the form"),
        ("absent.py:make", r"thing file absent\.py does not exist"),
        ("no_such_package_here:make", "module no_such_package_here cannot be imported: ModuleNotFoundError"),
        ("broken.py:make", r"broken\.py cannot be imported: ZeroDivisionError: .*broken\.py, line 2"),
        ("syntax.py:make", r"syntax\.py cannot be imported: SyntaxError"),
        ("good.py:mkae", "good.py has no 'mkae' .did you mean 'make'"),
    ],
)
def test_errors_say_what_and_where(tmp_path, spec, message):
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\n")
    (tmp_path / "syntax.py").write_text("x =\n")
    (tmp_path / "good.py").write_text("def make(): ...\n")
    with pytest.raises(UsageError, match=message):
        load_object(spec, "thing")


def test_a_failing_factory_is_named_with_its_line(tmp_path):
    (tmp_path / "mine.py").write_text("def make():\n    raise OSError('no data')\n")
    with pytest.raises(UsageError, match=r"'mine\.py:make' could not be made: OSError: no data .*mine\.py, line 2"):
        make(load_object("mine.py:make", "thing"), "mine.py:make", "thing")
