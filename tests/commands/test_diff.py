import json

import pytest
import torch
from helpers.command import small_resnet, sparsify, write_model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    model = write_model(folder)
    assert sparsify(model, "--pass", "layer-prune:blocks=layer2.1", "-o", folder / "small.pt2").status == 0
    return model, folder / "small.pt2"


def test_it_prints_what_changed(files):
    ran = sparsify("diff", *files)
    assert (ran.status, ran.err) == (0, "")
    text = " ".join(ran.out.split())
    assert "layer2.1.conv1 8x8x3x3 0% 9.22k gone" in text
    assert "modules the same, bit for bit" in text
    assert "outputs are up to" in text


def test_json_is_all_that_is_printed(files):
    found = json.loads(sparsify("diff", *files, "--json").out)
    assert {item["module"] for item in found["modules"]} == {f"layer2.1.{x}" for x in ("conv1", "bn1", "conv2", "bn2")}
    assert found["equal"] is False


def test_a_file_without_inputs_gets_those_of_the_other(files, tmp_path):
    model, small = files
    torch.save(small_resnet(), tmp_path / "model.pt")
    for pair, gone in (((tmp_path / "model.pt", small), 4), ((model, tmp_path / "model.pt"), 0)):
        ran = sparsify("diff", *pair, "--trust", "--json")
        assert (ran.status, len(json.loads(ran.out)["modules"])) == (0, gone)
    ran = sparsify("diff", tmp_path / "model.pt", tmp_path / "model.pt", "--trust")
    assert (ran.status, "model.pt has no example inputs" in ran.err) == (2, True)


def test_a_missing_file_is_said(files):
    ran = sparsify("diff", files[0], "nothing.pt2")
    assert (ran.status, "nothing.pt2 cannot be opened" in ran.err) == (2, True)
