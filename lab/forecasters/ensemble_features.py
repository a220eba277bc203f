"""What the ensemble sees of its members, of the market's state and of the calendar.

Everything is read off stored forecasts and tables as of the decision time; distances
are divided by the recent volatility that the forecasts themselves state: the width of
`naive`'s band, else the median width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray, TimeArray
from lab.bars.timeframes import step
from lab.errors import FeatureError
from lab.forecasters.scheduled import HIGH_IMPACT, ScheduledReleases
from lab.scoring.unfold import times
from lakehouse.schema._spec import ASSET_CLASSES

EVENT_KINDS: Final = ("fomc", "cpi", "nfp", "gdp", "pce", "rate_decision")
REGIMES: Final = ("p_calm", "p_normal", "p_turbulent")
SCALE_MEMBER: Final = "naive"
LEVELS: Final = np.array([0.1, 0.5, 0.9])
SCORE_COLUMNS: Final = (
    "prediction_id",
    "symbol",
    "model_name",
    "as_of",
    "horizon",
    "target_ts",
    "known_ts",
    "last_close",
    "actual",
    "p10",
    "p50",
    "p90",
    "is_in_skill",
)
_MIN_SCALE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class MemberRows:
    """Members' forecasts side by side, one row per symbol, decision time and horizon.

    Attributes
    ----------
    members : tuple of str
        Model names, in the order of the second axis of `bands`.
    symbol, asset_class : ndarray of shape (n_rows,), object
        What was forecast.
    as_of, until : ndarray of shape (n_rows,), datetime64[us]
        Decision time and end of the target bar.
    horizon : ndarray of shape (n_rows,), int64
        Step.
    bands : ndarray of shape (n_rows, n_members, 3), float64
        log(quantile / last close); NaN where a member is missing.
    outcome : ndarray of shape (n_rows,), float64
        log(actual / last close); NaN while unknown.
    known : ndarray of shape (n_rows,), datetime64[us]
        When the outcome was known; NaT while it is not.
    """

    members: tuple[str, ...]
    symbol: AnyArray
    asset_class: AnyArray
    as_of: TimeArray
    until: TimeArray
    horizon: IntArray
    bands: FloatArray
    outcome: FloatArray
    known: TimeArray

    @classmethod
    def from_scores(
        cls, scores: pa.Table, asset_classes: Mapping[str, str], *, timeframe: str
    ) -> "MemberRows":
        """Put settled scores side by side.

        Parameters
        ----------
        scores : pyarrow.Table
            Rows of `prediction_scores` with `SCORE_COLUMNS`, of one timeframe; those
            in skill count. Of several by one model the last by `prediction_id` does.
        asset_classes : mapping of str to str
            By symbol; other symbols are left out.
        timeframe : str
            `1h` or `1d`.
        """
        is_known = pa.array(
            [one in asset_classes for one in scores["symbol"].to_pylist()], pa.bool_()
        )
        rows = scores.filter(is_known)
        rows = rows.filter(rows["is_in_skill"]).sort_by("prediction_id")
        names = np.array(rows["model_name"].to_pylist(), dtype=str)
        members, member = np.unique(names, return_inverse=True)
        symbols = np.array(rows["symbol"].to_pylist(), dtype=str)
        _, code = np.unique(symbols, return_inverse=True)
        as_of, target = times(rows["as_of"]), times(rows["target_ts"])
        horizon = rows["horizon"].to_numpy().astype(np.int64)
        keys = np.stack(
            [as_of.astype(np.int64), code, horizon, target.astype(np.int64)], axis=1
        )
        _, first, place = np.unique(
            keys, axis=0, return_index=True, return_inverse=True
        )
        place = place.reshape(-1)
        last_close = rows["last_close"].to_numpy()
        bands = np.full((len(first), len(members), 3), np.nan)
        for level, name in enumerate(("p10", "p50", "p90")):
            bands[place, member, level] = np.log(rows[name].to_numpy() / last_close)
        chosen = symbols[first].astype(object)
        return cls(
            members=tuple(members.tolist()),
            symbol=chosen,
            asset_class=np.array(
                [asset_classes[one] for one in chosen.tolist()], dtype=object
            ),
            as_of=as_of[first],
            until=np.asarray(target[first] + step(timeframe), dtype="datetime64[us]"),
            horizon=horizon[first],
            bands=bands,
            outcome=np.log(rows["actual"].to_numpy() / last_close)[first],
            known=times(rows["known_ts"])[first],
        )

    @property
    def is_present(self) -> BoolArray:
        """Where a member forecast, (n_rows, n_members)."""
        return np.asarray(np.isfinite(self.bands).all(axis=2))

    @property
    def scale(self) -> FloatArray:
        """Recent volatility over the horizon, as a band width in log price, (n_rows,)."""
        width = self.bands[:, :, 2] - self.bands[:, :, 0]
        if SCALE_MEMBER in self.members:
            own = width[:, self.members.index(SCALE_MEMBER)]
        else:
            own = np.full(len(width), np.nan)
        scale = np.where(np.isfinite(own), own, _row_median(width))
        return np.asarray(np.maximum(np.nan_to_num(scale, nan=_MIN_SCALE), _MIN_SCALE))

    def keep(self, chosen: BoolArray) -> "MemberRows":
        """Return the rows where `chosen` is true."""
        return MemberRows(
            self.members,
            self.symbol[chosen],
            self.asset_class[chosen],
            self.as_of[chosen],
            self.until[chosen],
            self.horizon[chosen],
            self.bands[chosen],
            self.outcome[chosen],
            self.known[chosen],
        )

    def of_members(self, members: Sequence[str]) -> "MemberRows":
        """Return the same rows with these members, absent ones missing throughout."""
        bands = np.full((len(self.symbol), len(members), 3), np.nan)
        for place, name in enumerate(members):
            if name in self.members:
                bands[:, place] = self.bands[:, self.members.index(name)]
        return MemberRows(
            tuple(members),
            self.symbol,
            self.asset_class,
            self.as_of,
            self.until,
            self.horizon,
            bands,
            self.outcome,
            self.known,
        )


@dataclass(frozen=True, slots=True)
class RegimeCalls:
    """Filtered regime probabilities by when they were known.

    Attributes
    ----------
    known : ndarray of shape (n_calls,), datetime64[us]
        In order.
    probability : ndarray of shape (n_calls, 3), float64
        Calm, normal, turbulent.
    """

    known: TimeArray
    probability: FloatArray

    @classmethod
    def from_table(cls, regimes: pa.Table) -> "RegimeCalls":
        """Take the calls out of rows of `regimes`; there may be none.

        Raises
        ------
        FeatureError
            If a column is missing.
        """
        missing = [
            name
            for name in ("known_ts", "ts", *REGIMES)
            if name not in regimes.column_names
        ]
        if missing:
            raise FeatureError(f"regimes: column missing: {', '.join(missing)}")
        rows = regimes.sort_by([("known_ts", "ascending"), ("ts", "ascending")])
        return cls(
            times(rows["known_ts"]),
            np.stack([rows[name].to_numpy() for name in REGIMES], axis=1),
        )

    def at(self, as_of: TimeArray) -> FloatArray:
        """Return the newest probabilities known, and whether there are none.

        Returns
        -------
        ndarray of shape (n_rows, 4), float64
            Without a call: a third each, and 1.

        Notes
        -----
        Point in time: only calls with `known_ts` <= `as_of`.
        """
        found = np.tile([1 / 3, 1 / 3, 1 / 3, 1.0], (len(as_of), 1))
        place = np.searchsorted(self.known, as_of, side="right") - 1
        has_call = place >= 0
        found[has_call, :3] = self.probability[place[has_call]]
        found[has_call, 3] = 0.0
        return found


@dataclass(frozen=True, slots=True)
class EnsembleContext:
    """What the ensemble sees beside its members."""

    releases: ScheduledReleases
    regimes: RegimeCalls


@dataclass(frozen=True, slots=True)
class MemberPairs:
    """Features of every member that is present in a row.

    Attributes
    ----------
    features : ndarray of shape (n_pairs, n_features), float32
        Columns as in `feature_names`; NaN for what is missing.
    row, member : ndarray of shape (n_pairs,), int64
        Which row of the `MemberRows` and which member; in the order of rows.
    shape : tuple of int
        (n_rows, n_members).
    """

    features: AnyArray
    row: IntArray
    member: IntArray
    shape: tuple[int, int]

    def keep(self, chosen: BoolArray) -> "MemberPairs":
        """Return the pairs of the rows where `chosen` is true, (n_rows,)."""
        is_kept = chosen[self.row]
        place = np.cumsum(chosen) - 1
        return MemberPairs(
            self.features[is_kept],
            place[self.row[is_kept]],
            self.member[is_kept],
            (int(chosen.sum()), self.shape[1]),
        )


def feature_names(members: Sequence[str]) -> list[str]:
    """Return the names of `member_features`' columns."""
    return [
        "log_horizon",
        "log_volatility",
        "disagreement",
        "n_members",
        *REGIMES,
        "is_regime_missing",
        *(f"n_{kind}" for kind in EVENT_KINDS),
        "n_high_impact",
        "days_to_fomc",
        "days_to_cpi",
        *(f"is_{one}" for one in ASSET_CLASSES),
        *(f"move_{name}" for name in members),
        *(f"spread_{name}" for name in members),
        "move",
        "spread",
        *(f"is_{name}" for name in members),
    ]


