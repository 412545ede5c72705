"""A Prefect server for all tests of flows, with a database of its own."""

import sys

import pytest
from absl import logging

# Prefect's first import closes all handlers of logs; absl's would close the standard error of pytest.
logging.get_absl_handler().python_handler.setStream(sys.__stderr__)

from prefect.testing.utilities import prefect_test_harness  # noqa: E402


@pytest.fixture(scope="session")
def prefect():
    with pytest.MonkeyPatch.context() as patch:  # the server records what tasks did a second later, not five
        patch.setenv("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL", "1")
        with prefect_test_harness(server_startup_timeout=200):
            yield
