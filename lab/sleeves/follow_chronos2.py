"""Follow Chronos2: trade the direction of the chronos2 model's median forecast."""

from dataclasses import dataclass
from typing import ClassVar

from lab.sleeves._follower import Follower


@dataclass(frozen=True)
class FollowChronos2(Follower):
    """Take the side of the `chronos2` model's median, the more the narrower its band."""

    sleeve_id: ClassVar[str] = "follow-chronos2"
    needs: ClassVar[str] = "chronos2"
