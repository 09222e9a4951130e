import io

from rich.console import Console

from sparsify.cost import Cost
from sparsify.differences import Difference, Differences
from sparsify.modules import Side
from sparsify.report.changes import print_differences

COSTS = (Cost(2000, 2000, 4000, 8000, 2000), Cost(1000, 500, 2000, 4000, 1000))


def printed(modules, *, gap=0.5, equal=False, second="b.pt2", batches=(1, 1), blocks=None):
    console = Console(file=io.StringIO(), width=80)
    print_differences(console, Differences(COSTS, batches, modules, 1, blocks or {}, gap, equal), ("a.pt2", second))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_modules_that_differ_are_listed():
    dense, half = Side((4, 8), 32, 32, 64), Side((4, 8), 32, 16, 64)
    lines = printed([Difference("a", dense, half, 0.25), Difference("b", dense, Side((2, 8), 16, 16, 32), None),
                     Difference("c", dense, None, None), Difference("d", None, Side((), 1, 1, 0), None)])  # fmt: skip
    assert lines == [
        "                  before     after  change",
        "parameters         2.00k     1.00k  -50.0%",
        "non-zeros          2.00k       500  -75.0%",
        "MACs (batch 1)     4.00k     2.00k  -50.0%",
        "in memory       7.81 KiB  3.91 KiB  -50.0%",
        "",
        "module      shape       zeros     MACs  moved",
        "a             4x8  0% → 50.0%       64   0.25",
        "b       4x8 → 2x8          0%  64 → 32",
        "c             4x8          0%       64   gone",
        "d          scalar          0%        0    new",
        "",
        "1 module the same, bit for bit",
        "On the example of a.pt2 outputs are up to 0.5 apart (relative).",
    ]


def test_macs_of_two_batches_are_not_compared():
    assert "MACs (batch 8)     4.00k     2.00k  -50.0%" in printed([], batches=(8, 8))
    assert "MACs (batch 8 → 4)     4.00k     2.00k" in printed([], batches=(8, 4))


def test_blocks_with_other_numbers():
    text = " ".join(printed([], blocks={"h.0": "h.0", "h.1": "h.2", "t.0": "t.3"}))
    assert "b.pt2 counts the blocks of h anew: they are 0, 2 of a.pt2, bit for bit." in text
    assert "b.pt2 counts the blocks of t anew: they are 3 of a.pt2" in text


def test_a_folder_in_which_blocks_may_have_other_numbers(tmp_path):
    side = Side((4, 8), 32, 32, 64)
    gone, moved = Difference("h.1.fc", side, None, None), Difference("h.0.fc", side, side, 0.5)
    assert "may be another one" in " ".join(printed([moved, gone], second=str(tmp_path)))
    for modules, second in (([moved, gone], "b.pt2"), ([gone], str(tmp_path)), ([moved], str(tmp_path))):
        assert "may be another one" not in " ".join(printed(modules, second=second))


def test_what_is_computed():
    assert "both compute the same (1e-07 apart, which is rounding)" in printed([], gap=1e-7, equal=True)[-1]
    assert "bit for bit" in printed([], gap=0.0, equal=True)[-1]
    assert "cannot be compared" in " ".join(printed([], gap=None)[-2:])


def test_norms_may_be_folded_in_onnx_files():
    norm, layer = Side((4,), 8, 8, 0), Side((4, 8), 32, 32, 64)
    text = " ".join(printed([Difference("bn", norm, None, None)], second="b.onnx"))
    assert "fold norms" in text
    assert "fold norms" not in " ".join(printed([Difference("bn", norm, None, None)]))
    assert "fold norms" not in " ".join(printed([Difference("fc", layer, None, None)], second="b.onnx"))
