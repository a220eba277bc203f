"""The paper book of one sleeve: targets are filled row by row, holdings become orders.

The book keeps the engine's contract (`lab.backtest.engine`) one row at a time: a target
decided on a row is traded at the instrument's next bar's open, what is held drifts until
then, targets are shares of the book as it is at the fill, costs are a share of what is
traded. An order is one holding from flat or the other side to flat or the other side.

A book is a value that JSON holds without loss: a run that ends and another that takes
the book up again do what one run would have done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

import numpy as np

from lab.arrays import AnyArray, FloatArray
from lab.backtest.panel import AlignedPanel
from lab.backtest.steps import EXIT, FILL, RUIN, Fill, Steps, steps_of
from lab.errors import PaperError

COST_BPS: Final = 10.0
"""Cost of a unit of turnover in basis points: the slippage at which gates judge."""

_NO_TIME: Final = np.datetime64("NaT", "us")
_NUMBERS: Final = ("amount", "side", "price", "size", "gross", "cost")


@dataclass(frozen=True, slots=True)
class Order:
    """One position episode.

    Attributes
    ----------
    symbol : str
        Instrument.
    side : {"long", "short"}
        Which way.
    decided_ts : datetime64[us]
        `ts` of the row whose target opened it: its features are that row's.
    entry_ts, exit_ts : datetime64[us]
        Fills: a bar's open, or for a holding that was closed at its last close the
        moment at which that was known. `exit_ts` is NaT while it is open.
    entry_price, exit_price : float
        Where they filled; `exit_price` is NaN while it is open.
    size : float
        Absolute weight of the book at entry: what was known then.
    gross : float
        Its part of the book's returns so far, not compounded, before costs.
    cost_base : float
        Turnover so far, as shares of the book.
    """

    symbol: str
    side: Literal["long", "short"]
    decided_ts: np.datetime64
    entry_ts: np.datetime64
    exit_ts: np.datetime64
    entry_price: float
    exit_price: float
    size: float
    gross: float
    cost_base: float

    @property
    def is_open(self) -> bool:
        """Whether it has no exit yet."""
        return bool(np.isnat(self.exit_ts))

    def costs(self, bps: float = COST_BPS) -> float:
        """Return what was paid, as a share of the book."""
        return self.cost_base * bps * 1e-4

    def pnl_net(self, bps: float = COST_BPS) -> float:
        """Return the profit after costs, as a share of the book."""
        return self.gross - self.costs(bps)


@dataclass(slots=True)
class Book:
    """What one sleeve holds after a row, and what it was told to hold.

    Attributes
    ----------
    symbols : tuple of str, n_assets
        Instruments.
    equity, net_equity, peak : float
        Growth of 1 before and after costs, and the highest `net_equity`; 0 when ruined.
    target : ndarray of shape (n_assets,), float64
        Decided last, filled at each instrument's next bar.
    decided_ts : datetime64[us]
        Row on which that was; NaT before the first.
    amount : ndarray of shape (n_assets,), float64
        Money in each instrument at the last close, in the unit of `equity`.
    decided, entry : ndarray of shape (n_assets,), datetime64[us]
        When the open order was decided and filled; NaT where there is none.
    seen : ndarray of shape (n_assets,), datetime64[us]
        Each instrument's newest bar that the book has traded.
    side, price, size, gross, cost : ndarray of shape (n_assets,), float64
        The open order so far, see `Order`; `side` is 1 or -1.
    """

    symbols: tuple[str, ...]
    target: FloatArray
    amount: FloatArray
    side: FloatArray
    price: FloatArray
    size: FloatArray
    gross: FloatArray
    cost: FloatArray
    decided: AnyArray
    entry: AnyArray
    seen: AnyArray
    decided_ts: np.datetime64 = field(default=_NO_TIME)
    equity: float = 1.0
    net_equity: float = 1.0
    peak: float = 1.0

    @classmethod
    def empty(cls, symbols: Sequence[str]) -> Self:
        """Return a book that holds nothing."""
        n_assets = len(symbols)

        def none() -> FloatArray:
            return np.zeros(n_assets)

        def never() -> AnyArray:
            return np.full(n_assets, _NO_TIME)

        return cls(
            symbols=tuple(symbols),
            target=none(),
            amount=none(),
            side=none(),
            price=none(),
            size=none(),
            gross=none(),
            cost=none(),
            decided=never(),
            entry=never(),
            seen=never(),
        )

    @property
    def drawdown(self) -> float:
        """Loss from the highest equity after costs, as a share of it."""
        return 1.0 - self.net_equity / self.peak

    @property
    def weights(self) -> FloatArray:
        """Shares of the book held at the last close, shape (n_assets,)."""
        if self.equity <= 0.0:
            return np.zeros(len(self.symbols))
        return np.asarray(self.amount / self.equity)

    def decide(self, target: FloatArray, at: np.datetime64) -> None:
        """Set what is to be held from each instrument's next bar on.

        Parameters
        ----------
        target : ndarray of shape (n_assets,), float64
            Shares of the book, negative for short.
        at : datetime64[us]
            `ts` of the row it was decided on.

        Raises
        ------
        PaperError
            If it is not finite, has another shape or is not later than the one before.
        """
        if target.shape != self.target.shape or not bool(np.isfinite(target).all()):
            raise PaperError(
                f"target at {at}: must be {len(self.symbols)} finite weights"
            )
        if not np.isnat(self.decided_ts) and at <= self.decided_ts:
            raise PaperError(
                f"target at {at}: one was decided at {self.decided_ts}; rows go forward"
            )
        self.target = np.array(target, dtype=np.float64)
        self.decided_ts = at

    def step(
        self, panel: AlignedPanel, row: int, steps: Steps, *, bps: float = COST_BPS
    ) -> list[Order]:
        """Trade one row at its opens and mark the book at its closes.

        Parameters
        ----------
        panel : AlignedPanel
            With the book's instruments, in its order.
        row : int
            Which; after the row of the last decision.
        steps : Steps
            Of the panel, see `steps_of`.
        bps : float
            Cost of a unit of turnover, in basis points.

        Returns
        -------
        list of Order
            Those that were closed.

        Notes
        -----
        Point in time: uses the row and what was decided before it.
        """
        if self.equity <= 0.0:
            return []
        state = steps.state[row]
        self.seen[np.isfinite(panel.close[row])] = panel.ts[row]
        if not self.amount.any() and not self.target.any():
            return []
        moved = self.amount * steps.before[row]
        drifted, was = self.amount + moved, self.equity
        opened = was + float(moved.sum())
        is_open = opened > RUIN * was
        can_fill = ((state & FILL) > 0) & (is_open and not np.isnat(self.decided_ts))
        new = np.where(can_fill, self.target * opened, drifted)
        gain = new * steps.after[row] * is_open
        end = opened + float(gain.sum())
        is_lost = not is_open or end <= RUIN * was
        if is_lost:  # no more than all of it can be lost, and nothing is left to pay
            share = -was / float(moved.sum() + gain.sum())
            moved, gain = moved * share, gain * share
        paid = np.abs(new - drifted) * (0.0 if is_lost else end / (was * opened))
        self.gross += np.where(np.isnat(self.entry), 0.0, moved / was)
        closed = self._turn(panel, row, np.where(can_fill, drifted, new), new, paid)
        self.gross += np.where(np.isnat(self.entry), 0.0, gain / was)
        fresh = self.entry == panel.ts[row]
        self.size = np.where(fresh, np.abs(new) / opened, self.size)
        if is_lost:
            return closed + self._ruin(panel, row)
        late = self._exit(state, new + gain, was)
        for column in map(int, np.flatnonzero((state & EXIT) > 0)):
            if not np.isnat(self.entry[column]):
                closed.append(self._end_at_close(panel, row, column))
        self._mark(end / was - 1.0, float(paid.sum() + late) * bps * 1e-4, end)
        return closed

    def take_late(self, panel: AlignedPanel, steps: Steps) -> list[str]:
        """Mark holdings by bars that came after the rows they belong to were traded.

        Parameters
        ----------
        panel : AlignedPanel
            With the book's instruments, in its order.
        steps : Steps
            Of the panel, see `steps_of`.

        Returns
        -------
        list of str
            Instruments that had such bars.

        Notes
        -----
        Point in time: rows up to the last decision; nothing is filled in the past.
        """
        late = []
        for column in map(int, np.flatnonzero(self.amount)):
            rows = panel.has_bar[:, column] & (panel.ts <= self.decided_ts)
            rows &= panel.ts > self.seen[column]
            if np.isnat(self.seen[column]) or not rows.any():
                continue
            legs = (1.0 + steps.before[rows, column]) * (
                1.0 + steps.after[rows, column]
            )
            gain = float(self.amount[column] * (np.prod(legs) - 1.0))
            was = self.equity
            self.gross[column] += gain / was
            self.amount[column] += gain
            self.seen[column] = panel.ts[rows][-1]
            self._mark(gain / was, 0.0, was + gain)
            late.append(panel.symbols[column])
        return late

    def open_orders(self) -> list[Order]:
        """Return the orders that have no exit yet, by instrument."""
        held = np.flatnonzero(~np.isnat(self.entry))
        return [self._order(int(column), _NO_TIME, np.nan) for column in held]

    def to_json(self) -> dict[str, Any]:
        """Return the book as JSON; instruments without target or holding are left out."""
        busy = (self.target != 0) | (self.amount != 0) | ~np.isnat(self.entry)
        rows = {
            self.symbols[column]: {
                "target": float(self.target[column]),
                **{name: float(getattr(self, name)[column]) for name in _NUMBERS},
                "decided": _text(self.decided[column]),
                "entry": _text(self.entry[column]),
                "seen": _text(self.seen[column] if self.amount[column] else _NO_TIME),
            }
            for column in map(int, np.flatnonzero(busy))
        }
        return {
            "equity": self.equity,
            "net_equity": self.net_equity,
            "peak": self.peak,
            "decided_ts": _text(self.decided_ts),
            "rows": rows,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], symbols: Sequence[str]) -> Self:
        """Take a book up again on the instruments of a panel.

        Raises
        ------
        PaperError
            If it is no book, or holds an instrument that the panel lacks.
        """
        book = cls.empty(symbols)
        place = {name: column for column, name in enumerate(symbols)}
        try:
            for name in ("equity", "net_equity", "peak"):
                setattr(book, name, float(content[name]))
            book.decided_ts = _time(content["decided_ts"])
            rows = content["rows"]
            if missing := sorted(set(rows) - set(place)):
                raise PaperError(
                    f"paper book: no bars any more of {', '.join(missing)}"
                )
            for symbol, row in rows.items():
                column = place[symbol]
                for name in ("target", *_NUMBERS):
                    getattr(book, name)[column] = float(row[name])
                for name in ("decided", "entry", "seen"):
                    getattr(book, name)[column] = _time(row[name])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PaperError(f"paper book: not a book: {error!r}") from error
        return book

    def _turn(
        self,
        panel: AlignedPanel,
        row: int,
        old: FloatArray,
        new: FloatArray,
        paid: FloatArray,
    ) -> list[Order]:
        # Fills: a change of side ends one order and begins the next.
        sides = np.sign(new) != np.sign(old)
        same = ~sides & ~np.isnat(self.entry)
        self.cost += np.where(same, paid, 0.0)
        closed = []
        for column in map(int, np.flatnonzero(sides)):
            traded = abs(new[column] - old[column])
            share = abs(new[column]) / traded
            price = float(panel.open[row, column])
            if not np.isnat(self.entry[column]):
                self.cost[column] += paid[column] * (1.0 - share)
                closed.append(self._end(column, panel.ts[row], price))
            if new[column] != 0:
                self.entry[column], self.price[column] = panel.ts[row], price
                self.decided[column] = self.decided_ts
                self.cost[column] = paid[column] * share
                self.side[column] = np.sign(new[column])
        return closed

    def _end(self, column: int, at: np.datetime64, price: float) -> Order:
        order = self._order(column, at, price)
        for name in _NUMBERS[1:]:
            getattr(self, name)[column] = 0.0
        self.decided[column] = self.entry[column] = _NO_TIME
        return order

    def _order(self, column: int, at: np.datetime64, price: float) -> Order:
        return Order(
            symbol=self.symbols[column],
            side="long" if self.side[column] > 0 else "short",
            decided_ts=self.decided[column],
            entry_ts=self.entry[column],
            exit_ts=at,
            entry_price=float(self.price[column]),
            exit_price=float(price),
            size=float(self.size[column]),
            gross=float(self.gross[column]),
            cost_base=float(self.cost[column]),
        )

    def _end_at_close(self, panel: AlignedPanel, row: int, column: int) -> Order:
        known = panel.close[: row + 1, column]
        last = float(known[np.isfinite(known)][-1])
        return self._end(column, panel.known_ts[row], last)

    def _mark(self, gross: float, cost: float, end: float) -> None:
        self.equity = end
        self.net_equity = max(0.0, self.net_equity * (1.0 + gross - cost))
        self.peak = max(self.peak, self.net_equity)

    def _exit(self, state: AnyArray, left: FloatArray, was: float) -> float:
        # What ends with this bar is sold at its close; its cost, as a share of before.
        is_over = (state & EXIT) > 0
        late = np.where(is_over, np.abs(left) / was, 0.0)
        self.amount = np.where(is_over, 0.0, left)
        self.cost += np.where(np.isnat(self.entry), 0.0, late)
        return float(late.sum())

    def _ruin(self, panel: AlignedPanel, row: int) -> list[Order]:
        # Nothing is left: what was held ends here, and nothing is traded any more.
        held = np.flatnonzero(~np.isnat(self.entry))
        closed = [self._end_at_close(panel, row, int(column)) for column in held]
        self.amount = np.zeros(len(self.symbols))
        self.equity = self.net_equity = 0.0
        return closed


def replay(
    panel: AlignedPanel, targets: FloatArray, *, bps: float = COST_BPS
) -> tuple[Book, list[Order]]:
    """Trade targets over a panel row by row, from an empty book.

    Parameters
    ----------
    panel : AlignedPanel
        Bars.
    targets : ndarray of shape (n_obs, n_assets), float64
        Decided on each row.
    bps : float
        Cost of a unit of turnover, in basis points.

    Returns
    -------
    book : Book
        After the last row.
    orders : list of Order
        Those that were closed, in the order in which they were.

    Raises
    ------
    PaperError
        If a target is not finite or has another shape.
    BacktestError
        If a price cannot be traded.

    Notes
    -----
    Point in time: row t fills what was decided on row t - 1, as a run every bar would.
    """
    steps = steps_of(panel, Fill.NEXT_OPEN)
    book, orders = Book.empty(panel.symbols), []
    for row in range(panel.n_obs):
        orders += book.step(panel, row, steps, bps=bps)
        book.decide(targets[row], panel.ts[row])
    return book, orders


def _text(moment: np.datetime64) -> str | None:
    return None if np.isnat(moment) else str(moment.astype("datetime64[us]"))


def _time(text: str | None) -> np.datetime64:
    return _NO_TIME if text is None else np.datetime64(text, "us")
