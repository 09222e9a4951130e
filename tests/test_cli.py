import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import passes
from helpers.command import BLOCKS, example, measure_briefly, small_resnet, sparsify, write_model
from rich.console import Console
from safetensors.torch import save_file
from torch import nn

import sparsify as sp
from sparsify import cli, export, job
from sparsify.commands import catalogue
from sparsify.report.quantities import count, share

FACTORY = "from sparsify.demo_net import ResNet\n\n\ndef make():\n    return ResNet((2, 2), (4, 8))\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands run: a model as an archive, and as weights beside their code."""
    path = tmp_path_factory.mktemp("work")
    write_model(path)
    save_file(small_resnet().state_dict(), path / "weights.safetensors")
    torch.save(small_resnet(), path / "pickled.pt")
    (path / "factory.py").write_text(FACTORY)
    return path


@pytest.fixture(autouse=True)
def work(folder, monkeypatch):
    """Run in that folder, and measure latency for no longer than is needed to have a number."""
    monkeypatch.chdir(folder)
    measure_briefly(monkeypatch)


def removed(*words):
    """Run a job that writes nothing but JSON, and return what each pass removed."""
    ran = sparsify(*words, "--json")
    assert (ran.status, ran.err) == (0, "")
    return [step["removed"] for step in json.loads(ran.out)["passes"]]


def test_passes_run_in_order():
    first, second = removed("model.pt2", "--pass", "layer-prune:blocks=layer2.1", "--pass", "layer-prune:count=1")
    assert first == ["layer2.1"]
    assert second[0] in ("layer1.0", "layer1.1")


def test_a_recipe_and_what_the_command_line_changes_in_it(folder):
    (folder / "recipe.yaml").write_text("passes: [layer-prune:criterion=random]\nseed: 4\n")
    report = json.loads(sparsify("model.pt2", "--recipe", "recipe.yaml", "--json").out)
    assert report["recipe"] == {"passes": ["layer-prune:criterion=random"], "seed": 4}
    changed = json.loads(sparsify("model.pt2", "--recipe", "recipe.yaml", "--seed", "0", "--json").out)
    assert changed["recipe"]["seed"] == changed["seed"] == 0
    assert removed("model.pt2", "--recipe", "recipe.yaml", "--pass", "layer-prune:blocks=layer1.1") == [["layer1.1"]]


def test_the_seed_decides_what_is_random():
    chosen = {seed: removed("model.pt2", "--pass", "layer-prune:criterion=random", "--seed", seed) for seed in range(3)}
    assert removed("model.pt2", "--pass", "layer-prune:criterion=random", "--seed", 2) == chosen[2]
    assert len({str(blocks) for blocks in chosen.values()}) > 1


def test_every_form_of_inputs(folder):
    np.savez(folder / "real.npz", images=example().numpy())
    save_file({"images": example()}, folder / "real.safetensors")
    weights = ("weights.safetensors", "--model", "factory.py:make", "--pass", "layer-prune:blocks=layer1.0")
    for spec in ("2x1x8x8", "images:float32[2,1,8,8]"):
        assert removed(*weights, "--inputs", spec) == [["layer1.0"]]
    criterion = ("weights.safetensors", "--model", "factory.py:make", "--pass", "layer-prune:criterion=block-influence")
    assert removed(*criterion, "--inputs", "real.npz") == removed(*criterion, "--inputs", "real.safetensors")
    assert removed(*criterion, "--task", "digits")


def test_a_pickled_module_of_torch_needs_no_trust(folder):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    torch.save(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), folder / "model.pt")
    (gone,) = removed("model.pt", "--inputs", "2x5x8", "--pass", "layer-prune:count=2")
    assert len(gone) == 2


def test_trust_loads_what_was_refused():
    words = ("pickled.pt", "--inputs", "1x1x8x8", "--pass", "layer-prune")
    refused = sparsify(*words)
    assert refused.status == 2
    assert "sparsify.demo_net.ResNet" in refused.err
    assert "--trust" in refused.err
    trusted = sparsify(*words, "--trust")
    assert trusted.status == 0
    assert trusted.out.splitlines()[-1].endswith("--inputs 1x1x8x8 --trust")


