import io

import pytest
from helpers.command import small_program
from helpers.drawings import group, prunable
from rich.cells import cell_len
from rich.console import Console

from sparsify import prunable as looking
from sparsify.report import groups


def printed(width, found, **console):
    file = io.StringIO()
    groups.print_groups(Console(file=file, width=width, **console), found)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def test_a_small_network():
    assert printed(80, looking.prunable(small_program())) == (
        """\
6 prunable groups
group           kind      size  members  parameters    MACs
conv1           stream       4       13         239  11.07k
layer1.0.conv1  channels     4        4          74   4.61k
layer1.1.conv1  channels     4        4          74   4.61k
layer2.0.conv1  channels     8        4         110   1.73k
layer2.0.conv2  stream       8       11         236   3.53k
layer2.1.conv1  channels     8        4         146   2.30k
parameters and MACs: what removing one index of the group saves
1 frozen axis
reason            axes  parameters  such as
an output has it     1        0.3%  fc.weight, fc.bias
parameters: the part that has no other axis to prune
99.7% of the parameters and 100% of the multiply-accumulates can be pruned
"""
    )


LONG = "encoder.block.0.layer.1.EncDecAttention.relative_attention.query/head-dim"
NOTE = "aten::layer_norm depends on how many indices it has"
ODD = prunable(
    [group("a[b]", note=NOTE), group(LONG, "head-dim", 64, 3), group("c", note=NOTE), group("d", note="x::y differs")],
    [("it is sorted [1]", 3, ("a[0].weight", "b", "c", "d", "e"), 0.25), ("an input has it", 1, ("b",), 0.0)],
    {"my[lib]::scale": ["scale"], "mylib::twist": ["twist", "twist_1"]},
)


def test_notes_warnings_and_names_that_are_no_markup():
    assert printed(80, ODD) == (
        """\
4 prunable groups
group                                kind      size  members  parameters    MACs
a[b] (1)                             channels     8        2       1.20k  34.00k
encoder.block.0.layer.1.             head-dim    64        3       1.20k  34.00k
EncDecAttention.relative_attention.
query/head-dim
c (1)                                channels     8        2       1.20k  34.00k
d (2)                                channels     8        2       1.20k  34.00k
parameters and MACs: what removing one index of the group saves
(1) masking an index is not removing it: layer_norm counts it
(2) masking an index is not removing it: x::y differs
4 frozen axes
reason            axes  parameters  such as
it is sorted [1]     3       25.0%  a[0].weight, b, c and 2 more
an input has it      1          0%  b
parameters: the part that has no other axis to prune
warning: my[lib]::scale has no axis rule, so all that it touches is frozen; give
it one with sparsify.axis_rule
warning: mylib::twist, used 2 times, has no axis rule, so all that it touches is
frozen; give it one with sparsify.axis_rule
97.8% of the parameters and 99.1% of the multiply-accumulates can be pruned
"""
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_keeps_to_the_width_and_leaves_no_name_out(width):
    lines = printed(width, ODD).splitlines()
    assert [line for line in lines if cell_len(line) > width] == []
    assert LONG in "".join(line.split()[0] for line in lines if line)


def test_colour_is_not_all_that_tells_of_a_warning():
    assert "\x1b[33m" in printed(80, ODD, force_terminal=True, color_system="standard")
    assert "warning: mylib::twist, used 2 times, has no axis rule" in printed(80, ODD).replace("\n", " ")


def test_nothing_to_prune():
    lines = printed(80, prunable([], [("an input has it", 2, ("a", "b"), 1.0)])).splitlines()
    assert lines[0] == "no group: nothing narrower than a layer can be pruned"
    assert lines[1] == "2 frozen axes"


def layers(count):
    return [
        group(f"h.{index}.{name}", kind, size)
        for index in range(count)
        for name, kind, size in (("attn/heads", "heads", 4), ("mlp.0", "channels", 9 + (index == 1)))
    ]


def test_a_short_list_is_whole():
    assert [row.name for row in groups.rows(prunable(layers(20)))] == [item.name for item in layers(20)]


def test_in_a_long_list_repeated_layers_are_one_line():
    found = groups.rows(prunable([group("stem.2", size=9), *layers(21)]))
    assert [(row.name, row.size, row.times) for row in found] == [
        ("stem.2", 9, 1),
        ("h.*.attn/heads", 4, 21),
        ("h.*.mlp.0", 9, 20),
        ("h.1.mlp.0", 10, 1),
    ]
    assert "h.*.attn/heads x21 " in printed(80, prunable([group("stem.2", size=9), *layers(21)]))


def test_numbers_in_words_do_not_fold():
    names = [f"conv{index}" for index in range(50)]
    assert [row.name for row in groups.rows(prunable([group(name) for name in names]))] == names


@pytest.mark.parametrize(
    ("note", "short"),
    [
        ("", ""),
        (NOTE, "layer_norm counts it"),
        ("aten::add sums over it values that a mask does not make zero", "add adds what is not zero"),
        ("mylib::f is odd", "mylib::f is odd"),
    ],
)
def test_notes_in_short(note, short):
    assert groups.short_note(note) == short


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (40, ["layer.0.query/heads x12"]),
        (12, ["layer.0.", "query/heads", "x12"]),
        (3, ["layer.", "0.", "query/", "heads", "x12"]),
    ],
)
def test_names_break_behind_dots_and_slashes(width, lines):
    assert groups.broken("layer.0.query/heads x12", width).split("\n") == lines


def test_names_are_whole_where_they_fit():
    assert groups.broken("a.weight, b.weight and 3 more", 14) == "a.weight,\nb.weight and 3\nmore"
