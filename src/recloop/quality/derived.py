"""Columns that relate a row to other rows and tables, so that a check can judge it by itself.

A boolean column is never null: where there is nothing to judge (an absent value, an unknown
request) it is true, since another check speaks of that.
"""

import duckdb
import polars as pl

CLOCK_SKEW = 60_000_000  # microseconds that a machine's clock may be fast


def derive_users(users: pl.DataFrame, now: int) -> pl.DataFrame:
    """With whether attributes are a JSON object and the time has come."""
    return users.with_columns(_is_object(users), _past("created_at", now))


def derive_items(items: pl.DataFrame, now: int) -> pl.DataFrame:
    """The same for items, and whether the price is a number."""
    return items.with_columns(_is_object(items), _finite("price"), _past("created_at", now))


def derive_impressions(
    impressions: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame, now: int
) -> pl.DataFrame:
    """With references to clean users and items, and what holds over the whole request."""
    position, propensity = pl.col("position"), pl.col("propensity")
    whole = (
        (position.min().over("request_id") == 0)
        & (position.max().over("request_id") + 1 == position.n_unique().over("request_id"))
    ).fill_null(True)
    missing = propensity.is_null().sum().over("request_id")
    one = [pl.col(c).n_unique().over("request_id") == 1 for c in ("user_id", "policy", "partial")]
    return impressions.with_columns(
        _known("user_id", users).alias("user_known"),
        _known("item_id", items).alias("item_known"),
        _finite("propensity"),
        propensity.sum().over("request_id", "position").alias("propensity_at_position"),
        ((missing == 0) | (missing == pl.len().over("request_id"))).alias("propensity_for_all_or_none"),
        _past("ts", now),
        (whole | pl.col("partial").fill_null(True)).alias("slate_without_gaps"),
        pl.all_horizontal(one).alias("request_of_one_person_and_policy"),
    )


def derive_rest_of_slate(impressions: pl.DataFrame, bad: pl.Series) -> pl.DataFrame:
    """With whether a row's slate is clean but for the row itself; a partial slate may lose rows."""
    spoilt = pl.col("bad").any().over("request_id") & ~pl.col("bad") & ~pl.col("partial").fill_null(True)
    return impressions.with_columns(bad.alias("bad")).with_columns(rest_of_slate_clean=~spoilt).drop("bad")


def derive_events(
    events: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame, impressions: pl.DataFrame, now: int
) -> pl.DataFrame:
    """With references to clean users, items and impressions, and the order of time."""
    requests = impressions.group_by("request_id").agg(
        shown_to=pl.col("user_id").first(),
        shown_partly=pl.col("partial").first(),
        shown_at=pl.col("ts").min(),
        shown_items=pl.col("item_id"),
    )
    answers = pl.col("request_id").is_not_null()
    found = pl.col("shown_at").is_not_null()
    return (
        events.join(requests, on="request_id", how="left", maintain_order="left")
        .with_columns(
            _known("user_id", users).alias("user_known"),
            _known("item_id", items).alias("item_known"),
            _finite("value"),
            pl.when(pl.col("kind") == "rating").then("value").alias("stars"),
            (~answers | found).alias("request_known"),
            (pl.col("user_id") == pl.col("shown_to")).fill_null(True).alias("request_of_the_same_person"),
            (pl.col("item_id").is_in("shown_items") | pl.col("shown_partly"))
            .fill_null(True)
            .alias("item_was_shown"),
            (pl.col("ts") >= pl.col("shown_at")).fill_null(True).alias("ts_not_before_impression"),
            _past("ts", now),
        )
        .drop("shown_to", "shown_partly", "shown_at", "shown_items")
    )


def _known(column: str, table: pl.DataFrame) -> pl.Expr:
    return pl.col(column).is_in(table[column].implode()).fill_null(True)


def _finite(column: str) -> pl.Expr:
    return pl.col(column).is_finite().fill_null(True).alias(f"{column}_finite")


def _past(column: str, now: int) -> pl.Expr:
    ahead = pl.col(column).dt.epoch("us") > now + CLOCK_SKEW
    return (~ahead).fill_null(True).alias(f"{column}_not_in_the_future")


def _is_object(frame: pl.DataFrame) -> pl.Series:
    with duckdb.connect() as connection:
        connection.register("texts", frame.select("attributes").to_arrow())
        found = connection.execute(
            "select coalesce(attributes is null or (json_valid(attributes)"
            " and try(json_type(attributes)) = 'OBJECT'), false) as fits from texts"
        ).fetchnumpy()
    return pl.Series("attributes_are_an_object", found["fits"], pl.Boolean)
