"""Generation: histories in, sampled paths out, with caches.

Two modes. `exact`, the default, gives the reference's numbers up to the order of float
sums, also beyond the window: while everything fits, a step costs one token; from the
step on at which the oldest token leaves, every step runs over the window again, the
history once per series and only the generated tail once per path. `rolling` merely
drops the oldest keys: as fast as inside the window, but another function, whose states
still know of tokens that have left. For full speed with `exact`, leave room: histories
of at most window minus horizon.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from lab.arrays import AnyArray, FloatArray
from lab.errors import ForecastError
from lab.forecasters.kronos.attention import run_prefixes, run_tails
from lab.forecasters.kronos.cache import TAIL_ROWS, Group, Plan
from lab.forecasters.kronos.engine import (
    NetworkEngine,
    Prepared,
    TokenizerEngine,
    finish,
    normed,
    padded,
    product,
    project,
    scaled_product,
)
from lab.forecasters.kronos.filtering import Filter, chances
from lab.forecasters.kronos.fixed_steps import run_fixed
from lab.forecasters.kronos.network import TIME_TABLES
from lab.forecasters.kronos.normalise import CLIP
from lab.forecasters.kronos.sampling import draw
from lab.forecasters.kronos.tokenizer import bits_to_tokens

_STAMP_SIZES = np.array([n_rows for _, n_rows in TIME_TABLES])

Mode: TypeAlias = Literal["exact", "rolling"]


class History(NamedTuple):
    """One series to go on from.

    Attributes
    ----------
    x : ndarray of shape (L, 6), float32
        Normalised bars; clipped again here.
    stamp : ndarray of shape (L, 5), int64
        Minute, hour, weekday (Monday 0), day of month, month of each bar.
    future : ndarray of shape (horizon, 5), int64
        The same of the bars to come; the last row is never an input.
    extra : Tensor of shape (L + horizon, d), optional
        Added to the input embeddings; None adds nothing.
    """

    x: AnyArray
    stamp: AnyArray
    future: AnyArray
    extra: Tensor | None = None


class Paths(NamedTuple):
    """What was generated.

    Attributes
    ----------
    values : Tensor of shape (B, S, horizon, 6), float32
        Decoded bars, normalised.
    s1, s2 : Tensor of shape (B, S, horizon), int64
        Their tokens.
    """

    values: Tensor
    s1: Tensor
    s2: Tensor


def generate(
    prepared: Prepared,
    histories: Sequence[History],
    uniforms: FloatArray,
    *,
    window: int,
    by: Filter | None = None,
    mode: Mode = "exact",
) -> Paths:
    """Sample paths that continue histories of any lengths.

    Parameters
    ----------
    prepared : Prepared
        Both models; not changed, so calls may run side by side.
    histories : sequence of History
        Of B series with the same horizon.
    uniforms : ndarray of shape (B, S, 2 * horizon), float64
        Two numbers in [0, 1) for every step of every path.
    window : int, tokens
        Most tokens the network looks at, and the decoder.
    by : Filter, optional
        Temperature, top-k and top-p; those of `Filter()` if not given.
    mode : {"exact", "rolling"}, default "exact"
        What happens once the window is full.

    Returns
    -------
    Paths
        On the CPU, series in the order given.

    Raises
    ------
    ForecastError
        If shapes do not fit each other, a value is not finite, or the horizon exceeds
        the window, which the decoder cannot see at once.

    Notes
    -----
    Point in time: reads the rows of `histories` and nothing else. On the CPU a series'
    paths are the same bits alone, in any batch, whatever the number of other paths,
    and with other calls running.
    """
    n_paths, horizon = _check(histories, uniforms, window=window, mode=mode)
    plan = Plan(n_paths, horizon, window, mode == "exact", prepared.wide_rows)
    order = _by_length(histories)
    with torch.inference_mode():
        tokens = [
            _encode(prepared, [histories[one].x for one in members])
            for members in order
        ]
        groups = _groups(prepared, plan, histories, order, tokens)
        flat = np.concatenate([uniforms[members] for members in order])
        place = torch.from_numpy(flat.reshape(-1, 2 * horizon))
        s1, s2 = _sample(prepared, groups, _movable(place, prepared), by or Filter())
        values = [
            _decode(prepared.tokenizer, pair, s1[group.rows], s2[group.rows], plan)
            for pair, group in zip(tokens, groups, strict=True)
        ]
    shape = (len(histories), n_paths, horizon)
    back = torch.from_numpy(np.argsort(np.concatenate(order)))
    decoded = torch.cat(values).cpu()[back]
    if not bool(torch.isfinite(decoded).all()):
        raise ForecastError("kronos: the decoder's values are not finite")
    return Paths(decoded, s1.cpu().view(shape)[back], s2.cpu().view(shape)[back])


def _sample(
    prepared: Prepared, groups: list[Group], uniforms: Tensor, by: Filter
) -> tuple[Tensor, Tensor]:
    # Tokens (rows, horizon) of all paths.
    engine, tile = prepared.network, prepared.narrow_rows
    n_rows, horizon = len(uniforms), uniforms.shape[1] // 2
    s1 = torch.zeros(n_rows, horizon, dtype=torch.int64, device=prepared.device)
    s2 = torch.zeros_like(s1)
    is_fixed = prepared.has_fixed_steps and horizon > 1
    is_fixed = is_fixed and not any(group.offset(horizon - 1) for group in groups)
    for step in range(horizon):
        if step == 0:
            hidden = torch.cat([group.start() for group in groups])
        else:
            newest = (s1[:, step - 1], s2[:, step - 1])
            hidden = _advance(prepared, groups, newest, step)
        coarse = chances(product(hidden, engine.s1_head, tile), by)
        s1[:, step] = draw(coarse, uniforms[:, 2 * step])
        logits = _fine_logits(prepared, groups, hidden, s1[:, step], step)
        s2[:, step] = draw(chances(logits, by), uniforms[:, 2 * step + 1])
        if is_fixed:
            for group in groups:
                mine = group.rows
                run_fixed(group, (s1[mine], s2[mine]), uniforms[mine], by)
            break
    return s1, s2


def _advance(
    prepared: Prepared,
    groups: list[Group],
    newest: tuple[Tensor, Tensor],
    step: int,
) -> Tensor:
    # States (rows, d) after the tokens of the step before have been appended.
    engine, tile = prepared.network, prepared.narrow_rows
    n_rows = len(newest[0])
    x = engine.s1_rows.new_zeros(padded(n_rows, tile), engine.width)
    x[:n_rows] = engine.s1_rows[newest[0]] + engine.s2_rows[newest[1]]
    for group in groups:
        added = group.future[:, step - 1, None].expand(-1, group.plan.n_paths, -1)
        x[group.rows] += added.reshape(-1, engine.width)
    qkv = x.new_empty(len(x), 3 * engine.width)
    project(engine.stack.layers[0], x, qkv, tile)
    for group in groups:
        group.remember(step, x[group.rows], qkv[group.rows])
    is_cached = [not group.is_recomputed(step) for group in groups]
    cached = [group for group, yes in zip(groups, is_cached, strict=True) if yes]
    if cached:
        _run_newest(prepared, cached, x, qkv, step)
    for group, yes in zip(groups, is_cached, strict=True):
        if not yes:
            x[group.rows] = group.recompute(step)
    return x[:n_rows]


def _run_newest(
    prepared: Prepared,
    groups: list[Group],
    x: Tensor,
    qkv: Tensor,
    step: int,
) -> None:
    # In place: all blocks and the final norm for the newest token of every path.
    engine, tile = prepared.network, prepared.narrow_rows
    mixed = torch.zeros_like(x)
    for number, layer in enumerate(engine.stack.layers):
        if number:
            project(layer, x, qkv, tile)
        for group in groups:
            mixed[group.rows] = group.attend(number, qkv[group.rows], step)
        finish(layer, x, mixed, tile)
    kv = scaled_product(x, engine.dependency_kv, tile)
    for group in groups:
        group.keep_newest(kv[group.rows], step)
    x.copy_(normed(x, engine.norm))


def _fine_logits(
    prepared: Prepared,
    groups: list[Group],
    hidden: Tensor,
    s1: Tensor,
    step: int,
) -> Tensor:
    # Logits (rows, V2) of the fine token, given the coarse one just drawn.
    engine, tile = prepared.network, prepared.narrow_rows
    queries = engine.query_rows[s1]
    mixed = torch.cat(
        [group.ask_dependency(queries[group.rows], step) for group in groups]
    )
    states = hidden + product(mixed, engine.dependency_out, tile)
    return product(normed(states, engine.dependency_norm), engine.s2_head, tile)


def _encode(prepared: Prepared, bars: list[AnyArray]) -> tuple[Tensor, Tensor]:
    # Tokens (B, L) of equally long histories, all rows, however long.
    engine, tile = prepared.tokenizer, prepared.wide_rows
    x = torch.from_numpy(np.stack(bars)).to(prepared.device).clamp(-CLIP, CLIP)
    z = product(x.flatten(0, 1), engine.embed, tile).view(*x.shape[:2], -1)
    hidden = run_prefixes(engine.encoder, [z], tile)[0].hidden
    bits = product(hidden.flatten(0, 1), engine.quant_embed, tile)
    return bits_to_tokens(bits.view(*x.shape[:2], -1), engine.s1_bits)


def _decode(
    engine: TokenizerEngine,
    history: tuple[Tensor, Tensor],
    s1: Tensor,
    s2: Tensor,
    plan: Plan,
) -> Tensor:
    # Bars (B, S, horizon, 6) of paths (B * S, horizon), after their histories' last
    # tokens, as many as the window leaves room for.
    tile, horizon = plan.wide_rows, plan.horizon
    n_old = min(history[0].shape[1], plan.window - horizon)
    old = [part[:, part.shape[1] - n_old :] for part in history]
    z = _embed_code(engine, old[0], old[1], tile)
    prefix = run_prefixes(engine.decoder, [z], tile, has_hidden=False)[0].layers
    shape = (len(z), plan.n_paths, horizon)
    s1, s2 = s1.view(shape), s2.view(shape)
    n_each = max(1, TAIL_ROWS // (plan.n_paths * horizon))
    parts = []
    for start in range(0, len(z), n_each):
        mine = slice(start, start + n_each)
        tail = _embed_code(engine, s1[mine], s2[mine], tile)
        cut = [one.of(mine) for one in prefix]
        hidden = run_tails(engine.decoder, tail, cut, tile)
        out = product(hidden.flatten(0, 2), engine.head, tile)
        parts.append(out.view(*hidden.shape[:3], -1))
    return torch.cat(parts)


def _embed_code(engine: TokenizerEngine, s1: Tensor, s2: Tensor, tile: int) -> Tensor:
    places = torch.arange(engine.s1_bits, device=s1.device)
    bits = torch.cat([(s[..., None] >> places) & 1 for s in (s1, s2)], dim=-1)
    code = (2.0 * bits.float() - 1.0) * engine.n_bits**-0.5
    flat = product(code.flatten(0, -2), engine.post_quant_embed, tile)
    return flat.view(*s1.shape, len(engine.post_quant_embed.weight))


def _groups(
    prepared: Prepared,
    plan: Plan,
    histories: Sequence[History],
    order: list[list[int]],
    tokens: list[tuple[Tensor, Tensor]],
) -> list[Group]:
    engine = prepared.network
    groups, start = [], 0
    for members, (s1, s2) in zip(order, tokens, strict=True):
        mine = [histories[one] for one in members]
        n_old = min(s1.shape[1], plan.window)
        base = engine.s1_rows[s1[:, -n_old:]] + engine.s2_rows[s2[:, -n_old:]]
        stamps = [np.concatenate([one.stamp[-n_old:], one.future]) for one in mine]
        added = _time_rows(engine, stamps, prepared.device)
        for row, one in enumerate(mine):
            if one.extra is not None:
                added[row] += one.extra[-(n_old + plan.horizon) :].to(added)
        stop = start + len(members) * plan.n_paths
        groups.append(
            Group(
                engine=engine,
                plan=plan,
                rows=slice(start, stop),
                base=base + added[:, :n_old],
                future=added[:, n_old:],
            )
        )
        start = stop
    return groups


def _time_rows(
    engine: NetworkEngine, stamps: list[AnyArray], device: torch.device
) -> Tensor:
    columns = torch.from_numpy(np.stack(stamps)).long().to(device).unbind(dim=-1)
    parts = [
        table[column] for table, column in zip(engine.time_rows, columns, strict=True)
    ]
    minute, hour, weekday, day, month = parts
    return hour + weekday + day + month + minute


def _movable(uniforms: Tensor, prepared: Prepared) -> Tensor:
    # Apple's GPUs have no float64.
    if prepared.device.type == "mps":
        return uniforms.float().clamp(max=1 - 2**-24).to(prepared.device)
    return uniforms.to(prepared.device)


def _by_length(histories: Sequence[History]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for number, one in enumerate(histories):
        groups.setdefault(len(one.x), []).append(number)
    return list(groups.values())


def _check(
    histories: Sequence[History], uniforms: FloatArray, *, window: int, mode: str
) -> tuple[int, int]:
    # Returns the numbers of paths and of steps.
    if mode not in {"exact", "rolling"}:
        raise ForecastError(f"mode {mode!r}: allowed are exact and rolling")
    if not histories or uniforms.ndim != 3 or len(uniforms) != len(histories):
        raise ForecastError(
            f"kronos: {len(histories)} histories and uniforms of shape"
            f" {uniforms.shape}: one block of uniforms per history needed"
        )
    n_paths, horizon = uniforms.shape[1], uniforms.shape[2] // 2
    if n_paths < 1 or uniforms.shape[2] != 2 * horizon or horizon < 1:
        raise ForecastError(
            f"kronos: uniforms of shape {uniforms.shape}: at least one path and two"
            " numbers a step needed"
        )
    if horizon > window:
        raise ForecastError(
            f"horizon {horizon}: allowed are 1 to {window}, the window, which the"
            " decoder must hold at once"
        )
    if not bool(np.all((uniforms >= 0) & (uniforms < 1))):
        raise ForecastError("kronos: uniforms must lie in [0, 1)")
    for number, one in enumerate(histories):
        _check_history(number, one, horizon)
    return n_paths, horizon


def _check_history(number: int, one: History, horizon: int) -> None:
    n_obs = len(one.x)
    if one.x.ndim != 2 or n_obs < 1 or not bool(np.all(np.isfinite(one.x))):
        raise ForecastError(
            f"history {number} of shape {one.x.shape}: finite rows of 6 needed"
        )
    if one.stamp.shape != (n_obs, 5) or one.future.shape != (horizon, 5):
        raise ForecastError(
            f"history {number}: stamps of shapes {one.stamp.shape} and"
            f" {one.future.shape}, allowed are ({n_obs}, 5) and ({horizon}, 5)"
        )
    stamps = np.concatenate([one.stamp, one.future])
    if not bool(np.all((stamps >= 0) & (stamps < _STAMP_SIZES))):
        raise ForecastError(
            f"history {number}: stamps must be minute, hour, weekday, day and month"
        )
    if one.extra is not None and one.extra.shape[0] != n_obs + horizon:
        raise ForecastError(
            f"history {number}: {one.extra.shape[0]} rows of conditioning,"
            f" {n_obs + horizon} needed"
        )
