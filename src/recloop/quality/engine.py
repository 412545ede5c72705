"""Great Expectations on Polars frames: what a suite asks of the rows is found in one scan.

GX asks an execution engine for metrics in rounds: first the conditions, then, all at once, how many rows
fail each and the first of them. ``FrameEngine`` defers the conditions that ``conditions.failing`` has an
expression for and answers the second round with one Polars query. Whatever else is asked for goes to GX's own
pandas engine, for which alone the frame is converted. Expectations, results and data docs are GX's own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import pandas as pd
import polars as pl
from great_expectations.core.batch import BatchMarkers
from great_expectations.datasource.fluent import BatchRequest
from great_expectations.datasource.fluent.pandas_datasource import DataFrameAsset, _PandasDatasource
from great_expectations.exceptions import MetricResolutionError
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.execution_engine.pandas_batch_data import PandasBatchData
from great_expectations.validator.metric_configuration import MetricConfiguration

from recloop.quality.conditions import columns_of, considered, failing

COUNT, VALUES, CONSIDERED = "unexpected_count", "unexpected_values", "filtered_row_count"
FORMATS = ("BASIC", "BOOLEAN_ONLY")
LENGTHS = "column_values.value_length.map"  # GX computes them before it compares them; the scan does both
EngineType = type[PandasExecutionEngine]


@dataclass(frozen=True)
class Deferred:
    """A condition that waits for the scan: the rows that fail it, and what it was asked with."""

    bad: pl.Expr
    kwargs: dict


class FrameData(PandasBatchData):
    """A Polars frame that becomes a pandas one when GX's own metrics ask for it."""

    def __init__(self, engine: "FrameEngine", frame: pl.DataFrame) -> None:
        super().__init__(engine, None)  # type: ignore[arg-type]
        self.frame = frame

    @cached_property
    def dataframe(self) -> pd.DataFrame:  # type: ignore[override]
        """The frame as pandas has it."""
        return self.frame.to_pandas()

    @property
    def dtypes(self) -> pd.Series:
        """Of the pandas frame, by column."""
        return self._like_pandas(self.frame.columns, []).dtypes

    def values(self, kwargs: dict, rows: list[int]) -> list:
        """What GX lists of the rows that fail: values, pairs of them, or records."""
        columns = columns_of(kwargs)
        found = self._like_pandas(columns, rows)
        if "column" in kwargs:
            return list(found[columns[0]])
        if "column_A" in kwargs:
            return list(zip(*(found[column].values for column in columns), strict=True))
        return found.to_dict("records")

    def _like_pandas(self, columns: list[str], rows: list[int]) -> pd.DataFrame:
        """Some rows, with the types that pandas gives to the whole columns: nulls make another of some."""
        part = self.frame.select(columns)
        last = [
            part[c].filter(part[c].is_null()).head(1) if part[c].null_count() else part[c].head(1)
            for c in columns
        ]
        return pl.concat([part[rows], pl.DataFrame(last)]).to_pandas().iloc[: len(rows)]


