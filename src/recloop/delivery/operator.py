"""The operator's token, which every route that changes delivery asks for."""

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from starlette.requests import Request

from recloop.settings import Places


def operator_token(places: Places) -> str:
    """RECLOOP_TOKEN, or what the file ``token`` under home holds; made on first use, for its owner only."""
    if given := places.token.get_secret_value():
        return given
    file = Path(places.home) / "token"
    if not file.exists():
        fresh = file.with_name(f"token.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(secrets.token_urlsafe(32) + "\n")
        with suppress(FileExistsError):  # another process was faster: its token holds
            os.link(fresh, file)
        fresh.unlink()
    return file.read_text().strip()


def is_operator(request: Request, token: str) -> bool:
    """Whether the request carries ``Authorization: Bearer`` with the token; compared in constant time."""
    sent = request.headers.get("authorization", "").encode()
    return bool(token) and hmac.compare_digest(sent, f"Bearer {token}".encode())
