import pytest


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory):
    """One cache folder for the session: regions that several tests use are compiled once."""
    return tmp_path_factory.mktemp("kernels")
