"""`sparsify plot`: a picture of what --work kept."""

import pytest
from helpers.command import sparsify
from helpers.sparse import Clusters, program_of

import sparsify as sp


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        sp.retrain(program_of(), "lth:steps=4it,rounds=2,controls=random", Clusters(), seed, work=f"w{seed}")
    return tmp_path


def test_it_writes_a_picture(folder):
    ran = sparsify("plot", "w0", "w1", "-o", "x.png")
    assert (ran.status, ran.err, ran.out) == (0, "", "wrote x.png\n")
    assert (folder / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "takes logs of retrainings"),
        (["w0", "-o", "x.jpg"], "x.jpg: the picture is a .png file"),
        (["nowhere"], "nowhere cannot be read: No such file"),
        (["w0", "-o", "no/x.png"], "the folder no does not exist"),
    ],
)
def test_what_is_wrong_is_said(folder, words, message):
    ran = sparsify("plot", *words)
    assert ran.status == 2
    assert message in ran.err
    assert not list(folder.glob("*.png"))
