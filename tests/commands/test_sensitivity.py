"""`sparsify sensitivity`: a table, a file that goes on, a page; and what is refused before anything is written."""

import json
import shutil

import numpy as np
import pytest
from helpers.command import example, sparsify, write_model
from helpers.drawings import Page
from rich.console import Console

from sparsify.commands import sensitivity as sensitivity_command
from sparsify.report.heat import cell
from sparsify.sensitivity import read_scan, write_scan

DIGITS = ("--task", "digits")
TASK = (*DIGITS, "--sparsities", "0.5,0.9", "--batches", 1)
LAYERS = ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2", "layer2.0.conv1",
          "layer2.0.conv2", "layer2.0.shortcut.0", "layer2.1.conv1", "layer2.1.conv2", "fc"]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def folder(model, tmp_path, monkeypatch):
    """Where the command runs, with a model."""
    shutil.copy(model, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_prints_a_table_and_writes_the_scan(folder):
    ran = sparsify("sensitivity", "model.pt2", *TASK)
    assert (ran.status, ran.err) == (0, "")
    found = read_scan(folder / "sensitivity.json")
    assert [name.removesuffix(".weight") for name in found.layers] == LAYERS
    assert (found.unit, found.criterion, found.sparsities, found.batches) == ("weights", "magnitude", (0.5, 0.9), 1)
    head, *lines = ran.out.splitlines()
    assert head.split() == ["layer", "weights", "0.5", "0.9"]
    for line, (name, values) in zip(lines, found.layers.items(), strict=False):
        assert line.split() == [name.removesuffix(".weight"), str(found.sizes[name]), *map(cell, values)]
    assert "rise of the loss when so much of the weights of each layer goes" in ran.out
    assert lines[-1] == "wrote sensitivity.json"
    assert sorted(path.name for path in folder.iterdir()) == ["model.pt2", "sensitivity.json"]


def test_json_is_all_that_is_printed_and_what_the_file_holds(folder):
    ran = sparsify("sensitivity", "model.pt2", *TASK, "--json", "--html", "heat.html", "-o", "scan.json")
    assert (ran.status, ran.err) == (0, "")
    assert json.loads(ran.out) == json.loads((folder / "scan.json").read_text())
    assert (folder / "heat.html").exists()


def test_the_page_has_a_row_for_each_layer(folder):
    ran = sparsify("sensitivity", "model.pt2", *TASK, "--html", "heat.html")
    assert ran.out.splitlines()[-2:] == ["wrote sensitivity.json", "wrote heat.html"]
    page = Page((folder / "heat.html").read_text("utf-8"))
    assert [text for held, text in page.all("th") if held["scope"] == "row"] == LAYERS
    assert page.all("h1")[0][1] == "model.pt2: sensitivity"


def test_the_same_command_goes_on_where_the_file_ends(folder):
    words = ("sensitivity", "model.pt2", *TASK)
    first = sparsify(*words)
    path = folder / "sensitivity.json"
    whole = json.loads(path.read_text())
    kept = list(whole["layers"])[:4]
    marked = {name: [123.0, 456.0] for name in kept}  # a value that no measurement gives: these are not done again
    part = {"layers": marked, "sizes": {name: whole["sizes"][name] for name in kept}}
    path.write_text(json.dumps({**whole, **part}))
    assert sparsify(*words).status == 0
    assert json.loads(path.read_text())["layers"] == {**whole["layers"], **marked}
    path.write_text(json.dumps(whole))
    assert sparsify(*words).out == first.out


def test_an_interruption_keeps_what_is_done(folder, monkeypatch):
    def interrupt(path, found):
        write_scan(path, found)
        if len(found.layers) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("sparsify.sensitivity.write_scan", interrupt)
    assert sparsify("sensitivity", "model.pt2", *TASK).status == 130
    part = read_scan(folder / "sensitivity.json")
    assert len(part.layers) == 2
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert sparsify("sensitivity", "model.pt2", *TASK).status == 0
    whole = read_scan(folder / "sensitivity.json")
    assert len(whole.layers) == len(LAYERS)
    assert {name: whole.layers[name] for name in part.layers} == part.layers


def test_only_some_layers(folder):
    ran = sparsify("sensitivity", "model.pt2", *TASK, "--only", "fc,layer1.*.conv1", "--json")
    assert list(json.loads(ran.out)["layers"]) == ["layer1.0.conv1.weight", "layer1.1.conv1.weight", "fc.weight"]


def test_channels_and_a_criterion_and_then_the_pruning_that_follows_the_scan(folder):
    words = ("--unit", "channels", "--criterion", "filter-norm/p=1", "-o", "channels.json")
    ran = sparsify("sensitivity", "model.pt2", *TASK, *words)
    assert ran.status == 0
    assert ran.out.splitlines()[0].split() == ["group", "channels", "0.5", "0.9"]
    assert "the lowest by filter-norm/p=1 first" in " ".join(ran.out.split())
    pruned = sparsify("model.pt2", "--pass", "channel-prune:table=channels.json,macs=0.6", "--json")
    assert json.loads(pruned.out)["passes"][0]["reached"] == pytest.approx(0.6, abs=0.05)


def test_weights_are_pruned_by_the_scan_to_the_exact_number():
    assert sparsify("sensitivity", "model.pt2", *TASK).status == 0
    spec = "weight-prune:allocation=table,table=sensitivity.json,sparsity=0.8"
    record = json.loads(sparsify("model.pt2", "--pass", spec, "--json").out)["passes"][0]
    assert record["pruned"] == round(0.8 * record["weights"])


def test_without_a_task_the_inputs_are_the_data(folder):
    np.savez(folder / "real.npz", images=example().numpy())
    ran = sparsify("sensitivity", "model.pt2", "--inputs", "real.npz", "--sparsities", "0.5")
    assert ran.status == 0
    assert "relative change of the output" in ran.out


def test_it_fits_the_terminal(monkeypatch):
    monkeypatch.setattr(sensitivity_command, "out", Console(width=80))
    ran = sparsify("sensitivity", "model.pt2", "--task", "digits", "--batches", 1)
    assert ran.out.splitlines()[0].split()[2:] == ["0.3", "0.5", "0.6", "0.7", "0.8", "0.9", "0.95", "0.98"]
    assert all(len(line.rstrip()) <= 80 for line in ran.out.splitlines())


WRONG = {  # words → what the error says
    ("model.pt2", *DIGITS, "--sparsities", "half"): "--sparsities half: write fractions such as 0.5,0.8,0.9.",
    ("model.pt2", *DIGITS, "--sparsities", "0.9,0.5"): "rise between 0 and 1; got 0.9, 0.5",
    ("model.pt2", *DIGITS, "--sparsities", "0.5,1"): "rise between 0 and 1; got 0.5, 1.0",
    ("model.pt2", *DIGITS, "--sparsities", "nan"): "rise between 0 and 1; got nan",
    ("model.pt2", *DIGITS, "--sparsities", ","): "rise between 0 and 1; got none",
    ("model.pt2", *DIGITS, "--batches", "0"): "at least one batch, not 0",
    ("model.pt2", *DIGITS, "--batches", "-2"): "at least one batch, not -2",
    ("model.pt2", *TASK, "--html", "heat.txt"): "--html takes the name of an .html file",
    ("model.pt2", *TASK, "--html", "no/heat.html"): "the folder no does not exist",
    ("model.pt2", *TASK, "-o", "no/scan.json"): "the folder no does not exist",
    ("model.pt2", *TASK, "-o", "model.pt2"): "model.pt2 is no scan",
    ("model.pt2", *TASK, "--criterion", "magnitudo"): "no criterion 'magnitudo' (did you mean 'magnitude'?)",
    ("model.pt2", *TASK, "--criterion", "apoz"): "apoz scores channels, not weights",
    ("model.pt2", *TASK, "--unit", "channels", "--criterion", "magnitudo"): "did you mean 'magnitude'?",
    ("model.pt2", *TASK, "--unit", "blocks"): 'Choose from: "weights", "channels"',
    ("model.pt2", *TASK, "--only", "fd"): "only=fd matches no parameter",
    ("model.pt2", *TASK, "--unit", "channels", "--only", "fd"): "no group of channels to scan",
    ("model.pt2", "--task", "digit"): "did you mean 'digits'?",
    ("model.pt2", "--inputs", "2x1x8x8"): "the example inputs are random. Give a task",
    ("gone.pt2",): "gone.pt2 cannot be opened: no such file",
    (): "MODEL requires an argument",
}


@pytest.mark.parametrize("words", WRONG, ids=lambda words: " ".join(map(str, words)))
def test_wrong_use_is_one_paragraph_and_2_and_writes_nothing(words, folder):
    before = (folder / "model.pt2").read_bytes()
    ran = sparsify("sensitivity", *words)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("sparsify: ")
    assert ran.err.count("\n") == 1
    assert WRONG[words] in ran.err
    assert [path.name for path in folder.iterdir()] == ["model.pt2"]
    assert (folder / "model.pt2").read_bytes() == before


def test_a_file_of_another_scan_is_refused_and_kept(folder):
    assert sparsify("sensitivity", "model.pt2", *TASK).status == 0
    before = (folder / "sensitivity.json").read_bytes()
    ran = sparsify("sensitivity", "model.pt2", *TASK, "--seed", 1)
    assert (ran.status, ran.out) == (2, "")
    assert "another model, task or setting. Remove it, or name another with -o" in ran.err
    assert (folder / "sensitivity.json").read_bytes() == before
    (folder / "sensitivity.json").write_text("{")
    assert "sensitivity.json is no scan" in sparsify("sensitivity", "model.pt2", *TASK).err
    assert (folder / "sensitivity.json").read_text() == "{"


def test_help_names_all_options():
    text = sparsify("sensitivity", "--help").out
    for word in ("--unit", "--criterion", "--sparsities", "--only", "--batches", "--seed", "-o", "--html", "--json"):
        assert word in text
