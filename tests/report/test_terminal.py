import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from sparsify import registry
from sparsify.blocks import Block
from sparsify.cost import Cost
from sparsify.inspection import Inspection
from sparsify.prunable import Prunable
from sparsify.report import terminal

BEFORE = {"median": 0.0275, "low": 0.0272, "high": 0.0293, "runs": 500, "threads": 2, "batch": 1}
AFTER = {**BEFORE, "median": 0.0231, "low": 0.0229, "high": 0.0239}
SPEED = {"ratio": 1.19, "low": 1.17, "high": 1.21, "verdict": "faster"}
COMMAND = "sparsify model.pt --pass layer-prune:count=2 --pass shrink --pass later --task digits -o out/small.onnx"
REPORT = {
    "before": {"parameters": 25_557_032, "nonzero": 25_550_000, "macs": 4_089_184_256, "bytes": 102_000_000},
    "after": {"parameters": 20_445_625, "nonzero": 20_440_000, "macs": 3_267_184_256, "bytes": 82_000_000},
    "passes": [
        {"pass": "layer-prune:count=2", "removed": ["layer2.1", "layer3.4"], "contract": "lossy"},
        {"pass": "shrink", "contract": "exact"},
        {"pass": "later"},
    ],
    "artefacts": [
        {"path": "out/small.onnx", "bytes": 81_800_000, "largest_difference": 1.2e-7},
        {"path": "out/small.pt2", "bytes": 81_800_000, "largest_difference": 0.0},
        {"path": "out/small.safetensors", "bytes": 81_800_000},
    ],
    "macs_batch": 1,
    "latency": {"before": BEFORE, "after": AFTER, "dense_bytes": 102_200_000, "bytes": 81_800_000, "speed": SPEED},
    "scores": {
        "before": {"value": 0.9867, "name": "accuracy", "n": 450, "interval": (0.971, 0.994)},
        "pruned": {"value": 0.91, "name": "accuracy", "n": 450, "interval": (0.88, 0.93)},
        "after": {"value": 0.9711, "name": "accuracy", "n": 450, "interval": (0.951, 0.983)},
    },
    "notes": ["The model fixes its batch size: the program only runs at the batch size of the example."],
    "gates": [],
    "command": COMMAND,
}


def printed(width, function, *args):
    file = io.StringIO()
    function(Console(file=file, width=width), *args)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def test_a_report():
    assert printed(80, terminal.print_report, REPORT) == (
        """\
                              before         after        change
parameters                    25.56M        20.45M        -20.0%
non-zeros                     25.55M        20.44M        -20.0%
MACs (batch 1)                 4.09G         3.27G        -20.1%
ONNX file                  97.47 MiB     78.01 MiB        -20.0%
latency                      27.5 µs       23.1 µs  1.19x faster
  quartiles             27.2-29.3 µs  22.9-23.9 µs    1.17-1.21x
accuracy, after passes        0.9867        0.9100       -0.0767
accuracy                      0.9867        0.9711       -0.0156
  95% interval           0.971-0.994   0.951-0.983       n = 450
Latency in onnxruntime on 2 threads, batch 1: median of 500 runs, in turns with
the model before; below it quartiles, and the 99% interval of the speed.
layer-prune:count=2: removed layer2.1, layer3.4, checked
shrink, proven equal
later, not verified
wrote out/small.onnx (78.01 MiB, differs from the program by 1e-07 at most)
wrote out/small.pt2 (78.01 MiB, exact)
wrote out/small.safetensors (78.01 MiB)
note: The model fixes its batch size: the program only runs at the batch size of
the example.
"""
        f"again: {COMMAND}\n"
    )


@pytest.mark.parametrize(("speed", "text"), [
    ({"ratio": 0.5, "low": 0.4, "high": 0.6, "verdict": "slower"}, "2.00x slower"),
    ({"ratio": 0.98, "low": 0.9, "high": 1.07, "verdict": "within noise"}, "within noise"),
])  # fmt: skip
def test_a_difference_is_told_from_noise(speed, text):
    report = {**REPORT, "latency": {**REPORT["latency"], "speed": speed}}
    (line,) = [line for line in printed(80, terminal.print_report, report).splitlines() if line.startswith("latency")]
    assert line.endswith(f"µs  {text}")


def test_gates_and_the_files_that_say_what_they_found():
    gates = [{"gate": "--max-drop 0.1: accuracy", "passed": True, "text": "fell by 0.05"},
             {"gate": "--max-size 1MB: a[b].onnx", "passed": False, "text": "2 MiB, 1 MiB too many"}]  # fmt: skip
    report = {**REPORT, "gates": gates, "artefacts": [], "notes": []}
    lines = printed(80, terminal.print_report, report, Path("r.json"), None, Path("j.xml")).splitlines()
    assert lines[-5:] == [
        "wrote r.json",
        "wrote j.xml",
        "passed  --max-drop 0.1: accuracy: fell by 0.05",
        "FAILED  --max-size 1MB: a[b].onnx: 2 MiB, 1 MiB too many",
        f"again: {COMMAND}",
    ]


def test_files_that_only_some_can_read_say_so():
    packed = {"name": "conv.weight", "drawn": True, "error": 0.0}
    report = {
        **REPORT,
        "artefacts": [
            {"path": "a.onnx", "bytes": 1024, "storage": "packed", "dense_bytes": 10240, "values": "fp32",
             "packed": [packed], "largest_difference": 0.0},
            {"path": "a.mlpackage", "bytes": 1024, "sparse": 3, "ran": False},
        ],
    }  # fmt: skip
    lines = printed(200, terminal.print_report, report).splitlines()
    seed = "frozen weights from their seed, for onnxruntime alone"
    assert f"wrote a.onnx (1.00 KiB, packed: 10.0% of 10.00 KiB, {seed}, exact)" in lines
    assert "wrote a.mlpackage (1.00 KiB, 3 weights as bitmasks, not run: that takes a Mac)" in lines


