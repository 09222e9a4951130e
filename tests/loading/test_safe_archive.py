import contextlib
import io
import json
import sys
import zipfile

import pytest
import torch
from helpers.hostile import Payload, as_json, code, repack, save_exported, substitute

from sparsify.errors import InputError, UntrustedError
from sparsify.loading.safe_archive import read_exported

MODEL, WEIGHTS, CONSTANTS = "models/model.json", "model_weights_config.json", "model_constants_config.json"


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return save_exported(tmp_path_factory.mktemp("archive") / "net.pt2")


def read(path, trust=False):
    with path.open("rb") as file:
        return read_exported(file, path, trust=trust)


def pickled(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_an_honest_archive_is_loaded(honest):
    before = honest.read_bytes()
    exported = read(honest)
    x = torch.randn(8, 4)
    assert torch.equal(exported.module()(x, mode="mean")["y"], torch.export.load(honest).module()(x, mode="mean")["y"])
    assert exported.example_inputs[1] == {"mode": "mean"}
    assert honest.read_bytes() == before


def test_an_archive_of_any_batch_is_loaded(tmp_path):
    """Dim.DYNAMIC leaves an attribute on the example inputs, which are pickled with it."""
    free = ({0: torch.export.Dim.DYNAMIC},)
    exported = torch.export.export(torch.nn.Linear(4, 2), (torch.randn(3, 4),), dynamic_shapes=free)
    torch.export.save(exported, tmp_path / "a.pt2")
    x = torch.randn(5, 4)
    assert torch.equal(read(tmp_path / "a.pt2").module()(x), exported.module()(x))


def test_an_archive_without_inputs_and_with_an_expanded_buffer_is_loaded(tmp_path):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.ones(1).expand(1000, 1000))

        def forward(self, x):
            return x + self.mask.sum()

    exported = torch.export.export(Net(), (torch.ones(1),))
    exported.example_inputs = None
    torch.export.save(exported, tmp_path / "a.pt2")
    assert read(tmp_path / "a.pt2").example_inputs is None


# Each attack: edits of the archive's entries, entries to add, and what must be called for the code to run.
def program(change):
    return lambda marker: ({MODEL: as_json(lambda d: change(d, code(marker)))}, {})


def size(document, source):
    values = document["graph_module"]["graph"]["sym_int_values"]
    next(value for value in values.values() if "as_expr" in value)["as_expr"]["expr_str"] = source


def out_spec(kind, context):
    leaf = {"type": None, "context": None, "children_spec": []}
    return json.dumps([1, {"type": kind, "context": context, "children_spec": [leaf]}])


def factory(document, _source):
    module = {"default_factory_module": "their_code", "default_factory_name": "f", "dict_context": ["y"]}
    signature(document)["out_spec"] = out_spec("collections.defaultdict", module)


def enumeration(document, _source):
    keys = json.dumps([{"__enum__": True, "fqn": "their_code:f", "name": "y"}])
    signature(document)["out_spec"] = out_spec("builtins.dict", keys)


def signature(document):
    return document["graph_module"]["module_call_graph"][0]["signature"]


def function(document, _source):
    # This one passes torch's verifier; it imports the module that its first argument names.
    target = "torch.export.custom_ops._call_custom_autograd_function_in_pre_dispatch"
    node = {"target": target, "inputs": [{"name": "", "arg": {"as_string": "their_code.f"}, "kind": 1}]}
    document["graph_module"]["graph"]["nodes"].insert(0, {**node, "outputs": [{"as_none": True}], "metadata": {}})


def submodule(document, source):
    graph = {"inputs": [], "outputs": [], "nodes": [], "tensor_values": {}, "sym_int_values": {}, "sym_bool_values": {}}
    hidden = "".join(f"chr({ord(letter)})+" for letter in source).rstrip("+")  # a dot would split the name
    argument = {"as_graph": {"name": f'training",eval({hidden})) or ("', "graph": graph}}
    node = {"target": "torch.ops.higher_order.wrap", "inputs": [{"name": "", "arg": argument, "kind": 1}]}
    document["graph_module"]["graph"]["nodes"].insert(0, {**node, "outputs": [{"as_none": True}], "metadata": {}})


def use_pickle(document):
    for payload in document["config"].values():
        payload["use_pickle"] = True


