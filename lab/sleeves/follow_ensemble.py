"""Follow Ensemble: trade the direction of the ensemble model's median forecast."""

from dataclasses import dataclass
from typing import ClassVar

from lab.sleeves._follower import Follower


@dataclass(frozen=True)
class FollowEnsemble(Follower):
    """Take the side of the `ensemble` model's median, the more the narrower its band."""

    sleeve_id: ClassVar[str] = "follow-ensemble"
    needs: ClassVar[str] = "ensemble"
