import networkx as nx
import pytest

from sparsify.report.layout import layout

BOX, DOT = (100.0, 30.0), (20.0, 20.0)


def laid_out(*edges, **sizes):
    graph = nx.DiGraph(edges)
    return layout(graph, {name: sizes.get(name, BOX) for name in graph})


def boxes(found, **sizes):
    return {name: (x, y, *sizes.get(name, BOX)) for name, (x, y) in found.centres.items()}


def overlap(one, other):
    (x, y, w, h), (a, b, v, k) = one, other
    return abs(x - a) < (w + v) / 2 and abs(y - b) < (h + k) / 2


def test_a_chain_is_straight_and_goes_down():
    found = laid_out("ab", "bc")
    assert {x for x, _ in found.centres.values()} == {50.0}
    assert found.centres["a"][1] < found.centres["b"][1] < found.centres["c"][1]
    assert (found.width, found.centres["a"][1], found.height - found.centres["c"][1]) == (100.0, 15.0, 15.0)
    ((x, start, bottom, to, top, end),) = found.lines["a"]
    assert (x, to) == (50.0, 50.0)
    assert start == bottom == 30.0 < top == end == found.centres["b"][1] - 15


def test_a_residual_leaves_the_branch_straight_and_runs_beside_it():
    found = laid_out("ab", "bc", "cd", "ad", "de", d=DOT)
    assert {round(x) for x, _ in found.centres.values()} == {round(found.centres["a"][0])}
    beside = [x for x, *_ in found.lines["a"][1:]]
    assert all(x > found.centres["b"][0] + 50 for x in beside[1:])
    assert found.width > 100


def test_readers_of_a_value_share_its_trunk():
    found = laid_out("ab", "bc", "cd", "de", "ac", "ad", "ae")
    assert len(found.lines["a"]) == 1 + 3 + 3  # to b; the trunk through three rows; from it to c, d and e


def test_what_is_needed_late_comes_late():
    found = laid_out("ab", "bc", "cd", "kd", "ap", "pd")
    assert found.centres["k"][1] == found.centres["p"][1] == found.centres["c"][1]


def test_lines_do_not_cross_where_they_need_not():
    found = laid_out(*("ad", "ae", "af"), *("dz", "ey", "fx"), *("zw", "yw", "xw"))
    across = [found.centres[name][0] for name in "def"]
    assert [found.centres[name][0] for name in "zyx"] == pytest.approx(across, abs=1)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_overlaps_or_leaves_the_drawing(seed):
    dense = nx.gnp_random_graph(24, 0.15, seed=seed, directed=True)
    graph = nx.DiGraph((f"n{a}", f"n{b}") for a, b in dense.edges if a < b)
    sizes = {name: DOT if name.endswith("3") else BOX for name in graph}
    found = layout(graph, sizes)
    placed = list(boxes(found, **sizes).values())
    assert not any(overlap(one, other) for i, one in enumerate(placed) for other in placed[:i])
    assert all(x - w / 2 >= 0 and x + w / 2 <= found.width + 1e-6 for x, _, w, _ in placed)
    assert all(y - h / 2 >= 0 and y + h / 2 <= found.height + 1e-6 for _, y, _, h in placed)
    for one, other in graph.edges:
        assert found.centres[one][1] < found.centres[other][1]
        x, y = found.centres[other]
        ends = [(line[3], line[5]) for line in found.lines[one]]
        assert (x, pytest.approx(y - sizes[other][1] / 2)) in ends


def test_an_item_alone_and_nothing_at_all():
    graph = nx.DiGraph()
    assert layout(graph, {}).height == 0
    graph.add_node("a")
    assert (layout(graph, {"a": BOX}).width, layout(graph, {"a": BOX}).height) == BOX