def test_what_passes_do_can_be_watched():
    words = ("model.pt2", "--pass", "layer-prune:blocks=layer1.0", "--json")
    everything, one = (sparsify(*words, "--print-after", name) for name in ("all", "layer-prune"))
    assert everything.err == one.err
    assert everything.err.startswith(
        "--- after layer-prune:blocks=layer1.0\n%images: float32[batch, 1, 8, 8] = input\n"
    )
    assert "layer1.0" not in everything.err.partition("\n")[2]
    assert json.loads(everything.out)
    timed = sparsify(*words, "--time-passes").err.splitlines()
    assert [line.split()[1:] for line in timed] == [
        ["s", "layer-prune:blocks=layer1.0", f"({kind})"] for kind in ("transformed", "verified")
    ]


PRUNE = ("model.pt2", "--pass", "layer-prune")
WRONG = {  # words → what the error says
    ("model.pt2",): "Nothing to do: give --pass",
    (*PRUNE, "--frobnicate"): "Unknown option: --frobnicate",
    (*PRUNE, "--seed", "one"): "Invalid value for --seed",
    (*PRUNE, "more"): "one word too many in: sparsify model.pt2 --pass layer-prune more",
    (*PRUNE, "a", "b"): "`sparsify --help` shows what is possible",
    ("inspect", "model.pt2", "more"): "inspect model.pt2 more. `sparsify inspect --help` shows what is possible",
    ("compare", "a.json"): "compare a.json. A report of your own goes behind --run. `sparsify compare --help` shows",
    ("inspekt", "model.pt2"): "'inspekt' is neither a file nor a command (did you mean 'inspect'?)",
    ("gone.pt",): "'gone.pt' is neither a file nor a command",
    ("gone.pt", "--pass", "layer-prune"): "gone.pt cannot be opened: no such file",
    ("factory.py", "--pass", "layer-prune"): "factory.py is no model of a known kind",
    ("model.pt2", "--pass", "layer-prun"): "There is no pass 'layer-prun' (did you mean 'layer-prune'",
    ("model.pt2", "--pass", "layer-prune:count=two"): "count='two' is not a whole number.\n",
    ("model.pt2", "--pass", "layer-prune:count=9"): "9 blocks should go, but only 3 of 4 blocks are removable",
    ("model.pt2", "--pass", "layer-prune:criterion=snip"): "snip needs a loss: give a task (--task digits",
    (*PRUNE[:2], "layer-prune:criterion=oracle", "--inputs", "2x1x8x8"): "oracle needs data, and the example inputs",
    ("weights.safetensors", "--pass", "layer-prune", "--inputs", "1x1x8x8"): "Pass --model package.module:factory",
    ("weights.safetensors", *PRUNE[1:], "--model", "factory.py:make"): "no example inputs",
    (*PRUNE, "--inputs", "2y8"): "The input spec '2y8' cannot be read",
    (*PRUNE, "--task", "digit"): "There is no built-in task 'digit' (did you mean 'digits'?)",
    (*PRUNE, "--retrain", "fine-tune"): "--retrain needs data and a loss: give --task too",
    (*PRUNE, "--max-drop", "0.1"): "--max-drop compares scores: give --task too",
    (*PRUNE, "--max-size", "ten", "-o", "x.pt2"): "--max-size ten: write bytes",
    (*PRUNE, "--max-size", "1MB"): "--max-size looks at what is written: give -o too",
    (*PRUNE, "--min-speedup", "0"): "--min-speedup 0: it must be more than 0",
    (*PRUNE, "--junit", "x.xml"): "--junit says what gates found: give --max-drop, --min-speedup or --max-size",
    (*PRUNE, "-o", "x.pt2", "--max-size", "1MB", "--junit", "no/x.xml"): "the folder no does not exist",
    (*PRUNE, "--print-after", "shrink"): "--print-after shrink: no such pass runs; give all or one of layer-prune",
    (*PRUNE, "-o", "small.tflite"): "use one of .onnx, .pt2, .safetensors",
    (*PRUNE, "-o", "no/small.onnx"): "the folder no does not exist",
    (*PRUNE, "-o", "model.pt2"): "model.pt2 is the model itself, which is never overwritten",
    (*PRUNE, "--report", "report.txt"): "a report is written as .json",
    (*PRUNE, "--recipe", "gone.yaml"): "The recipe gone.yaml cannot be read",
    (*PRUNE, "--device", "abacus"): "abacus",
    ("explain", "layerprune"): "nothing called 'layerprune' (did you mean 'layer-prune'",
    ("inspect", "gone.pt"): "gone.pt cannot be opened",
    ("inspect", "model.pt2", "--html", "groups.txt"): "--html takes the name of an .html file",
    ("inspect", "model.pt2", "--html", "groups.html", "--graph"): "does not go with --graph",
    ("inspect", "gone.pt", "--html", "no/groups.html"): "the folder no does not exist",
}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_use_is_one_paragraph_on_stderr_and_2(words):
    ran = sparsify(*words)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("sparsify: ")
    assert ran.err.count("\n") == 1
    assert WRONG[words] in ran.err


