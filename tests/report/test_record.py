import getpass
import json
import socket

import torch

from sparsify.report import record


def test_versions_and_processor():
    found = record.environment()
    assert found["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found["cores"] >= 1
    assert found["python"].startswith("3.")
    assert all(found[key] for key in ("system", "processor"))
    assert json.loads(json.dumps(found)) == found


def test_nothing_names_the_machine_or_its_user():
    text = json.dumps(record.environment())
    assert socket.gethostname() not in text
    assert f'"{getpass.getuser()}' not in text


def test_a_package_under_another_name_is_no_reason_to_fail(monkeypatch):
    monkeypatch.setattr(record, "_PACKAGES", ("torch", "a-package-that-is-not-installed"))
    assert record.environment()["packages"]["a-package-that-is-not-installed"] is None
