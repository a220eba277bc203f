"""Where the lake, the keys and the gateway's state are: read once from the environment."""

from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LakehouseSettings(BaseSettings):
    """Locations, from `ALPHALAKE_*`."""

    model_config = SettingsConfigDict(
        env_prefix="ALPHALAKE_", frozen=True, extra="ignore"
    )

    root: str = Field(
        default="./.alphalake", description="Lake root: a folder or s3://bucket/prefix."
    )
    keys: Path = Field(
        default=Path("./.alphalake-keys"), description="Key folder, mode 0700."
    )
    state: Path = Field(
        default=Path("./.alphalake-gateway"), description="The gateway's own folder."
    )
    max_commit_retries: int = Field(
        default=50, ge=1, description="Attempts against busy writers."
    )


@lru_cache(maxsize=1)
def load_settings() -> LakehouseSettings:
    """Read the environment once."""
    return LakehouseSettings()