def member_features(rows: MemberRows, context: EnsembleContext) -> MemberPairs:
    """Return a feature row for every member that is present in a row.

    Notes
    -----
    Point in time: forecasts as of `as_of`, regime calls with `known_ts` <= `as_of`,
    releases announced by `as_of`.
    """
    scale = rows.scale[:, None]
    move = rows.bands[:, :, 1] / scale
    width = (rows.bands[:, :, 2] - rows.bands[:, :, 0]) / scale
    spread = np.log(np.maximum(width, _MIN_SCALE))
    shared = np.column_stack([_row_features(rows, context, move), move, spread])
    is_present = rows.is_present
    row, member = np.nonzero(is_present)
    own = np.column_stack(
        [
            move[row, member],
            spread[row, member],
            np.eye(len(rows.members))[member],
        ]
    )
    return MemberPairs(
        np.hstack([shared[row], own]).astype(np.float32),
        row.astype(np.int64),
        member.astype(np.int64),
        is_present.shape,
    )


def _row_features(
    rows: MemberRows, context: EnsembleContext, move: FloatArray
) -> FloatArray:
    def n_releases(kind: str | None, importance: int = 0) -> IntArray:
        return context.releases.count(
            rows.symbol, rows.as_of, rows.until, kind=kind, importance=importance
        )

    is_present = rows.is_present
    return np.column_stack(
        [
            np.log(rows.horizon),
            np.log(rows.scale / np.sqrt(rows.horizon)),
            _row_spread(move),
            is_present.sum(axis=1),
            context.regimes.at(rows.as_of),
            *(n_releases(kind) for kind in EVENT_KINDS),
            n_releases(None, HIGH_IMPACT),
            context.releases.days_to("fomc", rows.as_of),
            context.releases.days_to("cpi", rows.as_of),
            *(rows.asset_class == one for one in ASSET_CLASSES),
        ]
    ).astype(np.float64)


