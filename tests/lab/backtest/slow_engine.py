"""The engine once more, slow and obvious: money and prices, bar by bar, in Python."""

from dataclasses import dataclass, field

import numpy as np

HOUR = np.timedelta64(1, "h")
LONG_SILENCE = 25  # hours of a market that never closes


@dataclass
class Book:
    """What is held of each instrument, in money, and what the book is worth."""

    n_assets: int
    equity: float = 1.0
    money: list = field(default_factory=list)
    price: list = field(default_factory=list)
    seen: list = field(default_factory=list)

    def __post_init__(self):
        self.money = [0.0] * self.n_assets
        self.price = [None] * self.n_assets
        self.seen = [None] * self.n_assets

    def move(self, i, price, *, is_break=False):
        """Revalue what is held at a new price."""
        if self.price[i] is not None and not is_break:
            changed = self.money[i] * (price / self.price[i])
            self.equity += changed - self.money[i]
            self.money[i] = changed
        self.price[i] = price


def simulate_slowly(panel, positions, fill):  # noqa: C901 - to be read top down
    """Return gross, cost base, turnover, trades, exposure and each instrument's part."""
    if fill == "same_close":
        return _fixed(panel, positions)
    n_obs, n_assets = positions.shape
    book = Book(n_assets)
    wanted = [0.0] * n_assets
    gone = [False] * n_assets
    rows = []
    for t in range(n_obs):
        start = book.equity
        row = {"gross": 0.0, "cost_base": 0.0, "turnover": 0.0, "trades": 0}
        row |= {"exposure": 0.0, "parts": [0.0] * n_assets, "costs": [0.0] * n_assets}
        rows.append(row)
        if start <= 0:
            continue
        bars = [
            i for i in range(n_assets) if not gone[i] and np.isfinite(panel.close[t, i])
        ]
        dying = [i for i in bars if panel.close[t, i] == 0]
        leaving = [i for i in bars if panel.delisted[i] == t or i in dying]
        held = list(book.money)
        for i in bars:
            price = (panel.open if fill == "next_open" else panel.close)[t, i]
            is_break = bool(panel.is_break[t, i]) and book.price[i] is not None
            book.move(i, price, is_break=is_break)
        opened = book.equity
        if opened <= 1e-12 * start:
            _ruin(row, book, start, held)
            continue
        changes = [0.0] * n_assets
        for i in bars:
            if t == 0 or (fill == "next_close" and i in leaving):
                continue
            target = positions[t - 1, i]
            change = target * opened - book.money[i]
            changes[i] += abs(change) / opened
            row["trades"] += target != wanted[i]
            wanted[i] = target
            held[i] += change
            book.money[i] = target * opened
        if fill == "next_open":
            for i in bars:
                book.move(i, panel.close[t, i])
        end = book.equity
        row["turnover"] = sum(changes)
        for i in range(n_assets):
            if i in bars:
                book.seen[i] = panel.ts[t]
            elif book.money[i] != 0 and _is_silent(panel.ts[t], book.seen[i]):
                leaving.append(i)
        for i in leaving:
            row["trades"] += wanted[i] != 0
            wanted[i] = 0.0
            gone[i] = gone[i] or i in dying
        if end <= 1e-12 * start:
            _ruin(row, book, start, held)
            continue
        row["costs"] = [change * end / start for change in changes]
        row["parts"] = [
            (now - before) / start for now, before in zip(book.money, held, strict=True)
        ]
        for i in leaving:
            row["turnover"] += abs(book.money[i]) / end
            row["costs"][i] += abs(book.money[i]) / start
            book.money[i] = 0.0
        row["gross"] = end / start - 1
        row["cost_base"] = sum(row["costs"])
        row["exposure"] = sum(abs(money) for money in book.money) / end
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]}


def _is_silent(ts, seen):
    return seen is not None and ts - seen >= LONG_SILENCE * HOUR


def _ruin(row, book, start, held):
    lost = [now - before for now, before in zip(book.money, held, strict=True)]
    row["gross"], row["trades"] = -1.0, 0
    row["parts"] = [-each / sum(lost) for each in lost]
    book.equity = 0.0
    book.money = [0.0] * book.n_assets


def _fixed(panel, positions):
    n_obs, n_assets = positions.shape
    weight, price, seen = [0.0] * n_assets, [None] * n_assets, [None] * n_assets
    wanted, gone = [0.0] * n_assets, [False] * n_assets
    rows = []
    for t in range(n_obs):
        parts, costs, trades = [0.0] * n_assets, [0.0] * n_assets, 0
        for i in range(n_assets):
            close = panel.close[t, i]
            new = weight[i]
            if np.isfinite(close) and not gone[i]:
                if price[i] is not None and not panel.is_break[t, i]:
                    parts[i] = weight[i] * (close / price[i] - 1)
                price[i], seen[i] = close, panel.ts[t]
                gone[i] = close == 0
                is_leaving = gone[i] or panel.delisted[i] == t
                new = 0.0 if is_leaving else positions[t, i]
            elif _is_silent(panel.ts[t], seen[i]):
                new = 0.0
            if np.isfinite(close) or new == 0:
                trades += new != wanted[i]
                wanted[i] = new
            costs[i] = abs(new - weight[i])
            weight[i] = new
        rows.append(
            {
                "gross": sum(parts),
                "cost_base": sum(costs),
                "turnover": sum(costs),
                "trades": trades,
                "exposure": sum(map(abs, weight)),
                "parts": parts,
                "costs": costs,
            }
        )
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]}
