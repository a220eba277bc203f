"""Which checkpoints the flows use, from `ALPHALAKE_*`."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ModelSettings(BaseSettings):
    """Sources of weights, and where they run."""

    model_config = SettingsConfigDict(
        env_prefix="ALPHALAKE_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    kronos: str = Field(
        default="compact",
        description="`compact` (travels with the project), a folder, or a Hub id.",
    )
    kronos_tokenizer: str | None = Field(
        default=None,
        description="Folder or Hub id; the published pair's, or the folder beside it.",
    )
    kronos_window: int | None = Field(
        default=None, ge=2, description="Tokens that Kronos attends to."
    )
    kronos_mode: Literal["exact", "rolling"] = Field(
        default="exact", description="`rolling` is fast past the window, not parity."
    )
    chronos2: str = Field(
        default="small",
        description="`small` (travels with the project), a folder, or a Hub id.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="Where models run; auto takes what is there."
    )


def load_model_settings() -> ModelSettings:
    """Read the environment."""
    return ModelSettings()