def member_losses(rows: MemberRows) -> FloatArray:
    """Return each member's mean pinball loss in units of recent volatility.

    Returns
    -------
    ndarray of shape (n_rows, n_members), float64
        NaN where a member is missing or the outcome unknown.
    """
    return scaled_pinball(rows.bands, rows.outcome[:, None], rows.scale[:, None])


def scaled_pinball(
    bands: FloatArray, outcome: FloatArray, scale: FloatArray
) -> FloatArray:
    """Return the mean pinball loss at 10, 50 and 90 % of log prices over `scale`.

    Parameters
    ----------
    bands : ndarray of shape (..., 3), float64
        log quantiles.
    outcome, scale : ndarray of shape (...), float64
        log outcome and unit.

    Returns
    -------
    ndarray of shape (...), float64
    """
    error = outcome[..., None] - bands
    loss = np.maximum(LEVELS * error, (LEVELS - 1) * error).mean(axis=-1)
    return np.asarray(loss / scale)


def _row_median(values: FloatArray) -> FloatArray:
    # Rows without any value stay NaN, without numpy's warning.
    found = np.full(len(values), np.nan)
    has_any = np.isfinite(values).any(axis=1)
    found[has_any] = np.nanmedian(values[has_any], axis=1)
    return found


def _row_spread(values: FloatArray) -> FloatArray:
    found = np.zeros(len(values))
    has_any = np.isfinite(values).any(axis=1)
    found[has_any] = np.nanstd(values[has_any], axis=1)
    return found
