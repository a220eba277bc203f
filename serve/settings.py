"""What the gateway is told at start: read once, then passed."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakehouse.settings import load_settings


class ServeSettings(BaseSettings):
    """Settings of one gateway, from `ALPHALAKE_SERVE_*` unless given."""

    model_config = SettingsConfigDict(
        env_prefix="ALPHALAKE_SERVE_", frozen=True, extra="ignore"
    )

    root: str = Field(
        default_factory=lambda: load_settings().root,
        description="Lake root: a folder, s3://bucket/prefix or http(s)://host of a gateway.",
    )
    trust: Path = Field(
        default_factory=lambda: load_settings().keys / "root.json",
        description="The trusted root that verification starts from.",
    )
    state: Path = Field(
        default_factory=lambda: load_settings().state,
        description="Folder the gateway writes: last verified payload, tokens, pulls.",
    )
    now: str | None = Field(default=None, description="The present, if not wall time.")
    token: str | None = Field(
        default=None, description="Bearer token of an http(s) root.", repr=False
    )
    refresh_seconds: float = Field(
        default=20.0, gt=0, le=30, description="Between two verifications; monotonic."
    )
    rate_limit: float = Field(
        default=200.0, ge=0, description="Requests a second per address; 0 = no limit."
    )
    processes: int = Field(
        default=1, ge=1, description="Of this gateway; forecasts need a single one."
    )
    burst: float = Field(
        default=400.0, ge=1, description="Requests an address may send at once."
    )


def to_environment(settings: ServeSettings) -> dict[str, str]:
    """Return the variables from which a worker process reads `settings` back."""
    prefix = "ALPHALAKE_SERVE_"
    given = {
        prefix + name.upper(): str(value)
        for name, value in settings.model_dump().items()
        if value is not None
    }
    return {**os.environ, **given}
