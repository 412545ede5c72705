"""Master keys by version. They wrap the keys of persons and nothing else, so that they can be exchanged.

Where they come from: a file, the environment, or anything that is a ``MasterKeys``, such as a client of a
key management service.
"""

import base64
import binascii
import importlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from recloop.settings import Places
from recloop.store.errors import StoreError

SIZE = 32  # bytes of every key: AES-256
NONCE = 12  # bytes: what AES-GCM asks for (NIST SP 800-38D, 8.2.2: random, below 2^32 for one key)
FORM = (
    "one line for each key, VERSION:KEY, the key being 32 bytes in base64; the last line is the current one"
)


class MasterKeys(Protocol):
    """A key encryption key in versions; a service can keep them to itself.

    Attributes:
        current: the version that wraps from now on.
    """

    @property
    def current(self) -> str:
        """Version of 1 to 32 letters, digits, dots, dashes or underscores."""

    def wrap(self, key: bytes, bound: bytes) -> tuple[str, bytes]:
        """The version that was used, and the key sealed under it; it opens with the same ``bound`` only."""

    def unwrap(self, version: str, wrapped: bytes, bound: bytes) -> bytes:
        """The key.

        Raises:
            StoreError: the version is not known, or what is sealed was altered or is bound to another.
        """


def seal(key: bytes, plain: bytes, bound: bytes) -> bytes:
    """AES-256-GCM with a random nonce, which stands before the ciphertext."""
    nonce = os.urandom(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound)


def unseal(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    """What ``seal`` was given.

    Raises:
        InvalidTag: altered, bound to something else, or sealed under another key.
    """
    if len(sealed) < NONCE:
        raise InvalidTag
    return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], bound)


class LocalKeys:
    """Master keys that this process holds; ``read`` gives them anew, so that a new version is seen."""

    def __init__(self, read: Callable[[], Mapping[str, bytes]]) -> None:
        self._read = read

    @property
    def current(self) -> str:
        """The newest version."""
        return list(self._read())[-1]

    def wrap(self, key: bytes, bound: bytes) -> tuple[str, bytes]:
        """As ``MasterKeys``."""
        version, master = list(self._read().items())[-1]
        return version, seal(master, key, bound)

    def unwrap(self, version: str, wrapped: bytes, bound: bytes) -> bytes:
        """As ``MasterKeys``."""
        keys = self._read()
        if version not in keys:
            raise StoreError(
                f"there is no master key {version!r}: give it again beside {', '.join(keys)}, and"
                " take it away only after `recloop key rotate` says that nothing is left under it"
            )
        try:
            return unseal(keys[version], wrapped, bound)
        except InvalidTag:
            raise StoreError(
                f"a person's key does not open under master key {version!r}: altered, or another person's"
            ) from None


class KeyFile:
    """A file of master keys that only its owner can read; read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path, self._stamp = path, (0, 0, 0)
        self._keys: dict[str, bytes] = {}

    def __call__(self) -> dict[str, bytes]:
        """The keys by version, the current one last; a file that is not there is made with its first key.

        Raises:
            StoreError: it holds something else.
        """
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self._begin()
            found = os.stat(self._path)
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if stamp != self._stamp:
            self._keys, self._stamp = parse_keys(_text(self._path), str(self._path)), stamp
        return self._keys

    def add(self) -> str:
        """Make a new key the current one; its version."""
        keys = self()
        version = f"v{1 + max((int(name[1:]) for name in keys if re.fullmatch('v[0-9]+', name)), default=0)}"
        self._write({**keys, version: AESGCM.generate_key(256)})
        return version

    def remove(self, version: str) -> None:
        """Destroy a key.

        Raises:
            StoreError: it is not there, or it is the current one.
        """
        keys = dict(self())
        if version not in keys or version == list(keys)[-1]:
            raise StoreError(f"{version!r} is the current key or none of {', '.join(keys)}")
        del keys[version]
        self._write(keys)

    def _begin(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._fresh({"v1": AESGCM.generate_key(256)})
        try:
            os.link(fresh, self._path)  # of two who make it at once, one does
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        self._settle()

    def _write(self, keys: Mapping[str, bytes]) -> None:
        self._fresh(keys).replace(self._path)
        self._settle()

    def _settle(self) -> None:
        """Have the file's name on disk before anything is wrapped under what it holds."""
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _fresh(self, keys: Mapping[str, bytes]) -> Path:
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            handle.writelines(f"{name}:{base64.b64encode(key).decode()}\n" for name, key in keys.items())
            handle.flush()
            os.fsync(handle.fileno())
        return fresh


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read as master keys ({error}): {FORM}") from error


def parse_keys(text: str, where: str) -> dict[str, bytes]:
    """Master keys as words ``VERSION:BASE64``; ``where`` they stand is named when they cannot be used.

    Raises:
        StoreError: none, one of another size, or a version twice.
    """
    keys: dict[str, bytes] = {}
    for number, word in enumerate(text.split(), 1):
        name, _, encoded = word.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            key = b""
        if not re.fullmatch("[A-Za-z0-9._-]{1,32}", name) or len(key) != SIZE or name in keys:
            raise StoreError(
                f"{where} holds no master key of {SIZE} bytes at place {number}, or a version twice:"
                f" restore it from its backup. {FORM}"
            )
        keys[name] = key
    if not keys:
        raise StoreError(f"{where} holds no master key: restore it from its backup. {FORM}")
    return keys


def master_keys(where: Places) -> MasterKeys:
    """From the service that RECLOOP_KMS names, else RECLOOP_MASTER_KEYS, else the key file.

    Raises:
        StoreError: the service cannot be loaded.
    """
    if where.kms:
        module, _, name = where.kms.partition(":")
        try:
            return getattr(importlib.import_module(module), name)()
        except (ImportError, AttributeError, ValueError) as error:
            raise StoreError(
                f"RECLOOP_KMS={where.kms} cannot be used ({error}): it is MODULE:FUNCTION, and the function"
                " gives a recloop.store.keys.MasterKeys"
            ) from error
    if given := where.master_keys.get_secret_value():
        held = parse_keys(given, "RECLOOP_MASTER_KEYS")
        return LocalKeys(lambda: held)
    return LocalKeys(KeyFile(where.keys))
