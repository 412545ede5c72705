"""Great Expectations on Polars frames: what a suite asks of the rows is found in one scan.

GX asks an execution engine for metrics in rounds: first the conditions, then, all at once, how many rows
fail each and the first of them. ``FrameEngine`` defers the conditions that ``conditions.failing`` has an
expression for and answers the second round with one Polars query, which reads of a Parquet file only the
columns that it needs, and keeps of the rows only which fail. Whatever else is asked for goes to GX's own
pandas engine, for which alone the frame is converted. Expectations, results and data docs are GX's own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import polars as pl
from great_expectations.core.batch import BatchMarkers
from great_expectations.datasource.fluent import BatchRequest
from great_expectations.datasource.fluent.pandas_datasource import DataFrameAsset, _PandasDatasource
from great_expectations.exceptions import MetricResolutionError
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.execution_engine.pandas_batch_data import PandasBatchData
from great_expectations.validator.metric_configuration import MetricConfiguration

from recloop.quality.conditions import OF_KEYS, columns_of, considered, failing, key_of, occurs_twice

COUNT, VALUES, CONSIDERED = "unexpected_count", "unexpected_values", "filtered_row_count"
FORMATS = ("BASIC", "BOOLEAN_ONLY")
LENGTHS = "column_values.value_length.map"  # GX computes them before it compares them; the scan does both
WINDOW = 50_000  # rows that are read at once to show those that fail
EngineType = type[PandasExecutionEngine]


@dataclass(frozen=True)
class Deferred:
    """A condition that waits for the scan: the rows that fail it, and what it was asked with.

    Attributes:
        key: what must not occur twice, where that is the condition; the scan then finds its hashes.
    """

    bad: pl.Expr
    kwargs: dict
    key: pl.Expr | None = None


class FrameData(PandasBatchData):
    """A Polars frame, or the scan of one, that becomes a pandas one when GX's own metrics ask for it."""

    def __init__(self, engine: "FrameEngine", frame: pl.DataFrame | pl.LazyFrame) -> None:
        super().__init__(engine, None)  # type: ignore[arg-type]
        self.frame = frame.lazy()
        self.schema = self.frame.collect_schema()
        self.nulls: dict[str, bool] = {}  # by column whether it has any, as far as was looked

    @cached_property
    def dataframe(self) -> pd.DataFrame:  # type: ignore[override]
        """The frame as pandas has it."""
        return self.frame.collect().to_pandas()

    @cached_property
    def height(self) -> int:
        """How many rows there are."""
        return self.frame.select(pl.len()).collect().item()

    def held(self, key: pl.Expr, places: np.ndarray) -> pl.Series:
        """What the key is in these rows."""
        return self.frame.select(key).collect().to_series().gather(places)

    def rows(self, columns: Sequence[str], places: np.ndarray) -> pl.DataFrame:
        """These rows, whose places ascend; of a file not much more is read."""
        part, found, left = self.frame.select(columns), [], places
        while len(left):
            first, now = int(left[0]), left[left < left[0] + WINDOW]
            found.append(part.slice(first, int(now[-1]) - first + 1).collect()[now - first])
            left = left[len(now) :]
        return pl.concat(found) if found else part.head(0).collect()

    def values(self, kwargs: dict, rows: pl.DataFrame) -> list:
        """What GX lists of the rows that fail: values, pairs of them, or records."""
        columns = columns_of(kwargs)
        found = self.like_pandas(rows.select(columns))
        if "column" in kwargs:
            return list(found[columns[0]])
        if "column_A" in kwargs:
            return list(zip(*(found[column].values for column in columns), strict=True))
        return found.to_dict("records")

    def like_pandas(self, part: pl.DataFrame) -> pd.DataFrame:
        """Some rows, with the types that pandas gives to the whole columns: nulls make another of some."""
        if unknown := [column for column in part.columns if column not in self.nulls]:
            self.nulls |= self.frame.select(pl.col(unknown).is_null().any()).collect().row(0, named=True)
        some = part if len(part) else self.frame.select(part.columns).head(1).collect()
        last = [
            pl.Series(c, [None], self.schema[c]) if self.nulls[c] else some[c].head(1) for c in part.columns
        ]
        return pl.concat([part, pl.DataFrame(last)]).to_pandas().iloc[: len(part)]


