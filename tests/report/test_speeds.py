import io

import pytest
from rich.console import Console

from sparsify.file_bench import Measured, Table
from sparsify.latency import Latency, Speed
from sparsify.report.speeds import print_speeds


def printed(*rows, batch=1, threads=2):
    console = Console(file=io.StringIO(), width=80)
    print_speeds(console, [Table(batch, threads, rows)])
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def row(name, median, speed=None, runtime="onnxruntime 1.0, CPU", masked=False):
    return Measured(name, runtime, 2048, Latency(median, 0.9 * median, 1.2 * median, 96, 2, 1), speed, masked)


def test_a_table_says_what_was_measured_and_how_sure_it_is():
    lines = printed(row("dense.onnx", 5.0), row("small.onnx", 2.5, Speed(2.0, 1.9, 2.1)),
                    row("same.onnx", 5.1, Speed(0.98, 0.9, 1.07)))  # fmt: skip
    assert lines == [
        "batch 1, 2 threads, onnxruntime 1.0, CPU",
        "file            size  latency  spread  speed  99% interval",
        "dense.onnx  2.00 KiB  5.00 ms     30%",
        "small.onnx  2.00 KiB  2.50 ms     30%  2.00x     1.90-2.10  faster",
        "same.onnx   2.00 KiB  5.10 ms     30%  0.98x     0.90-1.07  within noise",
        "Latency is the median of 96 runs in turns, spread the distance of its quartiles.",
        "Speeds are those against the first file.",
    ]


def test_what_masks_cost_is_said_once():
    lines = printed(row("a/dense.pt2", 5.0), row("b/m.pt2", 6.0, Speed(0.8, 0.7, 0.9), masked=True))
    text = " ".join(lines)
    assert "m.pt2 has masks, which every run applies" in text
    assert "--pass fold, --pass lower or -o FILE.onnx writes has none." in text
    assert "m.pt2, n.pt2 have masks" in " ".join(
        printed(row("m.pt2", 5.0, masked=True), row("n.pt2", 5.0, masked=True))
    )
    assert "masks" not in " ".join(printed(row("a.pt2", 5.0)))


def test_runtimes_are_named_where_they_differ():
    lines = printed(row("a.onnx", 5.0), row("a.pt2", 5.0, Speed(1, 0.9, 1.1), "PyTorch 2.10"), threads=1)
    assert lines[0] == "batch 1, 1 thread, onnxruntime 1.0, CPU and PyTorch 2.10"
    text = "\n".join(lines[2:])
    assert text.count("(onnxruntime)") == text.count("(PyTorch)") == 1


@pytest.mark.parametrize("name", ["a" * 60, "a/" * 30 + "b.onnx"])
def test_long_names_break_and_hide_nothing(name):
    lines = printed(row(name, 5.0), row(name, 2.5, Speed(2.0, 1.9, 2.1)))
    assert "2.00x     1.90-2.10  faster" in "\n".join(lines)
    assert max(map(len, lines)) <= 80


def test_long_names_are_broken_where_they_can_be_read():
    lines = printed(row("some/folder/bert-base-uncased.dense.onnx", 5.0),
                    row("other/folder/bert-base-uncased.pruned.onnx", 2.5, Speed(2.0, 1.9, 2.1)))  # fmt: skip
    first = [line.split()[0] for line in lines[2:6]]
    assert first == ["bert-base-uncased.", "dense.onnx", "bert-base-uncased.", "pruned.onnx"]
    assert all(len(line) <= 80 for line in lines)


def test_folders_stay_where_files_have_the_same_name():
    lines = printed(row("a/m.onnx", 5.0), row("b/m.onnx", 2.5, Speed(2.0, 1.9, 2.1)))
    assert [line.split()[0] for line in lines[2:4]] == ["a/m.onnx", "b/m.onnx"]
