import pytest
from helpers.command import measure_briefly, small_program

import sparsify as sp
from sparsify import speedup as module
from sparsify.errors import ExportError
from sparsify.latency import Latency, Speed
from sparsify.speedup import NotMeasured, speed_of, speedup


@pytest.fixture(scope="module")
def programs():
    before = small_program()
    return before, sp.run(before, ["layer-prune:count=3"]).program


def test_both_are_measured_one_example_at_a_time(programs, monkeypatch, tmp_path):
    asked = []

    def compare(files, feeds, seconds):
        asked.append(([file.name for file in files], [feed["images"].shape for feed in feeds], seconds))
        return Latency(2.0, 1.9, 2.1, 9, 1, 1), Latency(1.0, 0.9, 1.1, 9, 1, 1), Speed(2.0, 1.8, 2.2)

    monkeypatch.setattr(module, "compare", compare)
    written = tmp_path / "written.onnx"
    size = sp.export_onnx(programs[1], written)["bytes"]
    found = speedup(*programs, written, seconds=7.0)
    alone = speedup(*programs, None)
    shapes = [(1, 1, 8, 8)] * 2
    assert asked == [(["dense.onnx", "written.onnx"], shapes, 7.0), (["dense.onnx", "small.onnx"], shapes, 2.0)]
    assert (found["bytes"], found["before"]["median"], found["after"]["median"]) == (size, 2.0, 1.0)
    assert found["dense_bytes"] > size
    assert found["speed"] == {"ratio": 2.0, "low": 1.8, "high": 2.2, "verdict": "faster"}
    assert speed_of(found) == Speed(2.0, 1.8, 2.2)
    assert alone["bytes"] == pytest.approx(size, abs=64)


def test_a_real_measurement(programs, monkeypatch):
    measure_briefly(monkeypatch)
    found = speedup(*programs, None)
    assert found["speed"]["low"] <= found["speed"]["ratio"] <= found["speed"]["high"]
    assert found["before"]["runs"] == found["after"]["runs"] == 15


@pytest.mark.parametrize("which", ["before", "after"])
def test_what_cannot_be_written_is_not_measured(programs, monkeypatch, which):
    real = module.export_onnx

    def export(program, path):
        if program is programs[which == "after"]:
            raise ExportError("No such operator.")
        return real(program, path)

    monkeypatch.setattr(module, "export_onnx", export)
    with pytest.raises(NotMeasured, match=f"^the model {which} cannot be written as ONNX. No such operator"):
        speedup(*programs, None)