class Types(Sequence):
    """``table.column_types``, found only where somebody looks: GX compares dtypes with it on Spark only."""

    def __init__(self, data: FrameData) -> None:
        self._data = data

    @cached_property
    def _found(self) -> list[dict]:
        dtypes = self._data.like_pandas(self._data.frame.head(0).collect()).dtypes
        return [{"name": name, "type": dtype} for name, dtype in dtypes.items()]

    def __getitem__(self, place: Any) -> Any:
        return self._found[place]

    def __len__(self) -> int:
        return len(self._found)


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
        data, kwargs = self._data, {**metric.metric_domain_kwargs, **metric.metric_value_kwargs}
        wanted = runtime.get("result_format", {}).get("result_format")
        if kwargs.get("row_condition") or wanted not in FORMATS:
            return {}
        if metric.metric_name == "table.columns":
            return {metric.id: data.schema.names()}
        if metric.metric_name == "table.row_count":
            return {metric.id: data.height}
        if metric.metric_name == "table.column_types":
            return {metric.id: Types(data)}
        if metric.metric_name == LENGTHS:
            return {metric.id: (Deferred(pl.lit(False), {}), {}, {})}
        name = metric.metric_name.removesuffix(".condition")
        bad = failing(name, kwargs, data.schema)
        key = key_of(kwargs, data.schema) if bad is not None and name in OF_KEYS else None
        return {} if bad is None else {metric.id: (Deferred(bad, kwargs, key), {}, {})}

    def _scan(self, counted: list[tuple[MetricConfiguration, Deferred]]) -> dict:
        """The metrics' values, of one query for all and of the first rows that fail."""
        failed, shown = self._failed(counted), {}
        found: dict = {}
        for metric, waiting in counted:
            mask = failed[_mask(metric, waiting)]
            if metric.metric_name.endswith(VALUES):
                most = metric.metric_value_kwargs["result_format"]["partial_unexpected_count"]
                shown[metric.id] = waiting.kwargs, mask.arg_true().head(most).to_numpy()
            else:
                found[metric.id] = mask.sum()
        columns = {
            column for kwargs, places in shown.values() if len(places) for column in columns_of(kwargs)
        }
        wanted = np.unique(
            np.concatenate([np.zeros(0, np.uint32), *(places for _, places in shown.values())])
        )
        rows = self._data.rows(sorted(columns), wanted)
        for name, (kwargs, places) in shown.items():
            at = np.searchsorted(wanted, places)
            found[name] = self._data.values(kwargs, rows[at]) if len(at) else []
        return found

    def _failed(self, counted: list[tuple[MetricConfiguration, Deferred]]) -> dict[str, pl.Series]:
        """By ``_mask`` the rows that fail a condition, or that a condition on several takes into account."""
        data = self._data
        asked, keys = {}, {}
        for metric, waiting in counted:  # a condition is asked for its count and for its values
            mask, columns = _mask(metric, waiting), columns_of(waiting.kwargs)
            if metric.metric_name.endswith(CONSIDERED):
                asked[mask] = considered(waiting.kwargs, data.schema)
                continue
            asked[mask] = waiting.bad
            if waiting.key is not None:
                asked[mask] = considered({"column_list": columns}, data.schema)
                asked[f"hash {mask}"] = waiting.key.hash()
                keys[mask] = waiting.key
            asked |= {f"null {column}": pl.col(column).is_null() for column in columns}
        rows = data.frame.select(**asked).collect(engine="streaming").to_dict()
        for mask, key in keys.items():
            rows[mask] &= occurs_twice(rows[f"hash {mask}"], partial(data.held, key))
        data.nulls |= {name[5:]: rows[name].any() for name in asked if name.startswith("null ")}
        return rows

    def _make_up(self, metric: MetricConfiguration, known: dict, runtime: dict | None) -> None:
        """Have GX compute what was deferred and now is needed for one of its own metrics."""
        for needed in metric.metric_dependencies.values():
            if _deferred(needed, known):
                self._make_up(needed, known, runtime)
                try:
                    known |= super().resolve_metrics([needed], known, runtime)
                except MetricResolutionError as error:  # GX gives up on what it asked for, not on this
                    raise MetricResolutionError(message=str(error), failed_metrics=(metric,)) from error


def _mask(metric: MetricConfiguration, waiting: Deferred) -> str:
    """The name in the scan's answer of the rows that a metric speaks of."""
    return f"{'considered' if metric.metric_name.endswith(CONSIDERED) else 'bad'} {id(waiting)}"


def _deferred(metric: MetricConfiguration | None, known: dict) -> Deferred | None:
    value = known.get(metric.id) if metric else None
    return value[0] if isinstance(value, tuple) and isinstance(value[0], Deferred) else None


class FrameAsset(DataFrameAsset):
    """A table of which each batch is the Polars frame, or the scan, that it is given."""

    type: Literal["frame"] = "frame"  # type: ignore[assignment]

    def build_batch_request(  # type: ignore[override]
        self, options: dict | None = None, batch_slice: Any = None, partitioner: Any = None
    ) -> BatchRequest:
        """Ask for the batch of ``options["dataframe"]``."""
        return BatchRequest(datasource_name=self.datasource.name, data_asset_name=self.name, options=options)

    def _validate_batch_request(self, batch_request: BatchRequest) -> None:
        if not isinstance(batch_request.options.get("dataframe"), pl.DataFrame | pl.LazyFrame):
            raise TypeError("a FrameAsset is given a Polars frame, or a scan, as `dataframe`")


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
