import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from helpers.hostile import save_exported

from sparsify.errors import InputError
from sparsify.loading import safe_zip
from sparsify.loading.safe_zip import entries, open_archive


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return save_exported(tmp_path_factory.mktemp("zip") / "net.pt2")


def check(path):
    with path.open("rb") as file:
        return open_archive(file, path)


def test_an_honest_archive_is_opened(honest):
    with honest.open("rb") as file:
        archive = open_archive(file, honest)
        assert archive.read("archive_format") == b"pt2"
        assert archive.sizes["data/weights/weight_0"] == 2 * 4 * 4
        with pytest.raises(InputError, match=r"net\.pt2 is damaged: its entry models/other\.json is missing"):
            archive.read("models/other.json")


def test_an_entry_that_is_too_large_to_be_text_is_not_read(honest, monkeypatch):
    monkeypatch.setattr(safe_zip, "_MOST_TEXT", 100)
    with honest.open("rb") as file, pytest.raises(InputError, match="too large"):
        open_archive(file, honest).read("models/model.json")


def test_too_many_entries_are_refused(honest, monkeypatch):
    monkeypatch.setattr(safe_zip, "_MOST_ENTRIES", 3)
    with pytest.raises(InputError, match=r"net\.pt2 has \d+ zip entries"):
        check(honest)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/archive_format", "pt2")
        archive.writestr("a/data.pkl", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="compress"):
        check(path)


def rewritten_directory(honest, path, change):
    """Copy an archive and change its directory: `change` gets the offsets of the directory's records in the data."""
    shutil.copy(honest, path)
    data = bytearray(path.read_bytes())
    start = zipfile.ZipFile(honest).start_dir
    records = []
    while data[start : start + 4] == b"PK\x01\x02":
        records.append(start)
        start += 46 + sum(int.from_bytes(data[start + at : start + at + 2], "little") for at in (28, 30, 32))
    change(data, records)
    path.write_bytes(data)
    return path


def overlapping(data, records):
    data[records[1] + 42 : records[1] + 46] = data[records[0] + 42 : records[0] + 46]  # the offset of the local header


def enlarged(data, records):
    data[records[0] + 20 : records[0] + 28] = (2**31).to_bytes(4, "little") * 2  # both sizes


def zero_in_name(data, records):
    data[records[0] + 46 + 8] = 0  # where C ends a name


def size_changed(data, records):
    data[records[0] + 24] -= 1  # the size of what is unpacked, not of what is stored


@pytest.mark.parametrize("change", [overlapping, enlarged])
def test_entries_that_overlap_or_claim_too_much_are_refused(honest, tmp_path, change):
    path = rewritten_directory(honest, tmp_path / "a.pt2", change)
    with pytest.raises(InputError, match=r"a\.pt2 is damaged"), path.open("rb") as file:
        entries(file, path)


@pytest.mark.parametrize("change", [zero_in_name, size_changed])
def test_directories_that_readers_could_take_differently_are_refused(honest, tmp_path, change):
    with pytest.raises(InputError, match=r"a\.pt2"):
        check(rewritten_directory(honest, tmp_path / "a.pt2", change))


def test_readers_that_disagree_are_refused(honest, monkeypatch):
    class Other:
        def __init__(self, _file):
            pass

        def get_all_records(self):
            return ["archive_format"]

    monkeypatch.setattr(torch._C, "PyTorchFileReader", Other)
    with pytest.raises(InputError, match="two zip readers find different entries"):
        check(honest)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(honest, tmp_path):
    for name in ("net/models/model.json", "net/MODELS/model.json"):  # torch's reader ignores the case
        path = Path(shutil.copy(honest, tmp_path / "a.pt2"))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"{}")
        with pytest.raises(InputError, match="same name"):
            check(path)


def test_bytes_before_the_archive_are_refused(honest, tmp_path):
    (tmp_path / "a.pt2").write_bytes(b"PK\x03\x04" + bytes(100) + honest.read_bytes())
    with pytest.raises(InputError, match=r"a\.pt2"):
        check(tmp_path / "a.pt2")


def test_a_flipped_bit_is_found(honest, tmp_path):
    """torch's reader does not look at checksums."""
    data = bytearray(honest.read_bytes())
    data[data.index(b"pt2")] ^= 1
    (tmp_path / "flipped.pt2").write_bytes(data)
    with pytest.raises(InputError, match=r"its entry 'net/archive_format' does not have the checksum"):
        check(tmp_path / "flipped.pt2")
    torch.save({"weight": torch.ones(64)}, tmp_path / "state.pt")
    data = bytearray((tmp_path / "state.pt").read_bytes())
    data[data.index(torch.ones(64).numpy().tobytes()) + 5] ^= 1
    (tmp_path / "state.pt").write_bytes(data)
    with pytest.raises(InputError, match=r"state.pt is damaged: its entry 'state/data/0' does not have the checksum"):
        check(tmp_path / "state.pt")
