import json

from helpers.command import sparsify

from sparsify import doctor
from sparsify.doctor import Finding


def test_it_prints_what_works(monkeypatch):
    found = [Finding("runtimes", "one", "works", "1.0"), Finding("runtimes", "two", "missing", "pip install 'two[x]'"),
             Finding("kernels", "three", "broken", "OSError: no")]  # fmt: skip
    monkeypatch.setattr(doctor, "examine", lambda: found)
    ran = sparsify("doctor")
    assert (ran.status, ran.err) == (0, "")
    assert [line.split() for line in ran.out.splitlines()[:3]] == [
        ["runtimes", "✓", "one", "1.0"],
        ["·", "two", "pip", "install", "'two[x]'"],
        ["kernels", "✗", "three", "OSError:", "no"],
    ]
    assert json.loads(sparsify("doctor", "--json").out)[2] == {
        "part": "kernels", "name": "three", "state": "broken", "text": "OSError: no",
    }  # fmt: skip
