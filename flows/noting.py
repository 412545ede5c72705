"""Each run of a flow is noted in the store, where watching sees how it ended."""

from typing import Any

from prefect import get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from sqlalchemy.exc import SQLAlchemyError

from recloop.schema import now_us
from recloop.settings import places
from recloop.store import StoreError, fault_of, open_store
from recloop.watch.notes import note_run


def noted(flow: Flow, run: FlowRun, state: State) -> None:
    """For Prefect's hooks; a store that cannot be written stops no flow."""
    seconds = run.total_run_time.total_seconds()
    try:
        note_run(open_store(places().store), flow.name, state.is_completed(), seconds, now_us())
    except (StoreError, SQLAlchemyError) as error:
        get_run_logger().warning("this run is not noted: %s", fault_of(error))


NOTED: dict[str, Any] = {"on_completion": [noted], "on_failure": [noted], "on_crashed": [noted]}
