"""Event rows for training windows, as a forecast at the look-back's end had them."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from lab.arrays import AnyArray, IntArray

EVENT_FLAGS: Final = (0, 1, 2, 3, 4)
"""Channels that say which release falls into a bar: FOMC, CPI, NFP, GDP, PCE."""

SCHEDULED: Final = (0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13)
"""Channels known ahead: what is scheduled, and how long until then."""


class EventRows(Protocol):
    """One series' events; `lab.features.events.EncodedHistory` for one.

    Attributes
    ----------
    tensor : ndarray of shape (n_obs, n_channels), float32
        Each row as it was known when its bar ended.
    """

    @property
    def tensor(self) -> AnyArray:
        """Return each row as it was known when its bar ended."""

    def windows(self, last: IntArray, *, context: int, horizon: int) -> AnyArray:
        """Return (n_windows, context + horizon, n_channels) around the `last` rows.

        Notes
        -----
        Point in time: the rows after `last` hold what was known when its bar ended.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedEvents:
    """Event rows whose schedule was known from the start.

    Attributes
    ----------
    tensor : ndarray of shape (n_obs, n_channels), float32
        Each row as it was known when its bar ended.
    """

    tensor: AnyArray

    def windows(self, last: IntArray, *, context: int, horizon: int) -> AnyArray:
        """Return windows around the `last` rows.

        Notes
        -----
        Point in time: after `last`, only the channels known ahead.
        """
        places = last[:, None] + np.arange(1 - context, horizon + 1)
        found: AnyArray = self.tensor[places].astype(np.float32)
        hidden = [one for one in range(found.shape[-1]) if one not in SCHEDULED]
        found[:, context:, hidden] = 0.0
        return found
