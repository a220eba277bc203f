"""A synthetic market whose regime changes, and the orders that were placed in it.

Sixteen instruments trade every day. Up to the change a price follows its own move of
the day before; from the change on it reverts it, at twice the volatility. So what an
order's features say of its profit turns over. Every day every instrument is bought at
the open and sold at the next: the orders themselves are no part of the change.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa

from flows.bodies.order_predictions import predict_orders, settle_predictions
from flows.runs import Run, execute
from flows.wiring import open_workplace
from lab.arrays import FloatArray, IntArray
from lab.backtest.panel import AlignedPanel
from lab.bars.timeframes import to_moment
from lab.paper.frozen import feature_matrix, named
from lakehouse.clock import freeze_clock
from lakehouse.schema.lifecycle import BOT_ORDERS

DAY: Final = np.timedelta64(1, "D")
N_ASSETS: Final = 16
WARM_UP: Final = 65  # bars before every feature is known
COST: Final = 0.0004
_SIZE: Final = 0.1
_SIGMA: Final = 0.01
_PULL: Final = 1.0


@dataclass(frozen=True)
class ModelMarket:
    """Bars, and the orders on them."""

    panel: AlignedPanel
    seed: int

    def moment(self, day: int) -> datetime:
        """Return when day `day` opens, UTC."""
        return to_moment(self.panel.ts[day])

    def orders(self, first: int, last: int, *, origin: str) -> pa.Table:
        """Return the orders filled on the days `first` to `last`, the last excluded.

        All of them closed, as `bot_orders` has them a day after the last.
        """
        days = np.repeat(np.arange(max(first, WARM_UP), last), N_ASSETS)
        assets = np.tile(np.arange(N_ASSETS), len(days) // N_ASSETS)
        matrix = self._features(days - 1, assets)
        opens, ts = self.panel.open, self.panel.ts
        gain = opens[days + 1, assets] / opens[days, assets] - 1.0
        pnl = _SIZE * (gain - COST)
        rows = [
            {
                "order_id": self._order_id(int(day), int(asset)),
                "sleeve_id": "phase37",
                "symbol": self.panel.symbols[asset],
                "timeframe": "1d",
                "origin": origin,
                "side": "long",
                "decided_at": to_moment(self.panel.known_ts[day - 1]),
                "entry_ts": to_moment(ts[day]),
                "entry_price": float(opens[day, asset]),
                "exit_ts": to_moment(ts[day + 1]),
                "exit_price": float(opens[day + 1, asset]),
                "size": _SIZE,
                "costs": _SIZE * COST,
                "pnl_net": float(pnl[k]),
                "features": json.dumps(named(matrix[k])),
                "run_id": "synthetic-market",
            }
            for k, (day, asset) in enumerate(zip(days, assets, strict=True))
        ]
        return pa.Table.from_pylist(rows, schema=BOT_ORDERS.to_arrow())

    def _features(self, rows: IntArray, assets: IntArray) -> FloatArray:
        return feature_matrix(
            self.panel,
            (rows, assets),
            side=np.ones(len(rows)),
            size=np.full(len(rows), _SIZE),
            sleeve_id="phase37",
            positions={},
        )

    def _order_id(self, day: int, asset: int) -> str:
        name = f"{self.seed}/{day}/{asset}"
        return hashlib.sha256(name.encode()).hexdigest()[:32]


def model_market(
    *, n_days: int, change: int, begin: str = "2019-01-01", seed: int = 0
) -> ModelMarket:
    """Make a market of `n_days` daily bars whose regime changes on day `change`."""
    generator = np.random.default_rng(seed)
    log_price = np.zeros((n_days, N_ASSETS))
    steps = np.zeros((n_days, N_ASSETS))
    shocks = generator.standard_normal((n_days, N_ASSETS))
    for day in range(1, n_days):
        sigma, sign = (_SIGMA, 1.0) if day < change else (2.0 * _SIGMA, -1.0)
        pull = sign * _PULL * np.tanh(steps[day - 1] / sigma)
        steps[day] = sigma * (pull + shocks[day])
        log_price[day] = log_price[day - 1] + steps[day]
    close = 100.0 * np.exp(log_price)
    opens = np.vstack([close[:1], close[:-1]])
    ts = np.datetime64(begin, "us") + DAY * np.arange(n_days)
    shape = close.shape
    spread = 1.0 + 0.3 * _SIGMA * np.abs(generator.standard_normal(shape))
    panel = AlignedPanel(
        timeframe="1d",
        symbols=tuple(f"COIN{k}" for k in range(N_ASSETS)),
        asset_classes=("crypto",) * N_ASSETS,
        calendars=("24x7",) * N_ASSETS,
        ts=ts,
        known_ts=ts + DAY,
        open=opens,
        high=np.maximum(opens, close) * spread,
        low=np.minimum(opens, close) / spread,
        close=close,
        volume=np.exp(generator.standard_normal(shape)),
        is_break=np.zeros(shape, dtype=bool),
        delisted=np.full(N_ASSETS, -1),
    )
    return ModelMarket(panel, seed)


def live_through(
    market: ModelMarket, root: str, first: int, last: int, *, origin: str
) -> None:
    """Let days happen in the environment's lake: orders, predicted and settled.

    The clock of `root` stands at the opening of day `last` afterwards.
    """
    freeze_clock(root, market.moment(last))
    orders = market.orders(first, last, origin=origin)

    def trade(run: Run) -> str:
        run.append("bot_orders", orders, window=f"market/bot_orders/{first}")
        if origin == "live":
            predict_orders(run, orders, origin=origin)
            settle_predictions(run)
        return f"{orders.num_rows} orders"

    execute("market", trade, workplace=open_workplace(), parameters={})
