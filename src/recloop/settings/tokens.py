"""Tokens and what each of them allows. Of a token that is kept on disk there is only its hash."""

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

READ, FEEDBACK, OPERATE, PERSON = SCOPES = ("read", "feedback", "operate", "person")
SHORTEST = 20  # characters of a token that is good enough beyond loopback
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class TokenError(ValueError):
    """Tokens are missing, unreadable or too weak; the message says what to do."""


@dataclass(frozen=True)
class Grant:
    """What one token allows; ``sha256`` is the token's, in hexadecimal."""

    name: str
    scopes: tuple[str, ...]
    sha256: str


class Tokens:
    """Tokens given by the environment, and those in a file, which is read again when it changes.

    ``given``: per token (not hashed) the scopes that it has. A file that cannot be read grants nothing.
    """

    def __init__(self, given: Mapping[str, Iterable[str]], file: Path | None = None) -> None:
        self._given = [
            Grant("environment", tuple(scopes), _hash(token)) for token, scopes in given.items() if token
        ]
        self.weak = any(0 < len(token) < SHORTEST for token in given)
        self._file, self._seen = file, (0, 0, 0)  # time, size and inode of what was read
        self._kept: list[Grant] = []

    @property
    def grants(self) -> list[Grant]:
        """All that hold now."""
        if self._file is None:
            return self._given
        try:
            found = os.stat(self._file)
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp != self._seen:
                self._kept, self._seen = read_grants(self._file), stamp
        except (OSError, TokenError):
            self._kept, self._seen = [], (0, 0, 0)
        return self._given + self._kept

    def grant_of(self, token: str) -> Grant | None:
        """The grant of a token; every hash is compared, each in constant time."""
        sent, found = _hash(token), None
        for grant in self.grants:
            if hmac.compare_digest(sent, grant.sha256):
                found = grant
        return found


def require_tokens(host: str, tokens: Tokens) -> None:
    """Refuse to listen where others can reach it without a token that they must show.

    Raises:
        TokenError: ``host`` is not loopback, and there are no tokens, or one of them can be guessed.
    """
    if host in LOOPBACK:
        return
    if not tokens.grants:
        raise TokenError(
            f"{host or 'what RECLOOP_SLOT_HOST does not name'} can be reached from other machines, and there"
            " are no tokens: make one with `recloop token add NAME --scope read --scope feedback`, set"
            " RECLOOP_READ_TOKEN, RECLOOP_FEEDBACK_TOKEN or RECLOOP_TOKEN, or listen on 127.0.0.1"
        )
    if tokens.weak:
        raise TokenError(f"a token of fewer than {SHORTEST} characters can be guessed: use a random one")


def read_grants(file: Path) -> list[Grant]:
    """The grants that the file holds; none where there is no file.

    Raises:
        TokenError: it is not what ``add_token`` writes.
    """
    try:
        rows = json.loads(file.read_text())
        grants = [Grant(row["name"], tuple(row["scopes"]), row["sha256"]) for row in rows]
        if all(re.fullmatch("[0-9a-f]{64}", g.sha256) and set(g.scopes) <= set(SCOPES) for g in grants):
            return grants
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise TokenError(f"{file} cannot be used: make its tokens anew, or restore it from a backup")


def add_token(file: Path, name: str, scopes: Iterable[str]) -> str:
    """A fresh token of 256 random bits, whose hash goes to the file; this is the only time it is seen.

    Raises:
        TokenError: the name is taken or not allowed, or a scope is not known.
    """
    wanted, grants = tuple(dict.fromkeys(scopes)), read_grants(file)
    if not wanted or not set(wanted) <= set(SCOPES):
        raise TokenError(f"a token needs scopes of {', '.join(SCOPES)}, not {', '.join(wanted) or 'none'}")
    if not re.fullmatch("[A-Za-z0-9._-]{1,32}", name):
        raise TokenError("a token's name is 1 to 32 letters, digits, dots, dashes or underscores")
    if name in {grant.name for grant in grants}:
        raise TokenError(f"there is a token {name} already: `recloop token remove {name}` takes it away")
    token = secrets.token_urlsafe(32)
    _write(file, [*grants, Grant(name, wanted, _hash(token))])
    return token


def remove_token(file: Path, name: str) -> None:
    """Take a token away; what listens refuses it from the next request on.

    Raises:
        TokenError: there is none of that name.
    """
    grants = read_grants(file)
    if name not in {grant.name for grant in grants}:
        raise TokenError(f"there is no token {name}: `recloop token list` shows them")
    _write(file, [grant for grant in grants if grant.name != name])


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _write(file: Path, grants: list[Grant]) -> None:
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        json.dump([asdict(grant) for grant in grants], handle, indent=1)
    fresh.replace(file)
