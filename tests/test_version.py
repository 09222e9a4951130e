from importlib.metadata import version

import sparsify
from sparsify.version import __version__


def test_the_version_is_that_of_the_distribution():
    assert __version__ == version("sparsify-fx") == sparsify.__version__
