"""A tiny pair and a few invented series, for tests of training."""

import numpy as np
import torch

from lab.bars.schedules import schedule
from lab.bars.series import Series
from lab.forecasters.kronos.config import NetworkConfig, TokenizerConfig
from lab.forecasters.kronos.ruler import ruled_tokenizer
from lab.forecasters.kronos.weights import new_network
from lab.forecasters.kronos.windows import WindowPlan, split_windows

PLAN = WindowPlan(lookback=16, predict=8, stride=4)
CUTOFF = np.datetime64("2022-01-01", "us")
NETWORK = NetworkConfig(
    s1_bits=6, s2_bits=6, n_layers=2, d_model=16, n_heads=2, ff_dim=24,
    ffn_dropout_p=0.1, attn_dropout_p=0.0, resid_dropout_p=0.1, token_dropout_p=0.0,
    learn_te=True,
)  # fmt: skip
PAIR = TokenizerConfig(
    d_in=6, d_model=24, n_heads=2, ff_dim=80, n_enc_layers=2, n_dec_layers=2,
    ffn_dropout_p=0.0, attn_dropout_p=0.0, resid_dropout_p=0.0, s1_bits=6, s2_bits=6,
    beta=0.05, gamma0=1.0, gamma=1.1, zeta=0.05, group_size=6,
)  # fmt: skip


def series(symbol="A", n_obs=400, seed=0, calendar="24x7", breaks=()):
    rng = np.random.default_rng(seed)
    opens = schedule(calendar, "1h").opens
    start = int(np.searchsorted(opens, np.datetime64("2021-03-01", "us")))
    size = 0.004 * np.exp(0.5 * np.sin(np.arange(n_obs) / 17))
    close = 100 * np.exp(np.cumsum(size * rng.standard_normal(n_obs)))
    start_price = np.concatenate([close[:1], close[:-1]])
    is_break = np.zeros(n_obs, dtype=bool)
    is_break[list(breaks)] = True
    return Series(
        symbol, "1h", calendar, "crypto", opens[start : start + n_obs],
        open=start_price,
        high=np.maximum(start_price, close) * 1.001,
        low=np.minimum(start_price, close) * 0.999,
        close=close,
        volume=np.exp(rng.standard_normal(n_obs)),
        is_break=is_break,
    )  # fmt: skip


def split(events=None, seeds=(0, 1), plan=PLAN, n_obs=400):
    bars = [series(f"S{seed}", seed=seed, n_obs=n_obs) for seed in seeds]
    return split_windows(bars, plan, cutoff=CUTOFF, share=0.25, events=events)


def pair(seed=3):
    generator = torch.Generator().manual_seed(seed)
    train = split().train
    sample = train.batch(np.arange(train.n_windows)).values
    tokenizer = ruled_tokenizer(PAIR, sample, generator)
    tokenizer.eval().requires_grad_(requires_grad=False)
    network = new_network(NETWORK, generator)
    network.eval().requires_grad_(requires_grad=False)
    return tokenizer, network
