"""A policy walked through days: what it chose, earned and paid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray, TimeArray
from lab.errors import PolicyError
from lab.policy.days import SleeveDays
from lab.policy.lookup import Grid, Lookup, majority
from lab.policy.menu import Menu
from lab.policy.network import Network, choices
from lab.policy.rewards import EARNS_AFTER, HOLD_DAYS, Book
from lab.policy.state import MarketStates

Chooser = Callable[[int, float], tuple[int, int]]
"""From a row and the drawdown known on it to an allocation and a level."""

HELD_OUT: Final = 5
"""Every fifth stretch of `STRETCH` days is kept from a table, to measure its fidelity."""

STRETCH: Final = 20


@dataclass(frozen=True, slots=True)
class Walked:
    """One walk.

    Attributes
    ----------
    ts : ndarray of shape (n,), datetime64[us]
        Days that were earned.
    net, turnover : ndarray of shape (n,), float64
        Return after costs, and turnover between sleeves, of each day.
    rows : ndarray of shape (n,), int64
        Rows walked, `EARNS_AFTER` before the days.
    drawdowns : ndarray of shape (n,), float64
        Drawdown that was known then.
    allocation, level : ndarray of shape (n,), int64
        Choices in force.
    """

    ts: TimeArray
    net: FloatArray
    turnover: FloatArray
    rows: IntArray
    drawdowns: FloatArray
    allocation: IntArray
    level: IntArray


def walk(
    days: SleeveDays,
    menu: Menu,
    choose: Chooser,
    *,
    rows: range,
    cost_bps: float,
    hold_days: int = HOLD_DAYS,
) -> Walked:
    """Let a policy choose every few rows, from a flat book.

    Parameters
    ----------
    days : SleeveDays
        Returns.
    menu : Menu
        Choices.
    choose : callable
        The policy.
    rows : range
        Rows to walk, one by one; those whose return is not among the days yet are
        left out.
    cost_bps : float
        Cost of one unit of turnover.
    hold_days : int
        Rows for which a choice is kept, from the first row on.

    Raises
    ------
    PolicyError
        If rows are skipped, or a choice is kept for none.

    Notes
    -----
    Point in time: a choice on row t is told t and a drawdown made of rows up to t; it
    earns row t + `EARNS_AFTER`.
    """
    if rows.step != 1 or hold_days < 1:
        raise PolicyError(f"walk over {rows}, {hold_days} days held: 1 each, or more")
    book = Book(len(menu.sleeves), cost_bps=cost_bps)
    decided = np.arange(rows.start, min(rows.stop, days.n_days - EARNS_AFTER))
    told = np.zeros((len(decided), 3))
    chosen = np.zeros((len(decided), 2), dtype=np.int64)
    for place, row in enumerate(decided.tolist()):
        drawdown = book.drawdown
        is_due = place % hold_days == 0
        chosen[place] = choose(row, drawdown) if is_due else chosen[place - 1]
        target = menu.target(*chosen[place])
        told[place] = (*book.earn(target, days.net[row + EARNS_AFTER]), drawdown)
    return Walked(
        ts=days.ts[decided + EARNS_AFTER],
        net=told[:, 0],
        turnover=told[:, 1],
        rows=decided,
        drawdowns=told[:, 2],
        allocation=chosen[:, 0],
        level=chosen[:, 1],
    )


def by_network(
    networks: Sequence[Network], states: MarketStates, menu: Menu
) -> Chooser:
    """Return a policy that asks networks for their likeliest choices.

    Parameters
    ----------
    networks : sequence of Network
        One, or several whose probabilities are averaged.
    states : MarketStates
        States of the days to walk through.
    menu : Menu
        Choices.
    """

    def choose(row: int, drawdown: float) -> tuple[int, int]:
        asked = choices(networks, states.observation(row, drawdown)[None, :])
        found = menu.plain(asked[0], asked[1])
        return int(found[0][0]), int(found[1][0])

    return choose


def by_table(table: Lookup, states: MarketStates) -> Chooser:
    """Return a policy that looks its choices up.

    Parameters
    ----------
    table : Lookup
        The table.
    states : MarketStates
        States of the days to walk through.
    """

    def choose(row: int, drawdown: float) -> tuple[int, int]:
        found = table.choose(states, np.array([row]), np.array([drawdown]))
        return int(found[0][0]), int(found[1][0])

    return choose


def always(allocation: int, level: int) -> Chooser:
    """Return a policy that never changes its mind.

    Parameters
    ----------
    allocation, level : int
        Places in the menu.
    """
    return lambda row, drawdown: (allocation, level)  # noqa: ARG005 - a Chooser's


def distil(
    networks: Sequence[Network],
    days: SleeveDays,
    states: MarketStates,
    menu: Menu,
    *,
    cost_bps: float,
) -> Lookup:
    """Return the table that acts as the networks do, and how faithfully.

    The networks are asked on every training day, with the drawdown of their own walk
    and with those of a book in each third of the equal-weight book's drawdowns. Every
    `HELD_OUT`-th stretch of `STRETCH` days is left out of the table; its fidelity is
    the share of those days, with the drawdowns of the walk, on which both choose the
    same.

    Parameters
    ----------
    networks : sequence of Network
        One, or several that choose by their mean.
    days : SleeveDays
        Training days and no later ones.
    states : MarketStates
        Of the same days.
    menu : Menu
        Choices.
    cost_bps : float
        Cost of one unit of turnover.

    Raises
    ------
    PolicyError
        If there are too few days to hold any out.

    Notes
    -----
    Point in time: knows the days it is given.

    References
    ----------
    .. [1] Rusu et al. (2016), Policy distillation, ICLR.
    """
    span = range(states.warm_up, days.n_days)
    go = partial(walk, days, menu, rows=span, cost_bps=cost_bps, hold_days=1)
    own, plain = go(by_network(networks, states, menu)), go(_full(menu))
    is_held_out = (np.arange(len(own.rows)) // STRETCH) % HELD_OUT == HELD_OUT - 1
    if not is_held_out.any():
        raise PolicyError(
            f"lookup: {len(own.rows)} training days; {STRETCH * HELD_OUT} or more are"
            " needed to hold some out"
        )
    grid = Grid.fit(states, own.rows[~is_held_out], plain.drawdowns[~is_held_out])
    depths = np.quantile(plain.drawdowns[~is_held_out], (1 / 6, 1 / 2, 5 / 6))
    rows = own.rows[~is_held_out]
    asked_rows = np.concatenate([rows, *(rows for _ in depths)])
    asked_depths = np.concatenate(
        [own.drawdowns[~is_held_out], *(np.full(len(rows), one) for one in depths)]
    )
    chosen = choices(networks, states.many(asked_rows, asked_depths))
    table = Lookup(
        grid,
        menu,
        *majority(
            grid,
            menu,
            grid.buckets(states, asked_rows, asked_depths),
            menu.plain(chosen[0], chosen[1]),
        ),
        fidelity=0.0,
    )
    return replace(table, fidelity=fidelity(table, own, states, is_held_out))


def fidelity(
    table: Lookup,
    walked: Walked,
    states: MarketStates,
    among: np.ndarray | None = None,
) -> float:
    """Return the share of a network's choices that the table makes too.

    Parameters
    ----------
    table : Lookup
        The table.
    walked : Walked
        A walk of the network.
    states : MarketStates
        States of the same days.
    among : ndarray of shape (n,), bool, optional
        Only these choices.

    Raises
    ------
    PolicyError
        If there are none.
    """
    is_asked = np.ones(len(walked.rows), dtype=bool) if among is None else among
    if not is_asked.any():
        raise PolicyError("lookup: no choices to compare the table with")
    found = table.choose(states, walked.rows[is_asked], walked.drawdowns[is_asked])
    is_same = (found[0] == walked.allocation[is_asked]) & (
        found[1] == walked.level[is_asked]
    )
    return float(is_same.mean())


def _full(menu: Menu) -> Chooser:
    return always(0, int(np.argmax(menu.levels)))