def test_debug_adds_the_traceback():
    assert "Traceback" not in sparsify("gone.pt", *PRUNE[1:]).err
    ran = sparsify("gone.pt", *PRUNE[1:], debug=True)
    assert "Traceback (most recent call last)" in ran.err
    assert ran.err.splitlines()[-1].startswith("sparsify: gone.pt cannot be opened")


def test_a_gate_that_fails_is_1_and_writes_nothing(folder):
    words = ("model.pt2", "--pass", "layer-prune", "--task", "digits", "-o", "gated.safetensors")
    ran = sparsify(*words, "--max-drop", "-1")  # no model gets that much better
    assert ran.status == 1
    assert "FAILED  --max-drop -1: accuracy: " in ran.out
    assert "wrote" not in ran.out
    assert ran.err.startswith("sparsify: A gate failed. --max-drop -1: accuracy: ")
    assert ran.err.endswith(" after). No output was written.\n")
    assert not (folder / "gated.safetensors").exists()
    passed = sparsify(*words, "--max-drop", "1")
    assert passed.status == 0
    assert "passed  --max-drop 1: accuracy: " in passed.out
    assert (folder / "gated.safetensors").exists()


def test_a_gate_that_fails_leaves_json_on_stdout():
    ran = sparsify("model.pt2", "--pass", "layer-prune", "-o", "gated.safetensors", "--max-size", "1kB", "--json")
    assert ran.status == 1
    report = json.loads(ran.out)
    assert [(gate["gate"], gate["passed"]) for gate in report["gates"]] == [
        ("--max-size 1kB: gated.safetensors", False)
    ]
    assert "A gate failed. --max-size 1kB: gated.safetensors: " in ran.err


def test_a_broken_contract_is_3(monkeypatch, folder):
    passes.install(monkeypatch, wrong=passes.ExactEdit(passes.other_values))
    ran = sparsify("model.pt2", "--pass", "wrong", "-o", "wrong.safetensors")
    assert (ran.status, ran.out) == (3, "")
    assert ran.err.startswith("sparsify: wrong: The outputs differ by ")
    assert ran.err.count("\n") == 1
    assert not (folder / "wrong.safetensors").exists()
    assert sparsify("model.pt2", "--pass", "wrong", "--no-verify").out.count("wrong, not verified") == 1


def test_an_export_that_computes_something_else_is_3_and_keeps_the_old_file(monkeypatch, folder):
    (folder / "old.onnx").write_bytes(b"old")
    monkeypatch.setattr(export.onnx.verify, "tolerance", lambda value: -1.0)
    ran = sparsify("model.pt2", "-o", "old.onnx")
    assert (ran.status, ran.out) == (3, "")
    assert "onnxruntime computes another output" in ran.err
    assert (folder / "old.onnx").read_bytes() == b"old"


def test_an_interrupted_retraining_with_a_folder_says_that_the_same_command_goes_on(monkeypatch, folder):
    pressed = iter([True])

    def press(self, event):
        if next(pressed, False):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("sparsify.console.Show.step", press)
    words = ("model.pt2", "--task", "digits", "--retrain", "fine-tune:steps=3it", "--work", "kept")
    ran = sparsify(*words)
    assert (ran.status, ran.out) == (130, "")
    assert ran.err == "sparsify: Interrupted. The same command goes on; kept keeps what was done.\n"
    assert [path.name for path in (folder / "kept").glob("*/*")] == ["step-00000001.ckpt"]
    assert sparsify(*words).status == 0


