"""A quick look for the future in a sleeve's weights, before they are believed.

One variant is decided again on a panel that ends early. The leak lab looks longer and
at more; this is what every walk-forward can afford.
"""

from typing import Final, Protocol

import numpy as np

from lab.arrays import FloatArray
from lab.backtest.panel import AlignedPanel
from lab.errors import SleeveError

_SHARES: Final = (0.5, 0.75, 1.0)
_TOLERANCE: Final = 1e-9


class Decides(Protocol):
    """What turns a panel into weights."""

    @property
    def sleeve_id(self) -> str:
        """Name in every table."""

    def positions(self, panel: AlignedPanel) -> FloatArray:
        """Return target weights, shape (n_obs, n_assets)."""


def require_causal(one: Decides, panel: AlignedPanel) -> None:
    """Refuse weights that change once later bars are known.

    Parameters
    ----------
    one : Decides
        What is asked: a sleeve's variant, or a genome.
    panel : AlignedPanel
        What was seen; cut after half, three quarters and all but one of its rows.

    Raises
    ------
    SleeveError
        If a weight differs, naming its day.

    Notes
    -----
    Point in time: weights of the rows up to a cut must be those of the panel that ends
    there, within 1e-9.
    """
    whole = one.positions(panel)
    for share in _SHARES:
        n_rows = min(int(panel.n_obs * share), panel.n_obs - 1)
        if n_rows < 1:
            continue
        early = one.positions(panel.until(n_rows))
        differs = ~np.isclose(early, whole[:n_rows], rtol=0.0, atol=_TOLERANCE)
        if differs.any():
            row = int(np.flatnonzero(differs.any(axis=1))[0])
            raise SleeveError(
                f"leaks: weights of {panel.ts[row].astype('datetime64[D]')} are others"
                " once later bars are known; `alphalake leaks` says more"
            )
