import pytest
import torch
from torch import nn

from sparsify.errors import InputError
from sparsify.loading.torchscript import convert, read_script

pytestmark = pytest.mark.filterwarnings("ignore")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()


@pytest.mark.parametrize("compile_", [torch.jit.script, lambda m: torch.jit.trace(m, torch.ones(2, 3, 6, 6))])
def test_a_script_becomes_a_program_with_parameters(tmp_path, compile_):
    module, path = network(), tmp_path / "a.pt"
    compile_(module).save(path)
    with path.open("rb") as file:
        script = read_script(file, path)
    exported = convert(script, (torch.ones(2, 3, 6, 6),), {}, path)
    assert {name for name, _ in exported.named_parameters()} == {name for name, _ in module.named_parameters()}
    x = torch.randn(5, 3, 6, 6)
    assert torch.equal(exported.module()(x), module(x))


def test_what_cannot_be_read_or_converted_is_an_error(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"PK\x03\x04junk")
    with pytest.raises(InputError, match="cannot load"), path.open("rb") as file:
        read_script(file, path)
    with pytest.raises(InputError, match=r"cannot convert.*torch\.export\.save"):
        convert(torch.jit.script(nn.Linear(2, 2)), (torch.ones(3, 5),), {}, path)
