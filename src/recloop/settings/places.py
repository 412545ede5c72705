"""Where things live and listen: read from RECLOOP_* environment variables."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Places(BaseSettings):
    """State lives under ``home``; every address is loopback unless told otherwise."""

    model_config = SettingsConfigDict(env_prefix="RECLOOP_", extra="ignore")

    home: Path = Path("var")
    store_url: str = Field("", description="SQLAlchemy URL; empty: SQLite under home")
    host: str = "127.0.0.1"
    gateway_port: int = 8080
    blue_port: int = 3001
    green_port: int = 3002
    mlflow_port: int = 5000
    prefect_port: int = 4200
    token: SecretStr = Field(
        SecretStr(""), description="operator's token; empty: made under home on first use"
    )
    key_file: Path | None = Field(
        None, description="master key of personal data; None: made under home on first use"
    )

    @property
    def store(self) -> str:
        """URL of the store."""
        return self.store_url or f"sqlite:///{self.home.resolve() / 'store.db'}"

    @property
    def mlflow(self) -> str:
        """Tracking URI: a SQLite backend under home."""
        return f"sqlite:///{self.home.resolve() / 'mlflow.db'}"


def places(**overrides: object) -> Places:
    """The places as the environment names them now, made absolute, with ``home`` created."""
    found = Places(**overrides)  # type: ignore[arg-type]
    found = found.model_copy(update={"home": found.home.resolve()})
    found.home.mkdir(parents=True, exist_ok=True)
    return found
