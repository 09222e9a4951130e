import argparse
import io
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.hostile import Payload
from torch import nn

from sparsify.errors import InputError, UntrustedError
from sparsify.loading import safe_pickle


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer


def load(buffer, path="model.pt"):
    buffer.seek(0)
    zipped = buffer.read(2) == b"PK"
    pickled = torch._C.PyTorchFileReader(io.BytesIO(buffer.getvalue())).get_record("data.pkl") if zipped else None
    return safe_pickle.load(buffer, path, pickled)


IMAGE, SEQUENCE = torch.randn(2, 3, 8, 8), torch.randn(5, 2, 8)
INDICES = torch.arange(6).view(2, 3)
MODULES = {
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect", bias=False),
            nn.BatchNorm2d(8),
            nn.GELU("tanh"),
            nn.MaxPool2d(2),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Linear(128, 3),
        ),
        (IMAGE,),
    ),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3, groups=1), (IMAGE,)),
    "norms": (lambda: nn.Sequential(nn.GroupNorm(1, 3), nn.InstanceNorm2d(3, affine=True), nn.LayerNorm(8)), (IMAGE,)),
    "rms": (lambda: nn.RMSNorm(8), (SEQUENCE,)),
    "encoder": (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2), (SEQUENCE,)),
    "gelu": (lambda: nn.TransformerEncoderLayer(8, 2, 16, activation="gelu"), (SEQUENCE,)),
    "activation module": (lambda: nn.TransformerEncoderLayer(8, 2, 16, activation=nn.SiLU()), (SEQUENCE,)),
    "decoder": (lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 1), (SEQUENCE, SEQUENCE)),
    "attention": (lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True), (SEQUENCE, SEQUENCE, SEQUENCE)),
    "lstm": (lambda: nn.LSTM(8, 4, 2, bidirectional=True, proj_size=2), (SEQUENCE,)),
    "gru": (lambda: nn.GRU(8, 4), (SEQUENCE,)),
    "rnn": (lambda: nn.RNN(8, 4, nonlinearity="relu"), (SEQUENCE,)),
    "cell": (lambda: nn.LSTMCell(8, 4), (SEQUENCE[0],)),
    "embedding": (lambda: nn.Embedding(10, 4, padding_idx=1), (INDICES,)),
    "bag": (lambda: nn.EmbeddingBag(10, 4), (INDICES,)),
    "shapes": (lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Upsample(scale_factor=2), nn.PReLU()), (IMAGE,)),
    "bilinear": (lambda: nn.Bilinear(8, 8, 4), (SEQUENCE, SEQUENCE)),
    "half": (lambda: nn.Linear(8, 4, dtype=torch.bfloat16), (SEQUENCE.bfloat16(),)),
}


def same(left, right):
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    return left == right if left is None else all(same(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_modules_of_torch_nn_come_back_and_compute_the_same(kind):
    make, inputs = MODULES[kind]
    module = make().eval()
    again = load(saved(module))
    assert repr(again) == repr(module)
    assert not again.training
    assert same(again(*inputs), module(*inputs))
    again.train()(*inputs)


def test_containers_of_parameters_come_back():
    module = nn.ModuleDict({"a": nn.ModuleList([nn.ReLU()]), "b": nn.ParameterDict({"x": nn.Parameter(torch.ones(2))})})
    again = load(saved(module))
    assert torch.equal(again["b"]["x"], torch.ones(2))
    assert len(load(saved(nn.ParameterList([nn.Parameter(torch.ones(1))])))) == 1


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_come_back(zipped):
    state = {**nn.BatchNorm1d(3).state_dict(), "tag": nn.Parameter(torch.ones(1))}
    state["tag"]._is_initialized = True  # as transformers marks parameters
    again = load(saved(state, _use_new_zipfile_serialization=zipped))
    assert same(list(again.values()), list(state.values()))


def test_every_dtype_comes_back():
    kinds = (torch.float16, torch.bfloat16, torch.int8, torch.uint16, torch.bool, torch.complex64, torch.float8_e4m3fn)
    state = {str(kind): torch.ones(2).to(kind) for kind in kinds}
    assert [tensor.dtype for tensor in load(saved(state)).values()] == list(kinds)


class Hook(nn.Module):
    pass


def with_forward():
    module = nn.Linear(1, 1)
    module.forward = print
    return module


def with_hook():
    module = nn.Linear(1, 1)
    module.register_forward_hook(print)
    return module


NAMED = {
    "a class of the user": (Hook, r"test_safe_pickle\.Hook"),
    "numpy": (lambda: {"accuracy": np.float64(0.5)}, r"numpy.*scalar"),
    "a namespace": (lambda: {"options": argparse.Namespace(a=1)}, r"argparse\.Namespace"),
    "a sparse tensor": (lambda: {"a": torch.eye(2).to_sparse()}, "_rebuild_sparse_tensor"),
    "a forward": (with_forward, r"builtins\.print"),
    "a hook": (with_hook, r"builtins\.print"),
    "optimizer class": (lambda: {"o": torch.optim.SGD([nn.Parameter(torch.ones(1))])}, r"torch\.optim\.sgd\.SGD"),
    "many": (lambda: [Hook(), argparse.Namespace(), np.float64(1), np.int64(1), np.ones(1)], "and 4 more"),
}


@pytest.mark.parametrize("what", NAMED)
def test_other_names_are_refused_and_named(what):
    make, name = NAMED[what]
    with pytest.raises(UntrustedError, match=name) as caught:
        load(saved(make()))
    assert "--trust" in str(caught.value)
    assert "torch.export.save" in str(caught.value)
    assert "model.pt" in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"state_dict": {"a": torch.ones(1)}, "x": p}])
