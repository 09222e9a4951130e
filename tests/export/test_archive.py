import json
import zipfile

import numpy as np
import pytest
import torch
from helpers.models import ConvNet, Net, equal_leaves, images, linear, rows, run, state, train, trains_like
from torch import nn

import sparsify as sp
from sparsify.capture import from_exported
from sparsify.errors import ExportError, InputError, UsageError
from sparsify.export import archive
from sparsify.export.archive import save
from sparsify.freezing import frozen
from sparsify.masking import masked


def reloaded(program, path):
    extra = {"sparsify.json": ""}
    report = save(program, path)
    assert report["bytes"] == path.stat().st_size
    assert report["largest_difference"] == 0
    return from_exported(torch.export.load(path, extra_files=extra)), json.loads(extra["sparsify.json"])


def same_state(one, other):
    a, b = state(one.module()), state(other.module())
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def test_the_round_trip_keeps_every_bit(tmp_path):
    program = sp.capture(ConvNet(), (images(),)).applied("layer-prune:count=2")
    module = program.module(training=True)
    train(module, [images()])
    program = program.with_state(module)
    again, extra = reloaded(program, tmp_path / "m.pt2")
    assert str(again) == str(program)
    assert same_state(again, program)
    assert again.module().state_dict().keys() == program.module().state_dict().keys()
    assert torch.equal(again.example.args[0], program.example.args[0])
    assert equal_leaves(run(again.module(), [images(5)]), run(program.module(), [images(5)]))
    assert extra == {
        "version": sp.__version__,
        "layout": 1,
        "passes": ["layer-prune:count=2"],
        "notes": [],
        "synthetic": False,
    }


