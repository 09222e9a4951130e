import numpy as np
import onnx
import pytest
from helpers.onnx_files import model_of, rand, save
from onnx import TensorProto, helper

from sparsify.errors import InputError
from sparsify.load import load
from sparsify.onnx_in.reading import read_model

X = {"x": (1, ["batch", 4])}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / "model.onnx"


def model():
    return model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], X, ["y"], {"w": rand(4, 3)})


def external(location, data=None, folder=None, **entries):
    """Return a model whose weight lies in another file, which is written where a folder is given."""
    made = model()
    tensor = made.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    if folder is not None:
        (folder / location).write_bytes(raw if data is None else data)
    return made


@pytest.mark.parametrize("dims", [[10**12], [10**6, 10**6], [2**62, 2**62], [4, 4], [2, 3]])
def test_shapes_that_the_data_does_not_fill_are_refused(dims, path):
    made = model()
    made.graph.initializer[0].dims[:] = dims
    with pytest.raises(InputError, match=r"constant 'w' has the shape .*, which takes .* bytes; there are 48"):
        read_model(save(made, path))


def test_negative_sizes_are_refused(path):
    made = model()
    made.graph.initializer[0].dims[:] = [-4, -3]
    with pytest.raises(InputError, match="negative size -4"):
        read_model(save(made, path))


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, 77])
def test_types_that_are_not_read_are_refused(kind, path):
    made = model()
    made.graph.initializer[0].data_type = kind
    with pytest.raises(InputError, match="which sparsify does not read"):
        read_model(save(made, path))


def test_a_constant_of_a_node_is_checked_as_well(path):
    tensor = helper.make_tensor("c", TensorProto.FLOAT, [2], [1.0, 2.0])
    tensor.dims[:] = [10**10]
    nodes = [helper.make_node("Constant", [], ["c"], value=tensor), helper.make_node("Add", ["x", "c"], ["y"])]
    with pytest.raises(InputError, match="takes 40000000000 bytes; there are 8"):
        read_model(save(model_of(nodes, X, ["y"]), path))


@pytest.mark.parametrize("typed", [True, False])
def test_values_may_be_bytes_or_numbers(typed, path):
    made = model_of([helper.make_node("Add", ["x", "c"], ["y"])], X, ["y"])
    value = helper.make_tensor("c", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0], raw=False)
    made.graph.initializer.append(value if typed else onnx.numpy_helper.from_array(rand(4), "c"))
    assert list(load(save(made, path)).parameters) == ["c"]


def test_data_beside_the_file_is_read(path):
    found = load(save(external("w.data", folder=path.parent), path))
    assert np.array_equal(found.parameters["w"].detach().numpy(), rand(4, 3).T)


def test_data_at_an_offset_is_read(path):
    made = external("w.data", b"\0" * 64 + rand(4, 3).tobytes(), path.parent, offset=64, length=48)
    assert np.array_equal(load(save(made, path)).parameters["w"].detach().numpy(), rand(4, 3).T)


@pytest.mark.parametrize("location", ["../secret", "../models/../secret", "a/../../secret", "/etc/passwd"])
def test_data_outside_the_folder_is_refused(location, path):
    (path.parent.parent / "secret").write_bytes(rand(4, 3).tobytes())
    with pytest.raises(InputError, match="outside the folder of the model"):
        read_model(save(external(location), path))


def test_a_link_that_leads_outside_is_refused(path):
    secret = path.parent.parent / "secret"
    secret.write_bytes(rand(4, 3).tobytes())
    (path.parent / "w.data").symlink_to(secret)
    with pytest.raises(InputError, match="outside the folder of the model"):
        read_model(save(external("w.data"), path))


@pytest.mark.parametrize("location", ["gone.data", ".", "a\0b"])
def test_data_that_is_not_there_is_refused(location, path):
    with pytest.raises(InputError):
        read_model(save(external(location), path))


@pytest.mark.parametrize(
    ("entries", "reason"),
    [({"offset": 1}, "which has 48"), ({"offset": -8}, "which has 48"), ({"length": 10**13}, "which has 48"),
     ({"offset": "many"}, "not a number"), ({"length": 44}, "takes 48 bytes; there are 44")],
)  # fmt: skip
def test_places_that_do_not_fit_the_file_are_refused(entries, reason, path):
    with pytest.raises(InputError, match=reason):
        read_model(save(external("w.data", folder=path.parent, **entries), path))
