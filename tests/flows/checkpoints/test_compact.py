"""The checkpoint that travels with the project keeps what its card promises."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.checkpoints import build_compact as compact
from flows.checkpoints.corpus import arch_series, invented_series, synthetic_series
from flows.checkpoints.kronos import build_pair, open_kronos, read_pair
from flows.checkpoints.settings import ModelSettings
from lab.bars.calendars import known_ts
from lab.bars.panel import Panel
from lab.bars.timeframes import to_instant
from lab.forecasters.kronos.bands import BandSettings, band_coverage, starts_every
from lab.forecasters.kronos.bigram import bigram_cross_entropy
from lab.forecasters.kronos.engine import prepare
from lab.forecasters.kronos.filtering import Filter
from lab.forecasters.kronos.losses import evaluate, token_pairs
from lab.forecasters.kronos.windows import split_windows
from lakehouse.sources._synthetic_market import PERMANENT

FOLDER = Path(compact.FOLDER)
LEAST, MOST = 0.65, 0.92


@pytest.fixture(scope="module")
def halves():
    return build_pair(read_pair("compact"))


@pytest.fixture(scope="module")
def card():
    return dict(read_pair("compact").predictor.card)


def test_it_is_small():
    files = list(FOLDER.rglob("*.safetensors"))
    assert len(files) == 2
    assert sum(one.stat().st_size for one in files) < 2**20


def test_it_has_the_sizes_that_the_script_builds(halves, card):
    tokenizer, network = halves
    assert tokenizer.config == compact.TOKENIZER
    assert network.config == compact.NETWORK
    n_parameters = sum(one.numel() for half in halves for one in half.parameters())
    assert n_parameters == card["parameters"] <= 1_000_000


def test_its_card_promises_what_is_asked_of_it(card):
    assert card["cutoff"] == "2015-12-31T23:59:59+00:00"
    for name in ("all", "arch"):
        assert card["metrics"][name]["below_bigram"] >= 0.05
    for horizon in compact.HORIZONS:
        assert LEAST <= card["metrics"]["coverage"][str(horizon)] <= MOST
    assert card["sampling"] == compact.SAMPLING


def test_it_opens_with_the_window_context_and_cutoff_of_its_card(card):
    found = open_kronos(ModelSettings(kronos="compact", device="cpu"))
    assert found.cutoff == compact.CUTOFF
    assert found.context == card["context"] == 136
    assert card["window"] == compact.WINDOW == 256


def test_nothing_it_learned_from_was_known_after_the_cutoff():
    limit = to_instant(compact.CUTOFF)
    kinds = [
        arch_series(end=compact.CUTOFF),
        synthetic_series("1h", end=compact.CUTOFF, seed=3, years=0.1),
        list(invented_series(end=compact.CUTOFF, n_paths=1, n_bars=100, seed=1)),
    ]
    for series in kinds:
        for one in series:
            last = known_ts(one.ts[-1:], timeframe=one.timeframe, calendar=one.calendar)
            assert last[0] <= limit


def test_invented_paths_are_those_of_their_seed():
    def closes(seed):
        paths = invented_series(end=compact.CUTOFF, n_paths=1, n_bars=80, seed=seed)
        return np.concatenate([one.close for one in paths])

    assert np.array_equal(closes(1), closes(1))
    assert not np.array_equal(closes(1), closes(2))


def test_its_cross_entropy_on_real_bars_is_below_a_bigrams(halves, card):
    tokenizer, network = halves
    parts = split_windows(
        arch_series(end=compact.CUTOFF),
        compact.ARCH_PLAN,
        cutoff=compact.CUTOFF,
        boundary=compact.BOUNDARY,
    )
    judged = parts.validation.spread(40)
    found = evaluate(network, tokenizer, judged)
    bigram = bigram_cross_entropy(
        token_pairs(tokenizer, parts.train.spread(300)),
        token_pairs(tokenizer, judged),
        n_s1=1 << compact.NETWORK.s1_bits,
        n_s2=1 << compact.NETWORK.s2_bits,
    )
    assert found.ce < 0.95 * bigram.mean
    assert found.ce == pytest.approx(card["metrics"]["arch"]["ce"], rel=0.05)


def test_its_raw_bands_hold_after_the_cutoff_on_a_sample(halves):
    found = compact.coverage(*halves, every=24)
    assert found["n"] > 40
    pooled = np.mean([found[str(horizon)] for horizon in compact.HORIZONS])
    assert LEAST <= pooled <= MOST


@pytest.mark.full
def test_its_card_can_be_measured_again(halves, card):
    corpus = compact.make_corpus()
    found = compact.measures(*halves, corpus)
    for name in ("all", "arch"):
        for figure in ("ce", "bigram_ce"):
            assert found[name][figure] == pytest.approx(
                card["metrics"][name][figure], abs=2e-3
            )
    bands = compact.coverage(*halves)
    for horizon in compact.HORIZONS:
        stated = card["metrics"]["coverage"][str(horizon)]
        assert bands[str(horizon)] == pytest.approx(stated, abs=0.02)


@pytest.mark.full
def test_the_same_seed_builds_the_same_bytes(tmp_path):
    short = replace(compact.RECIPE, n_paths=1).lasting(0.02)
    for name in ("a", "b"):
        compact.build(tmp_path / name, short, say=lambda line: None)
    for half in ("tokenizer", "model"):
        first, second = (
            (tmp_path / name / half / "model.safetensors").read_bytes()
            for name in ("a", "b")
        )
        assert first == second


@pytest.mark.full
@pytest.mark.market
@pytest.mark.parametrize(
    ("timeframe", "horizons", "every"),
    [("1h", (1, 4, 24), 400), ("1d", (1, 5, 20, 60), 40)],
)
def test_its_raw_bands_hold_on_the_real_panel(
    market, halves, timeframe, horizons, every
):
    names = {one.symbol: one for one in PERMANENT}
    path = market / f"ohlcv_{timeframe}.parquet"
    bars = pq.read_table(path, filters=[("symbol", "in", sorted(names))])
    if "timeframe" not in bars.column_names:
        bars = bars.append_column(
            "timeframe", pa.repeat(pa.scalar(timeframe), bars.num_rows)
        )
    instruments = pa.table(
        {
            "symbol": list(names),
            "asset_class": [one.asset_class for one in names.values()],
            "calendar": [one.calendar for one in names.values()],
            "is_leader": [False] * len(names),
            "listed_to": pa.nulls(len(names), pa.timestamp("us", tz="UTC")),
        }
    )
    panel = Panel.from_tables(bars, instruments, timeframe=timeframe)
    since = datetime(2020 if timeframe == "1h" else 2016, 1, 1, tzinfo=UTC)
    starts = starts_every(
        list(panel.series.values()),
        since=to_instant(since),
        every=every,
        context=136,
        horizon=max(horizons),
    )
    found = band_coverage(
        prepare(*halves),
        starts,
        horizons,
        settings=BandSettings(136, 256),
        by=Filter(**compact.SAMPLING),
    )
    assert len(starts) > 500
    for share in found.values():
        assert LEAST <= share <= MOST
