"""One model name, another set of weights for each asset class and bar length."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from lab.errors import ForecastError
from lab.forecasters._base import (
    Forecast,
    ForecastRequest,
    ModelForecaster,
    Series,
)


class RoutedForecaster:
    """Forecasts each series with the weights of its asset class and bar length.

    Parameters
    ----------
    name : str
        Name in the tables.
    variants : mapping of str to ModelForecaster
        Route (`route_of` a series) to forecaster; all of one family.

    Notes
    -----
    Point in time: a forecast is contaminated if its own variant's cut-off says so.
    """

    def __init__(self, name: str, variants: Mapping[str, ModelForecaster]) -> None:
        if not variants:
            raise ForecastError(f"{name}: no weights for any series")
        self._name = name
        self._variants = dict(sorted(variants.items()))

    @property
    def name(self) -> str:
        """Name in the tables."""
        return self._name

    @property
    def routes(self) -> frozenset[str]:
        """Routes that have weights."""
        return frozenset(self._variants)

    @property
    def version(self) -> str:
        """Changes with any variant's version."""
        parts = [f"{key}={one.version}" for key, one in self._variants.items()]
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return f"{len(parts)}+{digest[:8]}"

    @property
    def min_context(self) -> int:
        """Bars that every variant can work with."""
        return max(one.min_context for one in self._variants.values())

    @property
    def context(self) -> int:
        """Most bars that any variant looks at."""
        return max(one.context for one in self._variants.values())

    @property
    def takes_events(self) -> bool:
        """Whether events change any variant's forecasts."""
        return any(one.takes_events for one in self._variants.values())

    @property
    def cutoff(self) -> datetime | None:
        """Latest cut-off of the variants; None if one is unknown."""
        found = [one.cutoff for one in self._variants.values()]
        known = [one for one in found if one is not None]
        return max(known) if len(known) == len(found) else None

    @property
    def card(self) -> Mapping[str, object]:
        """Cards by route."""
        return {
            "name": self._name,
            "version": self.version,
            "variants": {key: one.card for key, one in self._variants.items()},
            "sha256": {
                f"{key}/{file}": digest
                for key, one in self._variants.items()
                for file, digest in _digests(one.card).items()
            },
        }

    def forecast(
        self,
        series: Sequence[Series],
        *,
        as_of: datetime,
        horizon: int,
        n_samples: int = 20,
        seed: int = 0,
    ) -> list[Forecast]:
        """Forecast each series without events, in the order given."""
        requests = [ForecastRequest(one.until(as_of), as_of) for one in series]
        return self.forecast_requests(
            requests, horizon=horizon, n_samples=n_samples, seed=seed
        )

    def forecast_requests(
        self,
        requests: Sequence[ForecastRequest],
        *,
        horizon: int,
        n_samples: int = 20,
        seed: int = 0,
    ) -> list[Forecast]:
        """Forecast each request with the weights of its route.

        Raises
        ------
        ForecastError
            If there are none for one of them.
        """
        rows: dict[str, list[int]] = {}
        for row, request in enumerate(requests):
            rows.setdefault(route_of(request.series), []).append(row)
        if missing := sorted(set(rows) - self.routes):
            raise ForecastError(
                f"{self._name}: no weights for {', '.join(missing)};"
                f" there are some for {', '.join(self._variants)}"
            )
        version = self.version
        found: dict[int, Forecast] = {}
        for route, chosen in rows.items():
            made = self._variants[route].forecast_requests(
                [requests[row] for row in chosen],
                horizon=horizon,
                n_samples=n_samples,
                seed=seed,
            )
            for row, one in zip(chosen, made, strict=True):
                found[row] = replace(one, model_name=self._name, model_version=version)
        return [found[row] for row in range(len(requests))]


def route_of(series: Series) -> str:
    """Return which weights a series is forecast with: `equity-1d`, `fx-1h`."""
    return f"{series.asset_class}-{series.timeframe}"


def _digests(card: Mapping[str, object]) -> dict[str, str]:
    found = card.get("sha256", {})
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
