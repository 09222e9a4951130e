import os
import signal
import stat
import subprocess
import sys

import pytest

from sparsify import atomic
from sparsify.atomic import check_new_folder, check_writable, writing, writing_folder
from sparsify.errors import InputError


def names(folder):
    return [path.name for path in folder.iterdir()]


def write(target, text="new"):
    with writing(target) as temporary:
        temporary.write_text(text)


def test_a_new_file_and_its_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.onnx")
    finally:
        os.umask(before)
    assert (tmp_path / "a.onnx").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "a.onnx").stat().st_mode) == 0o640
    assert names(tmp_path) == ["a.onnx"]


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    target = tmp_path / "a.onnx"
    target.write_text("old")
    target.chmod(0o604)
    write(target)
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o604


def test_the_old_file_stays_until_the_end_and_on_failure(tmp_path):
    target = tmp_path / "a.onnx"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), writing(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        assert target.read_text() == "old"
        assert names(tmp_path) == ["a.onnx"]
        _ = 1 / 0
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.onnx"]
    assert not temporary.exists()


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"a.onnx cannot be written: No such file"), writing(tmp_path / "a.onnx"):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("without_names", [True, False])
def test_a_full_disk_is_reported_and_leaves_the_old_file(tmp_path, monkeypatch, without_names):
    def full(*_):
        raise OSError(28, "No space left on device")

    if not without_names:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    monkeypatch.setattr(atomic.shutil, "copyfileobj", full)
    target = tmp_path / "a.onnx"
    target.write_text("old")
    with pytest.raises(InputError, match=r"a.onnx cannot be written: No space left on device"):
        write(target)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.onnx"]


def test_systems_without_nameless_files(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    write(tmp_path / "a.onnx")
    write(tmp_path / "a.onnx", "newer")
    assert (tmp_path / "a.onnx").read_text() == "newer"
    assert names(tmp_path) == ["a.onnx"]


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path):
    for target, message in (
        (tmp_path, "is a folder; name a file"),
        (tmp_path / "gone" / "a.onnx", r"the folder .*gone does not exist"),
        (os.devnull, "is not a regular file"),
    ):
        with pytest.raises(InputError, match=message):
            check_writable(target)
        with pytest.raises(InputError, match=message), writing(target):
            pytest.fail("the work must not start")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="is not writable"):
        check_writable(tmp_path / "a.onnx")


KILLED = """
import os, signal, sys
from sparsify import atomic

def stop(*_):
    os.kill(os.getpid(), int(sys.argv[2]))

with atomic.writing(sys.argv[1]) as temporary:
    temporary.write_bytes(b"x" * 100_000)
    if sys.argv[3] == "copying":
        copy = atomic.shutil.copyfileobj
        atomic.shutil.copyfileobj = lambda source, out: (out.write(source.read(50_000)), out.flush(), stop())
    else:
        stop()
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="a file needs a name on this system")
@pytest.mark.parametrize("when", ["working", "copying"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_the_old_file_and_nothing_beside_it(tmp_path, how, when):
    folder, scratch = tmp_path / "out", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    (folder / "a.onnx").write_text("old")
    command = [sys.executable, "-c", KILLED, str(folder / "a.onnx"), str(int(how)), when]
    done = subprocess.run(command, env={**os.environ, "TMPDIR": str(scratch)}, check=False)
    assert done.returncode == -how
    assert names(folder) == ["a.onnx"]
    assert (folder / "a.onnx").read_text() == "old"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(FileNotFoundError), writing_folder(target) as folder:
        (folder / "made" / "a").write_text("a")
    assert list(tmp_path.iterdir()) == []
    target.mkdir()  # an empty one may be there
    with writing_folder(target) as folder:
        (folder / "a").write_text("a")
        (folder / "a").chmod(0o600)
        assert not (target / "a").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    (tmp_path / "plain").touch()
    assert (target / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode
    for wrong, message in ((target, "is there already"), (tmp_path / "no" / "x", "does not exist")):
        with pytest.raises(InputError, match=message):
            check_new_folder(wrong)