def one_constant(path_name):
    payload = {"path_name": path_name, "is_param": False, "use_pickle": True, "tensor_meta": None}
    return {CONSTANTS: as_json(lambda d: d.update(config={"k": payload}))}


ATTACKS = {
    "a size": program(size),
    "a guard": program(lambda d, source: d.update(guards_code=[source])),
    "a default argument": lambda marker: ({MODEL: substitute("mode", f"mode={code(marker)}")}, {}),
    "an imported factory": program(factory),
    "an imported enumeration": program(enumeration),
    "a function of torch": program(function),
    "a submodule's name": program(submodule),
    "example inputs": lambda marker: ({"sample_inputs/model.pt": lambda _: pickled(((Payload(marker),), {}))}, {}),
    "a pickled weight": lambda marker: (
        {WEIGHTS: as_json(use_pickle), "weights/weight_0": lambda _: pickled(Payload(marker))},
        {},
    ),
    "a pickled constant": lambda marker: (
        one_constant("tensor_0"),
        {"data/constants/tensor_0": pickled(Payload(marker))},
    ),
    "an opaque object": lambda marker: (
        one_constant("opaque_obj_0"),
        {"data/constants/opaque_obj_0": __import__("pickle").dumps(Payload(marker))},
    ),
    "weights of an older version": lambda marker: ({}, {"data/weights/model.pt": pickled({"w": Payload(marker)})}),
    "constants of an older version": lambda marker: ({}, {"data/constants/model.pt": pickled({"w": Payload(marker)})}),
}


@pytest.mark.parametrize("what", ATTACKS)
@pytest.mark.filterwarnings("ignore")
def test_an_attack_is_refused_and_would_have_worked(what, honest, tmp_path, monkeypatch, caplog):
    marker = tmp_path / "marker"
    (tmp_path / "their_code.py").write_text(f"{code(marker)}\ndef f(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    edits, add = ATTACKS[what](marker)
    path = repack(honest, tmp_path / "evil.pt2", edits, add)

    with pytest.raises(UntrustedError) as caught:
        read(path)
    assert not marker.exists()
    message = str(caught.value)
    assert message.startswith(f"{path} could run code when it is loaded: its entry ")
    assert "--trust" in message
    assert "torch.export.save" in message

    with contextlib.suppress(Exception):  # the control: without the check, the code runs, whatever else breaks
        torch.export.load(path).module()(torch.randn(4, 4), mode="mean")
    sys.modules.pop("their_code", None)
    assert marker.exists(), "the attack is not one"


def test_an_old_program_behind_a_broken_new_one_does_not_run(honest, tmp_path):
    """torch.export.load reads the file again as an old archive, through pickle, when the new one raises."""
    marker = tmp_path / "marker"
    path = repack(honest, tmp_path / "evil.pt2", {MODEL: as_json(lambda d: d.update(schema_version={"major": 99}))})
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", pickled({"a": Payload(marker)}))
        archive.writestr("serialized_exported_program.json", zipfile.ZipFile(honest).read(f"net/{MODEL}"))
        archive.writestr("version", "8.20")
    with pytest.raises(UntrustedError, match=r"torch < 2\.8"):
        read(path)
    assert not marker.exists()
    with contextlib.suppress(Exception):
        torch.export.load(path)
    assert marker.exists(), "the attack is not one"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("data/aotinductor/model/model.wrapper.so", "compiled code"),
        ("models/other.json", "not a part of an exported program"),
        ("data/constants/custom_obj_0", "not a part of an exported program"),
        ("executorch/model.pte", "not a part of an exported program"),
        ("constants.pkl", "not a part of an exported program"),
    ],
)
def test_other_entries_are_refused(honest, tmp_path, name, match):
    with pytest.raises(UntrustedError, match=match):
        read(repack(honest, tmp_path / "a.pt2", add={name: b"x"}))


def test_keys_of_inputs_that_would_be_written_into_source_are_refused(honest, tmp_path):
    inputs = pickled(((torch.ones(1),), {"a": {"x'];print()": torch.ones(1)}}))
    path = repack(honest, tmp_path / "a.pt2", {"sample_inputs/model.pt": lambda _: inputs})
    with pytest.raises(UntrustedError, match="name of an input"):
        read(path)