@pytest.mark.parametrize("name", ["m.xyz", "m.onnx", "m.safetensors", "m"])
def test_an_ending_of_another_format_is_refused(tmp_path, name):
    program = sp.capture(ConvNet(), (images(),))
    with pytest.raises(UsageError, match=r"save writes a torch.export archive; name it .pt2"):
        save(program, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_reloaded_program_trains_like_the_model(tmp_path):
    model = ConvNet()
    again, _ = reloaded(sp.capture(model, (images(4),)), tmp_path / "m.pt2")
    assert trains_like(again, model, [images(4)])
    module = again.module(training=True)
    assert not equal_leaves(run(module, [images()], seed=0), run(module, [images()], seed=1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.norm = self.again = nn.BatchNorm1d(4)
        self.register_buffer("table", torch.ones(4), persistent=False)
        self.constant = torch.full((4,), 2.0)

    def forward(self, x):
        return self.again(self.b(self.norm(self.a(x)))) + self.table * self.constant


def test_ties_and_transient_buffers(tmp_path):
    model = Tied()
    program = sp.capture(model, (rows(),))
    again, _ = reloaded(program, tmp_path / "m.pt2")
    assert again.aliases == program.aliases
    assert again.transient == program.transient == {"table", "constant"}
    assert list(again.parameters) == list(program.parameters)
    assert same_state(again, program)
    assert trains_like(again, model, [rows()])
    module = again.module()
    assert module.get_parameter("b.weight") is module.get_parameter("a.weight")


def test_frozen_parameters_stay_frozen(tmp_path):
    model = ConvNet()
    model.conv.requires_grad_(False)
    again, _ = reloaded(sp.capture(model, (images(),)), tmp_path / "m.pt2")
    assert not again.parameters["conv.weight"].requires_grad
    assert again.parameters["head.weight"].requires_grad


def test_keyword_inputs_and_constants(tmp_path):
    class Model(nn.Module):
        def forward(self, x, *, scale, more):
            return x * scale + more["a"]

    kwargs = {"scale": 2.5, "more": {"a": rows(seed=2)}}
    again, _ = reloaded(sp.capture(Model(), (rows(),), kwargs), tmp_path / "m.pt2")
    assert torch.equal(again.module()(rows(), **kwargs), Model()(rows(), **kwargs))


def test_classes_of_the_models_output_become_dictionaries(tmp_path):
    from transformers.modeling_outputs import BaseModelOutput

    model = Net(lambda s, x: BaseModelOutput(last_hidden_state=s.l(x), hidden_states=(x, s.l(x))), **linear())
    program = sp.capture(model, (rows(),))
    again, _ = reloaded(program, tmp_path / "m.pt2")
    output = again.module()(rows())
    assert type(output) is dict
    assert type(output["hidden_states"]) is tuple
    assert equal_leaves(run(again.module(), [rows()]), run(program.module(), [rows()]))
    assert isinstance(program.module()(rows()), BaseModelOutput)
    assert b"transformers" not in (tmp_path / "m.pt2").read_bytes()


def test_a_fixed_batch_stays_fixed(tmp_path):
    again, _ = reloaded(sp.capture(ConvNet(), (images(),), dynamic_batch=False), tmp_path / "m.pt2")
    assert not again.dynamic_batch


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(tmp_path, dtype):
    program = sp.capture(nn.Linear(4, 4).to(dtype), (rows().to(dtype),))
    assert same_state(reloaded(program, tmp_path / "m.pt2")[0], program)


def test_an_example_of_one_row(tmp_path):
    again, _ = reloaded(sp.capture(ConvNet(), (images(1),)), tmp_path / "m.pt2")
    assert again.dynamic_batch
    assert again.example.args[0].shape[0] == 1


def test_what_cannot_be_written_is_refused_and_nothing_appears(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no such thing\nand advice for developers")

    monkeypatch.setattr(torch.export, "save", fail)
    with pytest.raises(ExportError, match=r"cannot be written as .pt2: RuntimeError: no such thing.$"):
        save(sp.capture(ConvNet(), (images(),)), tmp_path / "m.pt2")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_computes_something_else_does_not_appear(tmp_path, monkeypatch):
    program = sp.capture(ConvNet(), (images(),))
    other = sp.capture(ConvNet(), (images(),))
    monkeypatch.setattr(archive, "from_exported", lambda exported: other)
    with pytest.raises(Exception, match="outputs differ") as caught:
        save(program, tmp_path / "m.pt2")
    assert caught.value.exit_status == 3
    assert list(tmp_path.iterdir()) == []


def test_passes_notes_and_random_inputs_are_remembered(tmp_path):
    program = sp.capture(ConvNet(), (images(),), synthetic=True).noted("a note").applied("layer-prune")
    save(program, tmp_path / "m.pt2")
    again = sp.load(tmp_path / "m.pt2")
    assert (again.history, again.notes, again.example.synthetic) == (("layer-prune",), ("a note",), True)


def test_real_inputs_given_for_an_archive_with_random_ones_count_as_real(tmp_path):
    save(sp.capture(ConvNet(), (images(),), synthetic=True), tmp_path / "m.pt2")
    np.savez(tmp_path / "real.npz", x=images().numpy())
    assert sp.load(tmp_path / "m.pt2", inputs="1x3x6x6").example.synthetic
    assert not sp.load(tmp_path / "m.pt2", inputs=str(tmp_path / "real.npz")).example.synthetic


@torch.library.custom_op("archivetest::scale", mutates_args=())
def scale(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@scale.register_fake
def _(x):
    return torch.empty_like(x)


def test_an_operator_of_ones_own_is_refused_before_a_file_appears(tmp_path):
    class Scaled(nn.Linear):
        def forward(self, x):
            return scale(super().forward(x))

    program = sp.capture(Scaled(3, 2), (torch.randn(2, 3),))
    with pytest.raises(ExportError, match=r"nobody could load it .* torch's own \(archivetest::scale\)"):
        save(program, tmp_path / "own.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["masked", "frozen", "drawn"])
def test_masks_and_frozen_weights_keep_every_bit(tmp_path, way):
    model = ConvNet()
    model.head.weight.data.view(-1)[:3] = torch.tensor([-0.0, 1e-40, 3.0])
    program = sp.capture(model, (images(),))
    mask = {"head.weight": torch.rand(model.head.weight.shape) < 0.5}
    after = masked(program, mask) if way == "masked" else frozen(program, mask, 5 if way == "drawn" else None)
    again, _ = reloaded(after, tmp_path / "m.pt2")
    found = again.masks if way == "masked" else again.frozen
    assert torch.equal(found["head.weight"], mask["head.weight"])
    for name, value in after.parameters.items():
        assert torch.equal(again.parameters[name].view(torch.int32), value.view(torch.int32))


def test_damaged_archives_are_refused(tmp_path):
    """A flipped bit in what is stored, or a part of the file: never another model, never a crash."""
    save(sp.capture(ConvNet(), (images(),)), tmp_path / "m.pt2")
    whole, path = (tmp_path / "m.pt2").read_bytes(), tmp_path / "broken.pt2"
    with zipfile.ZipFile(tmp_path / "m.pt2") as archive:
        entries = archive.infolist()
    for entry in entries:
        start = entry.header_offset + 30 + len(entry.filename) + int.from_bytes(
            whole[entry.header_offset + 28 : entry.header_offset + 30], "little"
        )  # fmt: skip
        for place in {start, start + entry.file_size // 2} if entry.file_size else ():
            broken = bytearray(whole)
            broken[place] ^= 1
            path.write_bytes(broken)
            with pytest.raises(InputError, match=r"broken.pt2 is damaged: its entry .* does not have the checksum"):
                sp.load(path)
    for length in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"broken.pt2"):
            sp.load(path)


def test_a_newer_layout_is_refused_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "LAYOUT", 2)
    monkeypatch.setattr(archive, "read_exported", lambda file, path, trust: torch.export.load(file))
    save(sp.capture(ConvNet(), (images(),)), tmp_path / "m.pt2")
    with pytest.raises(InputError, match=r"m.pt2 has layout 2, and this sparsify .* knows layouts up to 1: .* Install"):
        sp.load(tmp_path / "m.pt2")
