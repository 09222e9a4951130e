"""`sparsify compare`: published results, filtered, with tables and runs of one's own."""

import json
import subprocess
import sys

import pytest
from helpers.command import sparsify
from helpers.published import write_report, write_table


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_results_are_chosen_and_shown_with_sources():
    ran = sparsify("compare", "--architecture", "ResNet50", "--data", "imagenet", "--method", "RigL")
    assert (ran.status, ran.err) == (0, "")
    assert "ResNet-50 on ImageNet: accuracy in % (higher is better)" in ran.out
    assert "73.00  76.80   -3.80  2020" in ran.out
    assert "arXiv:1911.11134" in ran.out
    assert "magnitude" not in ran.out


def test_tables_and_runs_of_ones_own_are_added(folder):
    write_table(folder / "mine.csv", {"architecture": "MyNet"})
    write_report(folder / "report.json")
    words = ("compare", "--table", "mine.csv", "--run", "report.json", "--architecture", "MyNet")
    shown = sparsify(*words)
    assert shown.status == 0, shown.err
    assert "MyNet on ImageNet" in shown.out
    assert "report.json" in shown.out
    found = json.loads(sparsify(*words, "--json").out)
    ((one,), (run,)) = found["published"], found["runs"]
    assert (one["method"], one["sparsity"], one["macs_removed"], one["change"]) == ("Sieve", 0.9, None, -2.0)
    assert (run["name"], run["score"], run["dense_score"], run["change"]) == ("report.json", 75.0, 80.0, -5.0)


def test_a_picture_is_written(folder):
    write_report(folder / "report.json")
    write_report(folder / "none.json", scores=None)
    words = ("--architecture", "ResNet-56", "--run", "report.json", "--run", "none.json", "--plot", "x.png")
    ran = sparsify("compare", *words)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.endswith("note: none.json is not in the picture, which has no scores of its kind.\nwrote x.png\n")
    assert (folder / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--architecture", "NoNet"], "--architecture NoNet: no result has that"),
        (["--table", "none.csv"], "none.csv cannot be read as a table: No such file"),
        (["--run", "none.json"], "none.json cannot be read as a report: No such file"),
        (["--plot", "x.jpg"], "x.jpg: the picture is a .png file"),
        (["--plot", "no/x.png"], "the folder no does not exist"),
        (["--plot", "x.png"], "Choose a network and data with --architecture and --data"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(folder, words, message):
    ran = sparsify("compare", *words)
    assert ran.status == 2
    assert message in ran.err
    assert ran.out == ""
    assert not list(folder.iterdir())


def test_torch_is_not_imported():
    code = (
        "import sys; from sparsify.cli import _run; _run(['compare', '--json'], False); "
        "sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
