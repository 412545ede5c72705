"""Why a row is unfit, typed: from the words of a check, or from what pydantic found."""

from pydantic import ValidationError

from recloop.schema import Failure

RANGES = frozenset(
    {
        "greater_than",
        "greater_than_equal",
        "less_than",
        "less_than_equal",
        "finite_number",
        "string_too_long",
        "string_too_short",
    }
)


class Unfit(ValueError):
    """A row that cannot be used; the message begins with the field."""

    def __init__(self, reason: str, failure: Failure = Failure.SCHEMA) -> None:
        super().__init__(reason)
        self.failure = failure


def unfit(error: ValueError) -> Unfit:
    """What was found, all of it where that was pydantic; a value of the right form may be out of range."""
    if isinstance(error, Unfit):
        return error
    if not isinstance(error, ValidationError):
        return Unfit(str(error))
    found = error.errors(include_url=False, include_context=False, include_input=False)
    reason = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'row'}: {one['msg']}" for one in found)
    ranges = all(one["type"] in RANGES for one in found)
    return Unfit(reason, Failure.RANGE if ranges else Failure.SCHEMA)