def test_a_payload_does_not_run(tmp_path, zipped, wrap):
    marker = tmp_path / "marker"
    file = saved(wrap(Payload(marker)), _use_new_zipfile_serialization=zipped)
    with pytest.raises(UntrustedError, match=rf"{os.mkdir.__module__}\.mkdir"):
        load(file)
    assert not marker.exists()
    torch.load(file, weights_only=False) if file.seek(0) == 0 else None
    assert marker.exists(), "the attack is not one"


def test_a_payload_between_the_parts_of_the_old_format_does_not_run(tmp_path):
    marker = tmp_path / "marker"
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, Payload(marker))]
    with pytest.raises(UntrustedError, match="mkdir"):
        load(io.BytesIO(b"".join(parts) + pickle.dumps({}, 2) * 2))
    assert not marker.exists()


def stream(*instructions):
    """A zip file of torch.save whose pickle is written by hand."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    data = b"\x80\x02" + b"".join(instructions) + b"."
    writer.write_record("data.pkl", data, len(data))
    writer.write_end_of_file()
    return buffer


def glob(module, name):
    return f"c{module}\n{name}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


LINEAR, RELU = glob("torch.nn.modules.linear", "Linear"), glob("torch.nn.functional", "relu")
HAND_WRITTEN = {
    "the constructor of a module": stream(LINEAR, b"(K\x02K\x02tR"),
    "arguments of __new__": stream(LINEAR, b"K\x02\x85\x81"),
    "a call of a function": stream(RELU, b"K\x02\x85R"),
    "state of a class": stream(LINEAR, b"}", text("forward"), RELU, b"sb"),
    "state of a function": stream(RELU, b"}", text("__code__"), b"K\x01sb"),
    "slots of a function": stream(RELU, b"(}}", text("__code__"), b"K\x01stb"),
    "a module called through a rebuild function": stream(
        glob("torch._tensor", "_rebuild_from_type_v2"), b"(", LINEAR, b")\x81", LINEAR, b")", b"}tR"
    ),
    "an item of a module": stream(LINEAR, b")\x81", text("a"), b"K\x01s"),
    "a shadowing forward": stream(LINEAR, b")\x81}(", text("forward"), RELU, b"ub"),
    "a function instead of a tensor": stream(b"}", text("weight"), RELU, b"s"),
    "a class instead of a tensor": stream(b"}", text("weight"), LINEAR, b"s"),
    "the module os": stream(glob("os", "system"), text("true"), b"\x85R"),
    "an attribute of an import": stream(glob("torch", "os.system"), text("true"), b"\x85R"),
    "a storage of a module": stream(b"(", text("module"), LINEAR, text("a"), text("b"), b"tQ"),
    "an extension": stream(b"\x82\x01"),
    "a name from the stack": stream(text("posix"), text("system"), b"\x93", text("true"), b"\x85R"),
    "an instance of old": stream(b"(", text("true"), b"iposix\nsystem\n"),
}


@pytest.mark.parametrize("what", HAND_WRITTEN)
def test_hand_written_instructions_are_refused(what):
    with pytest.raises(InputError, match=r"model\.pt"):
        load(HAND_WRITTEN[what])


def test_other_libraries_names_are_not_used(tmp_path):
    torch.serialization.add_safe_globals([Hook])
    try:
        with pytest.raises(UntrustedError, match="Hook"):
            load(saved(Hook()))
        assert Hook in torch.serialization.get_safe_globals()
    finally:
        torch.serialization.clear_safe_globals()


@pytest.mark.parametrize("protocol", [4, 5])
def test_another_protocol_is_refused_with_the_reason(protocol):
    with pytest.raises(UntrustedError, match="pickle_protocol"):
        load(saved({"a": torch.ones(1)}, pickle_protocol=protocol))


def test_a_module_in_the_old_format_is_refused_with_the_reason():
    with pytest.raises(UntrustedError, match=r"torch < 1\.6"):
        load(saved(nn.Linear(1, 1), _use_new_zipfile_serialization=False))


@pytest.mark.parametrize("cut", [0.02, 0.1, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_of_the_old_format_is_refused(cut):
    data = saved(nn.Linear(8, 8).state_dict(), _use_new_zipfile_serialization=False).getvalue()
    with pytest.raises(InputError, match=r"model\.pt"):
        load(io.BytesIO(data[: int(len(data) * cut)]))


@pytest.mark.parametrize("data", [b"", b"junk", b"\x80\x02]" + b"]a" * 10, b"\xff" * 100, b"\x80\x02" + b"(" * 9999])
def test_broken_instructions_are_refused(data):
    with pytest.raises(InputError, match=r"model\.pt is damaged"):
        safe_pickle.scan(data, "model.pt")


def test_deeply_nested_data_is_refused():
    with pytest.raises(InputError, match="nested"):
        load(stream(b"]" * 5000 + b"a" * 4999))


def test_a_huge_storage_is_refused():
    pid = (
        b"("
        + text("storage")
        + glob("torch", "FloatStorage")
        + text("0")
        + text("cpu")
        + b"\x8a\x05\xff\xff\xff\xff\x7ftQ"
    )
    with pytest.raises(InputError, match="damaged"):
        load(stream(glob("torch._utils", "_rebuild_tensor"), b"(", pid, b"K\x00K\x01\x85K\x01\x85tR"))


def test_plain_data_knows_no_modules(tmp_path):
    assert safe_pickle.load_plain(saved(((torch.ones(1),), {"a": [1]})).getvalue(), tmp_path)[1] == {"a": [1]}
    for value, name in ((nn.ReLU(), "ReLU"), (Payload(tmp_path / "marker"), "mkdir")):
        with pytest.raises(UntrustedError, match=name):
            safe_pickle.load_plain(saved(value).getvalue(), tmp_path)
    with pytest.raises(InputError):
        safe_pickle.load_plain(b"PK\x03\x04junk", tmp_path)
    assert not (tmp_path / "marker").exists()


def test_plain_tensors_may_be_marked_as_of_any_size(tmp_path):
    marked = torch.ones(2)
    marked._specialize_on = {0: []}
    assert torch.equal(safe_pickle.load_plain(saved(marked).getvalue(), tmp_path), marked)
    for odd in ({0: [1]}, {"a": []}, [1], {0: [nn.ReLU]}):
        marked._specialize_on = odd
        with pytest.raises(UntrustedError, match=r"_specialize_on|ReLU"):
            safe_pickle.load_plain(saved(marked).getvalue(), tmp_path)
    calling = glob("torch._tensor", "_rebuild_from_type_v2"), b"(", glob("torch", "Size"), glob("torch", "Tensor")
    with pytest.raises(InputError):
        safe_pickle.load_plain(stream(*calling, b")}tR").getvalue(), tmp_path)


def test_trusted_files_say_which_import_is_missing(tmp_path, monkeypatch):
    (tmp_path / "their_code.py").write_text("from torch import nn\nclass Net(nn.Linear): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import their_code

    file = saved(their_code.Net(2, 2))
    assert type(safe_pickle.load_trusted(file, "model.pt")) is their_code.Net
    monkeypatch.delattr(their_code, "Net")
    with pytest.raises(InputError, match=r"model\.pt names a class .*Net"):
        safe_pickle.load_trusted(file, "model.pt")
    monkeypatch.delitem(__import__("sys").modules, "their_code")
    (tmp_path / "their_code.py").unlink()
    with pytest.raises(InputError, match=r"model\.pt needs the Python module 'their_code'.*in the folder"):
        safe_pickle.load_trusted(file, "model.pt")
    with pytest.raises(InputError, match=r"model\.pt cannot be unpickled"):
        safe_pickle.load_trusted(io.BytesIO(b"junk"), "model.pt")


def test_a_trusted_module_is_found_where_the_user_stands(tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text("from torch import nn\n\nclass Net(nn.Linear):\n    pass\n")
    saving = "import torch, my_nets; torch.save(my_nets.Net(2, 3), 'net.pt')"
    subprocess.run([sys.executable, "-c", saving], cwd=tmp_path, check=True)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "net.pt").open("rb") as file:
        assert type(safe_pickle.load_trusted(file, tmp_path / "net.pt")).__name__ == "Net"
