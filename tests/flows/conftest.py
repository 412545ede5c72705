"""A Prefect server for all tests of flows, with a database of its own."""

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session")
def prefect():
    with prefect_test_harness():
        yield