def test_a_report_without_files_and_scores():
    report = {**REPORT, "latency": None, "scores": None, "artefacts": [], "notes": [], "passes": []}
    lines = printed(80, terminal.print_report, report).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        *("", "parameters", "non-zeros", "MACs (batch 1)"),
        f"again: {COMMAND}",
    ]


def test_a_score_without_an_interval():
    score = {"value": -12.5, "name": "score", "n": 3, "interval": None}
    report = {**REPORT, "scores": {"before": score, "after": {**score, "value": -12.0}}}
    text = printed(80, terminal.print_report, report)
    assert "score               -12.5000      -12.0000       +0.5000\n" in text
    assert "95%" not in text


def test_an_interval_of_negative_scores():
    score = {"value": -1.5, "name": "score", "n": 3, "interval": (-1.75, -1.25)}
    text = printed(80, terminal.print_report, {**REPORT, "scores": {"before": score, "after": score}})
    assert "-1.750 to -1.250  -1.750 to -1.250" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_keep_to_the_width_and_only_commands_and_files_run_over(width):
    lines = printed(width, terminal.print_report, REPORT).splitlines()
    assert [line for line in lines if cell_len(line) > width and not line.startswith(("again: ", "wrote "))] == []
    cells = [line for line in lines if line.startswith(("latency ", "  quartiles", "accuracy", "ONNX file"))]
    assert len(cells) == 5  # none is broken into two


BLOCKS = [
    Block("layer1.0", (), "a", "b"),
    Block("layer2.0", (), "b", "c", removable=False, reason="its shortcut is not the identity"),
    Block("encoder[1]", (), "c", "d", contains=("layer1.0",)),
]
FOUND = Inspection(
    cost=Cost(7550, 7450, 229_750, 31_099, 7550),
    blocks=BLOCKS,
    savings={block.name: (1184, 73_728) for block in BLOCKS},
    inputs={"images": "float32[batch, 1, 8, 8]", "flag": "True"},
    outputs=["float32[batch, 10]"],
    dynamic_batch=True,
    macs_batch=1,
    notes=["A note."],
    prunable=Prunable([], {}, [], 0.0, 0.0, {}, axes=None),
)


def test_a_summary():
    assert printed(80, terminal.print_summary, FOUND, "a[b].pt") == (
        """\
a[b].pt: 7.55k parameters, 229.75k MACs at batch 1, 30.37 KiB
  input images: float32[batch, 1, 8, 8]
  input flag: True
  output: float32[batch, 10]
  captured for any batch size
  note: A note.
"""
    )


def test_a_fixed_batch_is_named():
    text = printed(80, terminal.print_summary, replace(FOUND, dynamic_batch=False, macs_batch=16), "a.pt")
    assert "229.75k MACs at batch 16" in text
    report = {**REPORT, "macs_batch": 16}
    assert "MACs (batch 16)" in printed(80, terminal.print_report, report)


def test_a_list_of_blocks():
    assert printed(80, terminal.print_block_list, BLOCKS, FOUND.savings) == (
        """\
3 blocks, 2 removable
block       parameters    MACs  removable
layer1.0         1.18k  73.73k  yes
layer2.0         1.18k  73.73k  no: its shortcut is not the identity
encoder[1]       1.18k  73.73k  yes (contains layer1.0)
"""
    )


PASS = registry.Entry(
    "take-away",
    "Take something away.",
    "Take something away.\n\nThis text was broken\nfor the source file.\n\n    y = x [1]\n\nOptions:\n    count: how.",
    (
        registry.Option("count", "int", None, "how many."),
        registry.Option("kind", "a|b", "a", "which kind."),
        registry.Option("names", "tuple[str, ...]", "()", ""),
    ),
    "nowhere",
    "TakeAway",
)


def test_entries_with_options():
    assert printed(60, terminal.print_entries, [PASS]) == (
        """\
take-away
  Take something away.
    count   how many
    kind=a  which kind; one of a, b
    names   tuple[str, ...]
"""
    )


def test_entries_without_options_are_a_table():
    plain = [registry.Entry(name, "It is.", "It is.", (), "m", "C") for name in ("a", "bcd")]
    assert printed(60, terminal.print_entries, plain) == "a    It is.\nbcd  It is.\n"


def test_a_whole_description():
    assert printed(60, terminal.print_entry, PASS) == (
        """\
take-away

Take something away.

This text was broken for the source file.

    y = x [1]

Options:
    count   how many
    kind=a  which kind; one of a, b
    names   tuple[str, ...]
"""
    )


def test_one_group_is_no_groups():
    steps = [{"pass": "shrink", "contract": "exact", "removed": {"fc1": "48 -> 24"}},
             {"pass": "channel-prune", "asked": {"sparsity": 0.5}, "reached": 0.5,
              "groups": {"fc1": "48 -> 24"}}]  # fmt: skip
    report = {**REPORT, "latency": None, "scores": None, "artefacts": [], "notes": [], "passes": steps}
    text = printed(200, terminal.print_report, report)
    assert "shrink: 1 group made smaller (48 -> 24)" in text
    assert "channel-prune: 1 group (48 -> 24), sparsity 0.5" in text