def test_inputs_of_a_device_that_is_not_here_are_refused(honest, tmp_path):
    """torch.export.load unpickles inputs without limits when the careful way fails, for whatever reason."""
    cpu, cuda = (b"X" + len(name).to_bytes(4, "little") + name for name in (b"cpu", b"cuda:99"))
    edit = {"data.pkl": lambda data: data.replace(cpu, cuda)}

    def on_cuda(data):
        (tmp_path / "inputs.pt").write_bytes(data)
        return repack(tmp_path / "inputs.pt", tmp_path / "moved.pt", edit).read_bytes()

    path = repack(honest, tmp_path / "a.pt2", {"sample_inputs/model.pt": on_cuda})
    with pytest.raises(InputError, match=r"a\.pt2 has tensors of another device"):
        read(path)


def test_a_trusted_archive_is_not_searched(honest, tmp_path):
    marker = tmp_path / "marker"
    path = repack(honest, tmp_path / "a.pt2", *program(lambda d, source: d.update(guards_code=[source]))(marker))
    assert read(path, trust=True).example_inputs
    path = repack(honest, tmp_path / "b.pt2", {"sample_inputs/model.pt": lambda _: pickled(((Payload(marker),), {}))})
    read(path, trust=True)
    assert marker.exists()


def test_an_archive_of_the_old_layout_needs_trust(honest, tmp_path):
    from torch._export.serde.serialize import serialize

    parts = serialize(torch.export.load(honest))
    with zipfile.ZipFile(tmp_path / "old.pt2", "w") as archive:
        archive.writestr("version", "8.20")
        archive.writestr("serialized_exported_program.json", parts.exported_program)
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", getattr(parts, name))
    with pytest.raises(UntrustedError, match=r"torch < 2\.8"):
        read(tmp_path / "old.pt2")
    assert read(tmp_path / "old.pt2", trust=True).example_inputs


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("cut", [0.01, 0.3, 0.6, 0.9, 0.99, 0.999])
def test_a_truncated_archive_is_refused(honest, tmp_path, cut, trust):
    data = honest.read_bytes()
    (tmp_path / "a.pt2").write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(InputError, match=r"a\.pt2 is a damaged or incomplete zip archive"):
        read(tmp_path / "a.pt2", trust)


@pytest.mark.parametrize("missing", [MODEL, WEIGHTS, CONSTANTS, "data/sample_inputs/model.pt", "weights/weight_0"])
def test_an_archive_without_one_of_its_parts_is_refused(honest, tmp_path, missing):
    path = tmp_path / "a.pt2"
    with zipfile.ZipFile(honest) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if not name.endswith(missing):
                new.writestr(name, old.read(name))
    with pytest.raises(InputError, match=r"a\.pt2"):
        read(path)


def scaled(document):
    document["config"]["linear.weight"]["tensor_meta"]["sizes"] = [{"as_int": 2**40}]
    document["config"]["linear.weight"]["tensor_meta"]["strides"] = [{"as_int": 0}]


@pytest.mark.parametrize(
    "edits",
    [
        {MODEL: lambda _: b"{"},
        {MODEL: lambda _: b"\xff\xfe"},
        {MODEL: lambda _: b"[" * 100_000},
        {MODEL: lambda _: b"[1]"},
        {MODEL: lambda _: b"1" * 10_000},
        {MODEL: as_json(lambda d: d["graph_module"].pop("signature"))},
        {MODEL: as_json(lambda d: d.update(schema_version={"major": 99, "minor": 0}))},
        {WEIGHTS: lambda _: b'{"config": [1]}'},
        {WEIGHTS: as_json(lambda d: d["config"]["linear.weight"].pop("tensor_meta"))},
        {WEIGHTS: as_json(scaled)},
        {"weights/weight_0": lambda _: b""},
        {"weights/weight_0": lambda data: data[:-1]},
        {"sample_inputs/model.pt": lambda data: data[: len(data) // 2]},
        {"archive_version": lambda _: b"7"},
    ],
)
def test_broken_content_is_refused(honest, tmp_path, edits):
    with pytest.raises(InputError, match=r"a\.pt2"):
        read(repack(honest, tmp_path / "a.pt2", edits))


def test_compressed_entries_are_refused(honest, tmp_path):
    path = repack(honest, tmp_path / "a.pt2", compression=zipfile.ZIP_DEFLATED)
    for trust in (True, False):
        with pytest.raises(InputError, match="compress"):
            read(path, trust)