def test_an_interruption_is_130_and_keeps_the_old_file(monkeypatch, folder):
    before = sorted(folder.iterdir())
    (folder / "old.safetensors").write_bytes(b"old")

    def interrupt(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(export.checkpoint, "_check", interrupt)  # when all is written and being checked
    ran = sparsify(*PRUNE, "-o", "old.safetensors")
    assert (ran.status, ran.out) == (130, "")
    assert ran.err == "sparsify: Interrupted; nothing half-written is left behind.\n"
    assert (folder / "old.safetensors").read_bytes() == b"old"
    assert sorted(folder.iterdir()) == sorted([*before, folder / "old.safetensors"])


def test_a_fault_of_ours_is_70(monkeypatch):
    monkeypatch.setattr(job.Job, "run", lambda self: 1 // 0)
    ran = sparsify(*PRUNE)
    assert (ran.status, ran.out) == (70, "")
    assert ran.err.startswith("sparsify: This is a fault of sparsify, not yours: ZeroDivisionError")
    assert "Traceback" not in ran.err
    assert "Traceback" in sparsify(*PRUNE, debug=True).err


def test_inspect(folder):
    text, verbose = sparsify("inspect", "model.pt2"), sparsify("inspect", "model.pt2", "--json")
    assert text.status == verbose.status == 0
    assert "4 blocks, 3 removable" in text.out
    assert "captured for any batch size" in text.out
    found = json.loads(verbose.out)
    assert [block["name"] for block in found["blocks"]] == BLOCKS
    assert found["cost"]["parameters"] == sum(value.numel() for value in small_resnet().parameters())
    sublayers = sparsify("inspect", "model.pt2", "--json", "--granularity", "sublayer")
    assert len(json.loads(sublayers.out)["blocks"]) == 4


def test_inspect_lists_groups(folder):
    text, found = sparsify("inspect", "model.pt2").out, json.loads(sparsify("inspect", "model.pt2", "--json").out)
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    free = [group for group in found["groups"] if not group["frozen"]]
    assert len(free) == 6
    for group in free:
        kind, size, members, parameters, macs = lines[group["name"]]
        assert (kind, size, members) == (group["kind"], str(group["size"]), str(len(group["members"])))
        assert (parameters, macs) == (count(group["parameters_per_index"]), count(group["macs_per_index"]))
    shares = found["prunable"]
    assert f"{share(shares['parameters'])} of the parameters and {share(shares['macs'])} of the multiply" in text


def test_inspect_draws_a_page(folder):
    ran = sparsify("inspect", "model.pt2", "--html", "groups.html")
    assert (ran.status, ran.err, ran.out.splitlines()[-1]) == (0, "", "wrote groups.html")
    assert (folder / "groups.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    quiet = sparsify("inspect", "model.pt2", "--html", "again.html", "--json")
    assert json.loads(quiet.out)["prunable"]
    assert (folder / "again.html").read_bytes() == (folder / "groups.html").read_bytes()


def test_inspect_prints_the_graph():
    lines = sparsify("inspect", "model.pt2", "--graph").out.splitlines()
    assert lines[0] == "%images: float32[batch, 1, 8, 8] = input"
    assert lines[-1] == "return [%linear]"


def test_help_and_version():
    assert sparsify("--version").out == f"{sp.__version__}\n"
    text = sparsify("--help").out
    assert "Usage: sparsify" in text
    for word in ("--pass", "--recipe", "--retrain", "--task", "--inputs", "--max-drop", "--junit", "inspect", "demo"):
        assert word in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_terminal(width, monkeypatch):
    for module in (cli, catalogue):
        monkeypatch.setattr(module, "out", Console(width=width))
    for words in (("inspect", "model.pt2"), ("passes",), ("criteria",), ("explain", "fine-tune"), PRUNE):
        lines = sparsify(*words).out.splitlines()
        assert [line for line in lines if len(line.rstrip()) > width and not line.startswith("again: ")] == []


def test_colour_only_where_it_is_wanted(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(cli, "out", Console(force_terminal=True, color_system="standard"))
    assert "\x1b[32m" in sparsify("inspect", "model.pt2").out
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(cli, "out", Console(force_terminal=True, color_system="standard"))
    assert "\x1b[32m" not in sparsify("inspect", "model.pt2").out


HEAVY = ("torch", "onnx", "onnxruntime", "networkx", "numpy", "sklearn", "yaml", "jinja2")
SCRIPT = f"""
import sys
from sparsify.cli import main
for words in (["--help"], ["passes"], ["criteria", "--json"], ["explain", "snip"], ["--version"], []):
    try:
        main(words)
    except SystemExit as leave:
        assert leave.code == 0, (words, leave.code)
found = [name for name in {HEAVY} if name in sys.modules]
assert not found, found
"""


def test_looking_around_imports_nothing_heavy():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)


def test_the_real_command_leaves_with_its_status():
    words = [sys.executable, "-m", "sparsify", "gone.pt", "--pass", "layer-prune"]
    ran = subprocess.run(words, check=False, capture_output=True, text=True, env={**os.environ, "COLUMNS": "40"})
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "sparsify: gone.pt cannot be opened: no such file.\n"
