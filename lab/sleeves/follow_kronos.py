"""Follow Kronos: trade the direction of the kronos model's median forecast."""

from dataclasses import dataclass
from typing import ClassVar

from lab.sleeves._follower import Follower


@dataclass(frozen=True)
class FollowKronos(Follower):
    """Take the side of the `kronos` model's median, the more the narrower its band."""

    sleeve_id: ClassVar[str] = "follow-kronos"
    needs: ClassVar[str] = "kronos"
