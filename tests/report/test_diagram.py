import pytest
from helpers.command import small_program

import sparsify as sp
from sparsify.inspection import inspection
from sparsify.report.diagram import Fate, diagram


@pytest.fixture(scope="module")
def program():
    return small_program()


@pytest.fixture(scope="module")
def found(program):
    return inspection(program)


def modules(program):
    return list(dict.fromkeys(name.rpartition(".")[0] for name in program.parameters))


def test_every_module_is_drawn_where_its_weights_are_read(program, found):
    made = diagram(program, found)
    assert made["drawn"].keys() == set(modules(program))
    titles = {node["id"]: node["tooltip"].splitlines()[0] for node in made["nodes"]}
    assert all(titles[place] == module for module, place in made["drawn"].items())
    assert not any(node["gone"] or node["row"] for node in made["nodes"])
    assert not any(frame["gone"] for frame in made["frames"])


def test_the_drawing_holds_all_that_is_in_it(program, found):
    made = diagram(program, found)
    for item in [*made["nodes"], *made["frames"]]:
        assert 0 <= item["x"] <= item["x"] + item["width"] <= made["width"]
        assert 0 <= item["y"] <= item["y"] + item["height"] <= made["height"]


def test_what_became_of_modules_is_marked(program, found):
    after = sp.run(program, ["layer-prune:blocks=layer2.1"]).program
    gone = frozenset(modules(program)) - frozenset(modules(after))
    rows = {name: f"row-{index}" for index, name in enumerate(modules(program))}
    made = diagram(program, found, Fate(rows, gone, {"layer1.0.conv1": "now 2x4x3x3"}))
    marked = {node["id"] for node in made["nodes"] if node["gone"]}
    assert marked == {made["drawn"][name] for name in gone}
    assert {frame["name"] for frame in made["frames"] if frame["gone"]} == {"layer2.1"}
    by_id = {node["id"]: node for node in made["nodes"]}
    assert all(by_id[place]["row"] == rows[name] for name, place in made["drawn"].items())
    assert "now 2x4x3x3" in by_id[made["drawn"]["layer1.0.conv1"]]["tooltip"]
