from dataclasses import replace

import pytest
import torch
from helpers import zoo
from helpers.command import small_program
from helpers.drawings import Page
from torch import nn

from sparsify.capture import capture
from sparsify.errors import InputError
from sparsify.inspection import inspection
from sparsify.report.page import write_page
from sparsify.report.quantities import count
from sparsify.report.sketch import sketch

ALL = {"small": None, **{name: zoo.FAMILIES[name] for name in ("bert", "t5")}, "mystery": zoo.NETWORKS["mystery"]}
NASTY = '<img src="x" onerror=alert(1)>&\'</script>'


def drawn(program, folder, name="model.pt2"):
    found = inspection(program)
    write_page(folder / "page.html", program, found, name)
    return found, (folder / "page.html").read_text("utf-8")


@pytest.fixture(scope="module", params=ALL)
def case(request, tmp_path_factory):
    """A program, what was found, and its page."""
    if request.param == "small":
        program = small_program()
    else:
        model, args, kwargs = ALL[request.param]()
        program = capture(model, args, kwargs)
    found, text = drawn(program, tmp_path_factory.mktemp("page"))
    return program, found, text, Page(text)


def test_everything_that_is_drawn_is_there_and_has_a_tooltip(case):
    program, found, _, page = case
    items = sketch(program, found.prunable, found.blocks).items
    nodes = page.all("g", **{"class": "node"})
    assert [held["id"] for held, _ in nodes] == [f"n-{name}" for name in items]
    for (_, text), item in zip(nodes, items.values(), strict=True):
        assert item.title in text
        assert item.frozen in text
        assert all(group.name in text for group in item.channels)


def test_every_group_has_a_row_with_its_numbers_and_boxes(case):
    _, found, _, page = case
    for index, group in enumerate(found.prunable.free):
        ((_, row),) = page.all("tr", **{"data-in": f"g{index}"})
        parameters, macs = found.prunable.savings[group.name]
        assert group.name in row
        assert row.endswith(f"{group.kind}{group.size}{count(parameters)}{count(macs)}\n")
        assert all(f"{member.parameter}[{member.dim}]" in row for member in group.members)
        assert page.all("g", **{"class": "node", "data-in": f"g{index}"})
    for index, item in enumerate(found.prunable.frozen):
        ((_, row),) = page.all("tr", **{"data-in": f"r{index}"})
        assert item.reason in row
        assert all(name in row for name in item.parameters)


def test_links_lead_to_what_is_there(case):
    _, found, _, page = case
    ids = [held["id"] for _, held, _ in page.elements if "id" in held]
    assert len(ids) == len(set(ids))
    links = [held["href"] for held, _ in page.all("a")]
    assert len(links) >= len(found.prunable.free)
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert all(link.startswith("#") for link in links)


def test_it_loads_nothing(case):
    *_, text, page = case
    assert "://" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert not any(key in ("src", "srcset", "data", "action") for _, held, _ in page.elements for key in held)
    assert {tag for tag, *_ in page.elements}.isdisjoint({"link", "img", "iframe", "object", "embed"})
    ((policy, _),) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")


def test_removable_blocks_are_framed_and_all_are_listed(tmp_path):
    found, text = drawn(small_program(), tmp_path)
    page = Page(text)
    assert [text for _, text in page.all("text", **{"class": "label"})] == ["layer1.0", "layer1.1", "layer2.1"]
    listed = page.all("table")[-1][1]
    assert all(block.name in listed for block in found.blocks)
    assert "no: its shortcut is not the identity" in listed


def renamed(program, old, new):
    """Return a program in which a module has another name; torch.export refuses names as odd as this one."""
    graph = program.copy_graph()
    for node in graph.nodes:
        if node.op == "get_attr":
            node.target = str(node.target).replace(old, new)
    state = [{key.replace(old, new): x for key, x in held.items()} for held in (program.parameters, program.buffers)]
    return replace(program, graph=graph, parameters=state[0], buffers=state[1])


def test_names_are_escaped(tmp_path):
    _, text = drawn(renamed(small_program(), "layer1.0", NASTY), tmp_path, name=NASTY)
    page = Page(text)
    assert page.all("img") == []
    assert len(page.all("script")) == 1
    assert NASTY in page.all("title")[0][1]
    assert any(NASTY in row for _, row in page.all("tr", **{"data-in": "g1"}))
    assert NASTY in [text for _, text in page.all("text", **{"class": "label"})]
    assert not any(key.startswith("on") for _, held, _ in page.elements for key in held)


def test_an_operator_without_a_rule_is_a_warning_and_a_marked_box(tmp_path):
    model, args, kwargs = zoo.NETWORKS["mystery"]()
    _, text = drawn(capture(model, args, kwargs), tmp_path)
    ((_, warning),) = Page(text).all("p", **{"class": "warning"})
    assert "zoo::mystery" in warning
    assert "sparsify.axis_rule" in warning
    assert len(Page(text).all("g", **{"class": "unknown"})) == 1


def test_a_model_without_parameters(tmp_path):
    class Net(nn.Module):
        def forward(self, x):
            return x.relu()

    _, text = drawn(capture(Net(), (torch.randn(2, 6),)), tmp_path)
    assert [held["id"] for held, _ in Page(text).all("g", **{"class": "node"})] == ["n-x", "n-output"]


def test_the_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    program = small_program()
    found = inspection(program)
    (tmp_path / "page.html").write_text("old")
    monkeypatch.setattr("sparsify.report.diagram.sketch", lambda *args: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        write_page(tmp_path / "page.html", program, found, "model.pt2")
    assert (tmp_path / "page.html").read_text() == "old"
    with pytest.raises(InputError, match="does not exist"):
        write_page(tmp_path / "no" / "page.html", program, found, "model.pt2")
