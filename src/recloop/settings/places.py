"""Where things live and listen, and who may ask: read from RECLOOP_* environment variables."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from recloop.settings.tokens import FEEDBACK, LOOPBACK, READ, SCOPES, Tokens


class Places(BaseSettings):
    """State lives under ``home``. Only the gateway listens on ``host``; all else stays on loopback."""

    model_config = SettingsConfigDict(env_prefix="RECLOOP_", extra="ignore")

    home: Path = Path("var")
    store_url: str = Field("", description="SQLAlchemy URL; empty: SQLite under home")
    host: str = "127.0.0.1"
    gateway_port: int = 8080
    gateway_workers: int = Field(1, ge=1, le=64, description="processes of the gateway, on one port")
    blue_port: int = 3001
    green_port: int = 3002
    mlflow_port: int = 5000
    prefect_port: int = 4200
    token: SecretStr = Field(SecretStr(""), description="allows everything")
    read_token: SecretStr = Field(SecretStr(""), description="allows slates, status, metrics, dashboard")
    feedback_token: SecretStr = Field(SecretStr(""), description="allows feedback and consent")
    tokens_file: Path | None = Field(None, description="hashes of tokens; None: tokens.json under home")
    slot_token: SecretStr = Field(SecretStr(""), description="what the gateway shows to slots elsewhere")
    rate: float | None = Field(
        None, gt=0, description="requests per second of a client; None: 1000 beyond loopback, else any number"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "warning", description="info: each request"
    )
    alert_language: Literal["en", "ko"] = Field("en", description="of the messages about alerts")
    ask_always: bool = Field(False, description="ask for tokens on loopback too, as behind a proxy")
    internal: str = Field("", description="networks and patterns of pseudonyms that are no customers'")
    vault_url: str = Field("", description="where keys and pseudonyms are; empty: vault.db under home")
    key_file: Path | None = Field(
        None, description="master keys of personal data; None: master-keys under home, made on first use"
    )
    master_keys: SecretStr = Field(SecretStr(""), description="VERSION:BASE64 ..., instead of a file")
    kms: str = Field("", description="MODULE:FUNCTION that gives a store.keys.MasterKeys, instead of both")
    accounts: bool = Field(False, description="ids in requests are accounts: the gateway gives pseudonyms")
    consent: Literal["required", "assumed"] = Field(
        "required", description="assumed: who has said nothing agrees, as where simulated people browse"
    )
    terms: dict[str, int] = Field(
        {}, description="version of the terms that holds, by purpose; before params.yaml, which no slot has"
    )

    @property
    def store(self) -> str:
        """URL of the store."""
        return self.store_url or f"sqlite:///{self.home.resolve() / 'store.db'}"

    @property
    def vault(self) -> str:
        """URL of the vault."""
        return self.vault_url or f"sqlite:///{self.home.resolve() / 'vault.db'}"

    @property
    def keys(self) -> Path:
        """The file of master keys."""
        return self.key_file or self.home.resolve() / "master-keys"

    @property
    def mlflow(self) -> str:
        """Tracking URI: a SQLite backend under home."""
        return f"sqlite:///{self.home.resolve() / 'mlflow.db'}"

    @property
    def token_list(self) -> Path:
        """The file of tokens' hashes."""
        return self.tokens_file or self.home.resolve() / "tokens.json"

    def rate_at(self, host: str) -> float | None:
        """Requests per second of one client of what listens on ``host``."""
        return 1000.0 if self.rate is None and host not in LOOPBACK else self.rate

    @property
    def tokens(self) -> Tokens:
        """Who may ask for what."""
        given: dict[str, tuple[str, ...]] = {}
        for secret, scopes in (
            (self.token, SCOPES),
            (self.read_token, (READ,)),
            (self.feedback_token, (FEEDBACK,)),
        ):
            given[secret.get_secret_value()] = (*given.get(secret.get_secret_value(), ()), *scopes)
        return Tokens(given, self.token_list)


def places(**overrides: object) -> Places:
    """The places as the environment names them now, made absolute, with ``home`` created."""
    found = Places(**overrides)  # type: ignore[arg-type]
    found = found.model_copy(update={"home": found.home.resolve()})
    found.home.mkdir(parents=True, exist_ok=True)
    return found
