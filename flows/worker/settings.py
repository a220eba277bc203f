"""What the worker takes from the environment."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class WorkerSettings(BaseSettings):
    """Where a worker keeps its locks and how it speaks to a gateway."""

    model_config = SettingsConfigDict(
        env_prefix="ALPHALAKE_WORKER_", frozen=True, extra="ignore"
    )

    state: Path | None = Field(
        default=None,
        description="Folder of the locks, on this host, never under the lake's root.",
    )
    name: str | None = Field(
        default=None,
        description="Name on the Prefect server; the host's and the device's if not given.",
    )
    token: SecretStr | None = Field(
        default=None, description="Worker token of the gateway, for --gateway."
    )


def load_worker_settings() -> WorkerSettings:
    """Read the environment."""
    return WorkerSettings()
