import pytest

from sparsify import errors

STATUS = {"GateError": 1, "ContractError": 3, "ExportError": 3}  # every other error is wrong use or bad input: 2


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name[0].isupper()])
def test_every_error_is_ours_and_has_its_exit_status(name):
    error = getattr(errors, name)
    assert issubclass(error, errors.SparsifyError)
    assert error.exit_status == STATUS.get(name, 2)


def test_untrusted_input_is_bad_input():
    assert issubclass(errors.UntrustedError, errors.InputError)
