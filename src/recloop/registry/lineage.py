"""What a version's run says of where it comes from, for those who have no MLflow at hand."""

from mlflow import MlflowClient

from recloop.registry.versions import Registered
from recloop.store.lineage import Lineage

COUNTS = ("rows", "kept", "quarantined")


def lineage(client: MlflowClient, version: Registered) -> Lineage:
    """Of a registered version, as its run has it.

    Raises:
        MlflowException: the registry has no such run.
    """
    run = client.get_run(version.run_id)
    tags, metrics = run.data.tags, run.data.metrics
    used = [one.dataset for one in run.inputs.dataset_inputs] if run.inputs else []
    tables: dict[str, dict[str, int]] = {}
    for name, value in metrics.items():
        stage, _, rest = name.partition(".")
        table, _, count = rest.partition(".")
        if stage == "validation" and count in COUNTS:
            tables.setdefault(table, {})[count] = int(value)
    success = metrics.get("validation.success")
    return Lineage(
        policy=run.info.run_name or "",
        version=version.version,
        run_id=version.run_id,
        registered=run.info.start_time * 1000,
        data_version=used[0].digest if used else "",
        data_source=used[0].name.removesuffix(" snapshot") if used else "",
        git_commit=tags.get("git_commit", "unknown"),
        git_dirty=tags.get("git_dirty") == "true",
        valid=None if success is None else success == 1,
        tables=tables,
    )
