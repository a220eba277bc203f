"""What the deployments take from the environment, so that `prefect.yaml` need not say it."""

from functools import lru_cache
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class FlowSettings(BaseSettings):
    """Where bars and releases come from, and how models are kept, from `ALPHALAKE_*`."""

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
    tracking: Literal["mlflow", "none"] = Field(
        default="mlflow",
        description="Whether registered models are mirrored to MLflow;"
        " MLFLOW_TRACKING_URI says where, else beside the tables.",
    )
    rollback_cooldown_hours: float = Field(
        default=24.0,
        ge=0.0,
        le=24.0 * 366,
        description="How long after a rollback of a model an alarm is only recorded.",
    )


@lru_cache(maxsize=1)
def load_flow_settings() -> FlowSettings:
    """Read the environment once."""
    return FlowSettings()
