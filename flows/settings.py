"""What the deployments take from the environment, so that `prefect.yaml` need not say it."""

from functools import lru_cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class FlowSettings(BaseSettings):
    """Where bars and releases come from, from `ALPHALAKE_*`."""

    model_config = SettingsConfigDict(
        env_prefix="ALPHALAKE_", frozen=True, extra="ignore"
    )

    source: str = Field(
        default="sample",
        description="sample, synthetic, files, ccxt or yfinance.",
    )
    bars: str | None = Field(
        default=None, description="Glob of bar files, for the source `files`."
    )
    symbols: str | None = Field(
        default=None, description="Only these symbols, joined by commas."
    )
    exchange: str | None = Field(
        default=None, description="Name of the exchange, for the source `ccxt`."
    )
    calendar: str | None = Field(default=None, description="File of economic releases.")
    event_types: str | None = Field(
        default=None,
        description="CSV of release names by type, in place of the built-in table.",
    )


@lru_cache(maxsize=1)
def load_flow_settings() -> FlowSettings:
    """Read the environment once."""
    return FlowSettings()
