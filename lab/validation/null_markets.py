"""Markets with nothing in them, shaped like a real one.

Each is made from a panel: its calendars, gaps, listings, delistings, volumes and breaks
stay, its prices are replaced. Three ways to take every signal out:

- `walk`: random walks with the panel's own moving volatility. Each row's returns are a
  row of the panel's standardised returns, drawn by the stationary bootstrap and given
  one random sign: fat tails and cross-correlation stay, the past says nothing.
- `shuffle`: the panel's own returns, permuted in blocks of rows for each instrument by
  itself, each with a random sign: marginals and volatility clusters stay, what followed
  what is gone.
- `events`: random walks, with surprises moved to other releases and random signs, and
  forecasts that know nothing.

A random sign makes every return fair given its past: its expected value is 0 exactly,
in and out of any rule's positions. Permutation alone would not do: returns that are used
up once lean back towards their mean, and their mean itself can be held for.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray
from lab.backtest.panel import AlignedPanel, ForecastGrid
from lab.errors import ValidationError
from lab.validation.bootstrap import stationary_indices

KINDS: Final = ("walk", "shuffle", "events")
MODELS: Final = ("kronos", "chronos2", "ensemble")

_DAY: Final = np.timedelta64(1, "D").astype("timedelta64[us]")
_HALF_LIFE: Final = 20
_BLOCK: Final = 10
_LOWEST: Final = -0.6
_SMALLEST: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Moves:
    """A panel's bars as moves; every array has shape (n_obs, n_assets), float64.

    Attributes
    ----------
    gap : ndarray
        Open over the instrument's close before, less 1; NaN where there is no bar.
    body : ndarray
        Close over open, less 1.
    up, down : ndarray
        How far the wicks reach beyond open and close, as shares, at least 0.
    scale : ndarray
        Moving volatility of close-to-close returns, known before the row.
    """

    gap: FloatArray
    body: FloatArray
    up: FloatArray
    down: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, panel: AlignedPanel) -> "Moves":
        """Take a panel's bars apart.

        Raises
        ------
        ValidationError
            If an instrument has a price that is not positive.

        Notes
        -----
        Point in time: the scale of row t comes from rows before t, the first ones of an
        instrument excepted.
        """
        shape = panel.close.shape
        found = cls(*(np.full(shape, np.nan) for _ in range(5)))
        for column in range(panel.n_assets):
            rows = np.flatnonzero(panel.has_bar[:, column])
            bars = [
                getattr(panel, name)[rows, column]
                for name in ("open", "high", "low", "close")
            ]
            opened, high, low, close = bars
            if len(rows) and min(opened.min(), low.min()) <= 0:
                raise ValidationError(
                    f"null market: {panel.symbols[column]}: price <= 0"
                )
            before = np.concatenate([opened[:1], close[:-1]])
            gap = np.where(panel.is_break[rows, column], 0.0, opened / before - 1.0)
            found.gap[rows, column] = np.maximum(gap, _LOWEST)
            found.body[rows, column] = np.maximum(close / opened - 1.0, _LOWEST)
            top, bottom = np.maximum(opened, close), np.minimum(opened, close)
            found.up[rows, column] = np.maximum(high / top - 1.0, 0.0)
            found.down[rows, column] = np.maximum(1.0 - low / bottom, 0.0)
            whole = (1.0 + gap) * (close / opened) - 1.0
            found.scale[rows, column] = _moving_scale(whole)
        return found


def null_market(
    panel: AlignedPanel, kind: str, *, rng: np.random.Generator
) -> AlignedPanel:
    """Return a market shaped like a panel in which nothing can be known.

    Parameters
    ----------
    panel : AlignedPanel
        What it is shaped like.
    kind : str
        One of `KINDS`.
    rng : numpy.random.Generator
        Draws it.

    Raises
    ------
    ValidationError
        If there is no such kind.
    """
    if kind not in KINDS:
        raise ValidationError(f"null market {kind!r}: one of {', '.join(KINDS)}")
    moves = Moves.of(panel)
    drawn = _shuffled(moves, rng) if kind == "shuffle" else _walked(moves, rng)
    made = rebuilt(panel, drawn)
    if kind != "events":
        return made
    return replace(
        made,
        surprises=_moved_surprises(panel.surprises, rng),
        forecasts={name: _noise(made, rng) for name in MODELS},
    )


def rebuilt(panel: AlignedPanel, moves: Moves) -> AlignedPanel:
    """Return a panel with the bars that moves make; every instrument starts at 100."""
    shape = panel.close.shape
    bars = {name: np.full(shape, np.nan) for name in ("open", "high", "low", "close")}
    for column in range(panel.n_assets):
        rows = np.flatnonzero(panel.has_bar[:, column])
        gap, body = moves.gap[rows, column], moves.body[rows, column]
        close = 100.0 * np.cumprod((1.0 + gap) * (1.0 + body))
        opened = close / (1.0 + body)
        top, bottom = np.maximum(opened, close), np.minimum(opened, close)
        bars["open"][rows, column] = opened
        bars["high"][rows, column] = top * (1.0 + moves.up[rows, column])
        bars["low"][rows, column] = bottom * (1.0 - moves.down[rows, column])
        bars["close"][rows, column] = close
    return replace(
        panel,
        open=bars["open"],
        high=bars["high"],
        low=bars["low"],
        close=bars["close"],
        is_break=np.zeros(shape, dtype=np.bool_),
    )


def sample_panel(
    *, n_assets: int = 23, years: float = 8.0, seed: int = 0
) -> AlignedPanel:
    """Return a panel to shape null markets like where there is no real one.

    A quarter of the instruments trade every day, the others on weekdays; one is listed
    late, one delisted. Volatility moves as GARCH(1, 1) does, tails are Student's t with
    5 degrees of freedom, a common factor makes a correlation of 0.3; every twelfth row
    has a release that surprises.

    Parameters
    ----------
    n_assets : int
        Instruments, at least 4.
    years : float
        Length.
    seed : int
        Of the prices.

    Raises
    ------
    ValidationError
        If it is too small to be searched.
    """
    n_obs = round(years * 365.25)
    if n_assets < 4 or n_obs < 250:
        raise ValidationError("null market: at least 4 instruments and 250 days")
    rng = np.random.default_rng(seed)
    day = np.arange(n_obs)
    ts = np.datetime64("2012-01-02", "us") + day * _DAY
    is_weekday = day % 7 < 5
    has_bar = np.repeat(is_weekday[:, None], n_assets, axis=1)
    has_bar[:, : n_assets // 4] = True
    has_bar[: n_obs // 5, -1] = False
    delisted = np.full(n_assets, -1, dtype=np.int64)
    delisted[-2] = np.flatnonzero(has_bar[: 3 * n_obs // 4, -2])[-1]
    has_bar[delisted[-2] + 1 :, -2] = False
    moves = _garch_moves(has_bar, rng)
    surprises = np.zeros((n_obs, n_assets))
    surprises[day % 12 == 0] = rng.standard_normal((len(day[day % 12 == 0]), n_assets))
    nothing = np.full(has_bar.shape, np.nan)
    bare = AlignedPanel(
        timeframe="1d",
        symbols=tuple(f"NULL{k:02d}" for k in range(n_assets)),
        asset_classes=tuple(
            "crypto" if k < n_assets // 4 else "fx" for k in range(n_assets)
        ),
        calendars=tuple("24x7" if k < n_assets // 4 else "fx" for k in range(n_assets)),
        ts=ts,
        known_ts=ts + _DAY,
        open=nothing,
        high=nothing,
        low=nothing,
        close=np.where(has_bar, 1.0, np.nan),
        volume=np.where(has_bar, 1e6, np.nan),
        is_break=np.zeros(has_bar.shape, dtype=np.bool_),
        delisted=delisted,
        surprises=surprises,
    )
    return rebuilt(bare, moves)


def _garch_moves(has_bar: BoolArray, rng: np.random.Generator) -> Moves:
    # Student's t shocks with unit variance; a common factor; 0.08 and 0.9 of GARCH.
    n_obs, n_assets = has_bar.shape
    common = rng.standard_t(5, size=(n_obs, 1))
    own = rng.standard_t(5, size=(n_obs, n_assets))
    shock = (np.sqrt(0.3) * common + np.sqrt(0.7) * own) * np.sqrt(3.0 / 5.0)
    yearly = np.where(np.arange(n_assets) < n_assets // 4, 0.6, 0.12)
    mean = np.square(yearly / 16.0)
    level, returns = mean.copy(), np.empty((n_obs, n_assets))
    for row in range(n_obs):
        returns[row] = np.sqrt(level) * shock[row]
        level = 0.02 * mean + 0.08 * np.square(returns[row]) + 0.90 * level
    returns = np.clip(np.where(has_bar, returns, np.nan), _LOWEST, -_LOWEST)
    part = rng.uniform(0.0, 0.2, size=returns.shape)
    reach = np.abs(rng.standard_normal((2, n_obs, n_assets))) * yearly / 40.0
    return Moves(
        gap=part * returns,
        body=(1.0 - part) * returns,
        up=np.where(has_bar, reach[0], np.nan),
        down=np.where(has_bar, np.minimum(reach[1], 0.5), np.nan),
        scale=np.where(has_bar, yearly / 16.0, np.nan),
    )


def _walked(moves: Moves, rng: np.random.Generator) -> Moves:
    # Rows of standardised moves, drawn together, with one sign for each row.
    n_obs, n_assets = moves.gap.shape
    has_bar = np.isfinite(moves.gap)
    drawn = _drawn_rows(has_bar.sum(axis=1), rng)
    sign = rng.choice([-1.0, 1.0], size=n_obs)[:, None]
    source = np.broadcast_to(drawn[:, None], (n_obs, n_assets)).copy()
    columns = np.arange(n_assets)
    lacks = has_bar & ~has_bar[source, columns]
    for column in np.flatnonzero(lacks.any(axis=0)):
        # Where the drawn row has no bar of the instrument, another of its own.
        own = np.flatnonzero(has_bar[:, column])
        rows = np.flatnonzero(lacks[:, column])
        source[rows, column] = rng.choice(own, size=len(rows))
    return _signed(moves, source, sign)


def _drawn_rows(n_bars: IntArray, rng: np.random.Generator) -> IntArray:
    # Busy rows for busy rows, quiet ones (weekends) for quiet ones: what is drawn for
    # a weekday has the bars that move together on one.
    drawn = np.zeros(len(n_bars), dtype=np.int64)
    is_busy = 2 * n_bars > n_bars.max(initial=0)
    for chosen in (is_busy, ~is_busy):
        rows = np.flatnonzero(chosen)
        if len(rows):
            place = stationary_indices(len(rows), n_boot=1, block=_BLOCK, rng=rng)[0]
            drawn[rows] = rows[place]
    return drawn


def _shuffled(moves: Moves, rng: np.random.Generator) -> Moves:
    # Each instrument's own moves, in another order of blocks, signs of their own.
    n_obs, n_assets = moves.gap.shape
    source = np.zeros((n_obs, n_assets), dtype=np.int64)
    for column in range(n_assets):
        rows = np.flatnonzero(np.isfinite(moves.gap[:, column]))
        blocks = [rows[k : k + _BLOCK] for k in range(0, len(rows), _BLOCK)]
        order = rng.permutation(len(blocks))
        if len(blocks):
            source[rows, column] = np.concatenate([blocks[k] for k in order])
    sign = rng.choice([-1.0, 1.0], size=(n_obs, n_assets))
    return _signed(moves, source, sign, is_rescaled=False)


def _signed(
    moves: Moves, source: IntArray, sign: FloatArray, *, is_rescaled: bool = True
) -> Moves:
    # A fall for a rise: the wicks change sides with the sign.
    columns = np.arange(moves.gap.shape[1])
    has_bar = np.isfinite(moves.gap)
    ratio = moves.scale / moves.scale[source, columns] if is_rescaled else 1.0

    def taken(values: FloatArray) -> FloatArray:
        found = values[source, columns] * ratio
        return np.where(has_bar, found, np.nan)

    up, down = taken(moves.up), taken(moves.down)
    is_up = np.broadcast_to(sign > 0, up.shape)
    limit = -_LOWEST
    return Moves(
        gap=np.clip(sign * taken(moves.gap), -limit, limit),
        body=np.clip(sign * taken(moves.body), -limit, limit),
        up=np.clip(np.where(is_up, up, down), 0.0, limit),
        down=np.clip(np.where(is_up, down, up), 0.0, limit),
        scale=moves.scale,
    )


def _moved_surprises(surprises: FloatArray, rng: np.random.Generator) -> FloatArray:
    # Whole rows of surprises change places among those that have any, signs are drawn.
    moved = np.zeros_like(surprises)
    rows = np.flatnonzero((surprises != 0).any(axis=1))
    sign = rng.choice([-1.0, 1.0], size=(len(rows), 1))
    moved[rows] = surprises[rng.permutation(rows)] * sign
    return moved


def _noise(panel: AlignedPanel, rng: np.random.Generator) -> ForecastGrid:
    # New every fifth row, held in between; bands as wide as moves really are.
    shape = panel.close.shape
    fresh = rng.standard_normal((-(-shape[0] // 5), shape[1]))
    opinion = np.repeat(fresh, 5, axis=0)[: shape[0]]
    return ForecastGrid(
        np.where(panel.has_bar, 0.01 * opinion, np.nan),
        np.where(panel.has_bar, 0.03, np.nan),
    )


def _moving_scale(returns: FloatArray) -> FloatArray:
    # Exponentially weighted root of squares before each row; the first rows share one.
    n = len(returns)
    if n == 0:
        return returns
    decay = 0.5 ** (1.0 / _HALF_LIFE)
    start = float(np.mean(np.square(returns[:100])))
    scale, level = np.empty(n), max(start, _SMALLEST**2)
    for row, square in enumerate(np.square(returns).tolist()):
        scale[row] = level
        level = max(decay * level + (1.0 - decay) * square, _SMALLEST**2)
    return np.sqrt(scale)