class FrameEngine(PandasExecutionEngine):
    """GX's pandas engine, but that conditions which Polars can judge are judged in one query."""

    def get_batch_data_and_markers(self, batch_spec: Any) -> tuple[PandasBatchData, BatchMarkers]:
        """The frame of the batch."""
        frame, batch_spec.batch_data = batch_spec.batch_data, "PolarsDataFrame"
        loaded = f"{pd.Timestamp.now('UTC'):%Y%m%dT%H%M%S.%fZ}"
        return FrameData(self, frame), BatchMarkers({"ge_load_time": loaded})

    def resolve_metrics(
        self,
        metrics_to_resolve: Iterable[MetricConfiguration],
        metrics: dict | None = None,
        runtime_configuration: dict | None = None,
    ) -> dict:
        """Values by the metrics' ids; what cannot be fused is GX's own."""
        known: dict = dict(metrics or {})
        found: dict = {}
        counted, rest = [], []
        for metric in metrics_to_resolve:
            waiting = _deferred(metric.metric_dependencies.get("unexpected_condition"), known)
            if waiting and metric.metric_name.rpartition(".")[2] in (COUNT, VALUES, CONSIDERED):
                counted.append((metric, waiting))
            elif at_hand := self._at_hand(metric, runtime_configuration or {}):
                found |= at_hand
            else:
                rest.append(metric)
        try:
            found |= self._scan(counted) if counted else {}
        except pl.exceptions.PolarsError:  # one that Polars cannot take, such as half a regex: GX says which
            rest += [metric for metric, _ in counted]
        for metric in rest:
            self._make_up(metric, known, runtime_configuration)
        return found | (super().resolve_metrics(rest, known, runtime_configuration) if rest else {})

    @property
    def _data(self) -> FrameData:
        data = self.batch_manager.active_batch_data
        assert isinstance(data, FrameData)
        return data

    def _at_hand(self, metric: MetricConfiguration, runtime: dict) -> dict:
        """The metric's value by its id where the scan will tell or the frame does; else nothing."""
        frame, kwargs = self._data.frame, {**metric.metric_domain_kwargs, **metric.metric_value_kwargs}
        wanted = runtime.get("result_format", {}).get("result_format")
        if kwargs.get("row_condition") or wanted not in FORMATS:
            return {}
        if metric.metric_name == "table.columns":
            return {metric.id: frame.columns}
        if metric.metric_name == "table.row_count":
            return {metric.id: frame.height}
        if metric.metric_name == "table.column_types":  # GX compares dtypes with it on Spark only
            return {metric.id: [{"name": name, "type": dtype} for name, dtype in self._data.dtypes.items()]}
        if metric.metric_name == LENGTHS:
            return {metric.id: (Deferred(pl.lit(False), {}), {}, {})}
        bad = failing(metric.metric_name.removesuffix(".condition"), kwargs, frame.schema)
        return {} if bad is None else {metric.id: (Deferred(bad, kwargs), {}, {})}

    def _scan(self, counted: list[tuple[MetricConfiguration, Deferred]]) -> dict:
        """One query for all: which rows fail each condition, or which a condition on several considers."""
        frame = self._data.frame
        found: dict = {}
        masks = {  # the same condition is asked for its count and for its values
            (id(waiting), metric.metric_name.endswith(CONSIDERED)): waiting for metric, waiting in counted
        }
        query = {
            str(key): considered(waiting.kwargs, frame.schema) if key[1] else waiting.bad
            for key, waiting in masks.items()
        }
        rows = frame.lazy().select(**query).collect()
        for metric, waiting in counted:
            mask = rows[str((id(waiting), metric.metric_name.endswith(CONSIDERED)))]
            if metric.metric_name.endswith(VALUES):
                most = metric.metric_value_kwargs["result_format"]["partial_unexpected_count"]
                found[metric.id] = self._data.values(waiting.kwargs, mask.arg_true().head(most).to_list())
            else:
                found[metric.id] = mask.sum()
        return found

    def _make_up(self, metric: MetricConfiguration, known: dict, runtime: dict | None) -> None:
        """Have GX compute what was deferred and now is needed for one of its own metrics."""
        for needed in metric.metric_dependencies.values():
            if _deferred(needed, known):
                self._make_up(needed, known, runtime)
                try:
                    known |= super().resolve_metrics([needed], known, runtime)
                except MetricResolutionError as error:  # GX gives up on what it asked for, not on this
                    raise MetricResolutionError(message=str(error), failed_metrics=(metric,)) from error


def _deferred(metric: MetricConfiguration | None, known: dict) -> Deferred | None:
    value = known.get(metric.id) if metric else None
    return value[0] if isinstance(value, tuple) and isinstance(value[0], Deferred) else None


class FrameAsset(DataFrameAsset):
    """A table of which each batch is the Polars frame that it is given."""

    type: Literal["frame"] = "frame"  # type: ignore[assignment]

    def build_batch_request(  # type: ignore[override]
        self, options: dict | None = None, batch_slice: Any = None, partitioner: Any = None
    ) -> BatchRequest:
        """Ask for the batch of ``options["dataframe"]``."""
        return BatchRequest(datasource_name=self.datasource.name, data_asset_name=self.name, options=options)

    def _validate_batch_request(self, batch_request: BatchRequest) -> None:
        if not isinstance(batch_request.options.get("dataframe"), pl.DataFrame):
            raise TypeError("a FrameAsset is given a Polars frame as `dataframe`")


class PolarsDatasource(_PandasDatasource):
    """A source of Polars frames: ``context.data_sources.add_polars(name)``."""

    asset_types: ClassVar = [FrameAsset]
    type: Literal["polars"] = "polars"
    assets: list[FrameAsset] = []  # noqa: RUF012

    @property
    def execution_engine_type(self) -> EngineType:
        """What evaluates."""
        return FrameEngine

    def test_connection(self, test_assets: bool = True) -> None:
        """There is nothing to connect to."""

    def add_frame_asset(self, name: str) -> FrameAsset:
        """A table under this name."""
        return self._add_asset(FrameAsset(name=name))
