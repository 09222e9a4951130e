import pytest
import yaml

from sparsify import errors

STATUS = {
    "GateError": 1,
    "SweepError": 1,
    "ContractError": 3,
    "ExportError": 3,
}  # every other error is wrong use or bad input: 2


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name[0].isupper()])
def test_every_error_is_ours_and_has_its_exit_status(name):
    error = getattr(errors, name)
    assert issubclass(error, errors.SparsifyError)
    assert error.exit_status == STATUS.get(name, 2)


def test_untrusted_input_is_bad_input():
    assert issubclass(errors.UntrustedError, errors.InputError)


def test_a_gate_has_the_report_of_the_run():
    assert errors.GateError("Too slow.", {"a": 1}).report == {"a": 1}
    assert errors.GateError("Too slow.").report is None


@pytest.mark.parametrize(
    ("text", "why"),
    [("a: [1, 2", "line 1, column 9: expected ',' or ']'"), ("a: 1\n b: 2", "line 2, column 3: mapping values")],
)
def test_where_a_file_is_not_yaml(text, why):
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.safe_load(text)
    assert errors.unreadable(caught.value).startswith(why)


def test_why_a_file_cannot_be_read(tmp_path):
    with pytest.raises(OSError, match="No such") as caught:
        (tmp_path / "none").read_text("utf-8")
    assert errors.unreadable(caught.value) == "No such file or directory"
    assert errors.unreadable(ValueError("Odd.")) == "Odd"
