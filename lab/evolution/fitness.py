"""What a genome earned out of sample, and how fit that makes it.

Fitness is the Sharpe ratio of daily net returns at the ledger's 10 bps over the very
days on which its family is walked forward. A genome has fixed parameters, so there is
nothing to choose in train and the whole span is unseen by it; it is not unseen by the
search, which is why every genome evaluated is a trial of the family and the gates
deflate by their number. Fitness is the statistic that the gates judge, not another one:
only then is their correction that of the selection that took place. Costs are inside,
so turnover is not punished twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import BoolArray, FloatArray
from lab.backtest.engine import Fill, simulate
from lab.backtest.ledger import LEDGER_BPS, Trial
from lab.backtest.panel import AlignedPanel
from lab.backtest.walkforward import stitched_configuration
from lab.backtest.windows import (
    Calendar,
    WalkForwardPlan,
    calendar_of,
    cut_windows,
    of_age,
)
from lab.evolution.expression import weights_of
from lab.evolution.genome import Genome
from lab.evolution.sleeve import GenomeSleeve
from lab.sleeves.own_bars import OwnBars

_STACKED_BYTES: Final = 64_000_000


@dataclass(frozen=True)
class OutOfSample:
    """A panel made ready for the evaluation of many genomes.

    Attributes
    ----------
    bars : OwnBars
        Of the panel.
    plan : WalkForwardPlan
        Windows and fill.
    calendar : Calendar
        Out-of-sample days.
    allowed : ndarray of shape (n_obs, n_assets), bool
        Where an instrument takes part.
    """

    bars: OwnBars
    plan: WalkForwardPlan
    calendar: Calendar
    allowed: BoolArray

    @classmethod
    def of(cls, panel: AlignedPanel, plan: WalkForwardPlan) -> "OutOfSample":
        """Cut a panel into the walk-forward's windows.

        Raises
        ------
        BacktestError
            If the panel is too short for a window.
        """
        windows = cut_windows(panel, plan)
        calendar = calendar_of(panel, windows)
        allowed = of_age(panel, windows)
        allowed[: calendar.rows.start] = False
        allowed[calendar.rows.stop :] = False
        return cls(OwnBars.of(panel), plan, calendar, allowed)

    def series(self, genomes: Sequence[Genome]) -> FloatArray:
        """Return daily net returns at 10 bps on the ledger's days.

        Parameters
        ----------
        genomes : sequence of Genome
            Whom to evaluate; each series is the same whoever else is among them.

        Returns
        -------
        ndarray of shape (n_genomes, n_ledger_days), float64
            Rounded as the ledger stores them, so that what is read back is equal.

        Notes
        -----
        Point in time: weights of row t come from rows up to t and are filled after;
        the series is that of `walk_forward` with the genome as the only variant.
        """
        if len(genomes) == 0:
            return np.zeros((0, self.calendar.n_ledger))
        size = max(1, _STACKED_BYTES // max(8 * self.allowed.size, 1))
        parts = [
            self._series(genomes[start : start + size])
            for start in range(0, len(genomes), size)
        ]
        return np.concatenate(parts).astype(np.float32).astype(np.float64)

    def _series(self, genomes: Sequence[Genome]) -> FloatArray:
        weights = [
            np.where(self.allowed, weights_of(one, self.bars), 0.0) for one in genomes
        ]
        panel, fill = self.bars.panel, Fill(self.plan.fill)
        net = simulate(panel, np.stack(weights, axis=2), fill=fill).net(LEDGER_BPS)
        return self._days(net[self.calendar.rows], fill)[:, : self.calendar.n_ledger]

    def _days(self, net: FloatArray, fill: Fill) -> FloatArray:
        # Hours compound within a day, unless the notional is fixed.
        first = self.calendar.first_row
        by_series = np.ascontiguousarray(net.T)
        if len(net) == len(first):
            return by_series
        if fill is Fill.SAME_CLOSE:
            return np.asarray(np.add.reduceat(by_series, first, axis=1))
        grown = np.multiply.reduceat(1.0 + by_series, first, axis=1)
        return np.asarray(grown - 1.0)


def trial_configuration(genome: Genome, plan: WalkForwardPlan) -> str:
    """Return a genome's identity in the ledger: the same as the walk-forward's."""
    return stitched_configuration([GenomeSleeve(genome)], plan)


def fitness_of(returns: FloatArray) -> float | None:
    """Return the daily Sharpe ratio, ddof 1, not annualised.

    Parameters
    ----------
    returns : ndarray of shape (n_days,), float64
        Daily net returns.

    Returns
    -------
    float or None
        None where the returns never vary: a genome that does not trade is not fit.
    """
    if len(returns) < 2 or Trial("", returns).is_constant:
        return None
    return float(returns.mean() / returns.std(ddof=1))
