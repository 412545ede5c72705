"""What a stage that learns asks first."""

from pathlib import Path

from recloop.settings import Params, places
from recloop.store import StoreError, open_store
from recloop.store.consent import require_consents
from recloop.store.snapshot import Watermark


def refuse_withdrawn(params: Params) -> None:
    """Nothing, if nobody of this data version has withdrawn for longer than a run takes.

    Raises:
        SystemExit: somebody has; it says what to do.
    """
    mark = Watermark.load(Path("data/watermark.json"))
    try:
        require_consents(open_store(places().store), mark.consents, params.privacy.withdrawal_minutes)
    except StoreError as error:
        raise SystemExit(str(error)) from error
