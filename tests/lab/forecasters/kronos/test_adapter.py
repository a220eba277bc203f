import numpy as np
import pytest
import torch
from safetensors.torch import save

from lab.errors import CheckpointError, ForecastError, TrainingError
from lab.forecasters.kronos.adapter import EventAdapter, read_adapter
from lab.forecasters.kronos.event_rows import SCHEDULED, FixedEvents
from lab.forecasters.kronos.finetune import fine_tune, train_adapter
from lab.forecasters.kronos.training import TrainingConfig
from lab.forecasters.kronos.weights import write
from tests.lab.forecasters.kronos.small_kronos import pair, series, split

QUICK = TrainingConfig(
    20, batch_size=8, learning_rate=2e-2, validate_every=10, n_validation=16
)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def events(n=30, seed=0):
    return torch.rand((1, n, 20), generator=seeded(seed))


def moved(n_channels=20):
    adapter = EventAdapter(16, n_channels=n_channels, generator=seeded())
    torch.nn.init.xavier_normal_(adapter.outer.weight, generator=seeded(2))
    return adapter


def with_events():
    # Prices jump where a release falls, so that there is something to learn.
    told = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        tensor = np.zeros((400, 20), dtype=np.float32)
        tensor[rng.random(400) < 0.1, 1] = 1.0
        told.append(FixedEvents(tensor))
    bars = [series(f"S{seed}", seed=seed) for seed in (0, 1)]
    for one, event in zip(bars, told, strict=True):
        jumps = np.cumsum(event.tensor[:, 1] * 0.03)
        for column in (one.open, one.high, one.low, one.close):
            column *= np.exp(jumps)
    from lab.forecasters.kronos.windows import split_windows
    from tests.lab.forecasters.kronos.small_kronos import CUTOFF, PLAN

    return split_windows(bars, PLAN, cutoff=CUTOFF, share=0.25, events=told)


def test_an_untrained_adapter_adds_nothing():
    adapter = EventAdapter(16, generator=seeded())
    assert not adapter(events()).any()


def test_a_bar_without_events_adds_nothing_even_after_training():
    assert not moved()(torch.zeros(1, 30, 20)).any()


def test_a_forecast_without_events_is_the_base_models_bit_for_bit_after_training():
    tokenizer, network = pair()
    before = write(network)
    done = train_adapter(
        network,
        tokenizer,
        with_events(),
        QUICK,
        seeded(),
        adapter=EventAdapter(16, generator=seeded()),
    )
    assert done.adapter.outer.weight.any()
    assert write(network) == before == write(done.network)
    s1 = torch.randint(0, 64, (2, 12), generator=seeded())
    plain = network.hidden(s1, s1, None)
    assert torch.equal(plain, done.network.hidden(s1, s1, None, extra=None))


def test_an_adapter_learns_what_releases_do():
    tokenizer, network = pair()
    done = train_adapter(
        network,
        tokenizer,
        with_events(),
        QUICK,
        seeded(),
        adapter=EventAdapter(16, generator=seeded()),
    )
    assert done.after.ce < done.before.ce


def test_an_adapter_can_be_trained_with_all_weights_and_is_a_copy():
    tokenizer, network = pair()
    adapter = EventAdapter(16, generator=seeded())
    done = fine_tune(
        network, tokenizer, with_events(), QUICK, seeded(), adapter=adapter
    )
    assert not adapter.outer.weight.any()
    assert done.adapter.outer.weight.any()
    assert write(done.network) != write(network)


@pytest.mark.parametrize("channel", range(20))
def test_a_position_sees_of_the_next_row_only_what_is_scheduled(channel):
    adapter = moved()
    rows = events()
    altered = rows.clone()
    altered[0, 11, channel] += 1.0
    before, after = adapter(rows)[0], adapter(altered)[0]
    assert torch.equal(before[:10], after[:10])
    assert torch.equal(before[12:], after[12:])
    assert not torch.equal(before[11], after[11])
    assert torch.equal(before[10], after[10]) == (channel not in SCHEDULED)


def test_the_placeholder_layout_loads_and_takes_either_tensor():
    adapter = read_adapter(moved(10).to_bytes(), d_model=16)
    assert adapter.n_channels == 10
    rows = events()
    assert torch.equal(adapter(rows), adapter(rows[..., :10]))


def test_a_full_adapter_takes_the_placeholder_tensor_as_zeros():
    rows = events()
    padded = rows.clone()
    padded[..., 10:] = 0.0
    adapter = moved()
    assert torch.equal(adapter(rows[..., :10]), adapter(padded))


def test_an_adapter_comes_back_from_its_bytes():
    adapter = moved()
    again = read_adapter(adapter.to_bytes(), d_model=16)
    assert torch.equal(adapter(events()), again(events()))
    assert not again.training
    assert not any(one.requires_grad for one in again.parameters())
    assert again.to_bytes() == adapter.to_bytes()


def test_one_series_rows_become_an_addition_without_gradients():
    rows = events()[0].numpy()
    adapter = moved()
    assert torch.equal(adapter.added(rows), adapter(events())[0].detach())
    assert not adapter.added(rows).requires_grad


def test_rows_that_are_not_finite_are_refused():
    rows = events()[0].numpy()
    rows[3, 5] = np.nan
    with pytest.raises(ForecastError, match="finite rows"):
        moved().added(rows)


def test_another_number_of_channels_is_refused():
    with pytest.raises(ForecastError, match="12 channels: allowed are 20 and 10"):
        moved()(torch.zeros(1, 5, 12))
    with pytest.raises(CheckpointError, match="12 channels"):
        EventAdapter(16, n_channels=12)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"inner.weight": torch.zeros(4, 31)}, "tensors inner.weight"),
        (
            {"inner.weight": torch.zeros(4, 30), "outer.weight": torch.zeros(16, 4)},
            "not of 20 or 10 channels",
        ),
        (
            {"inner.weight": torch.zeros(4, 31), "outer.weight": torch.zeros(8, 4)},
            "a width of 16",
        ),
        (
            {
                "inner.weight": torch.full((4, 31), torch.nan),
                "outer.weight": torch.zeros(16, 4),
            },
            "not finite",
        ),
    ],
)
def test_bytes_that_are_no_adapter_are_refused(state, said):
    with pytest.raises(CheckpointError, match=said):
        read_adapter(save(state), d_model=16)


def test_damaged_bytes_are_refused():
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_adapter(moved().to_bytes()[:40], d_model=16)


def test_an_adapter_without_events_to_learn_from_is_refused():
    tokenizer, network = pair()
    with pytest.raises(TrainingError, match="windows without events"):
        fine_tune(
            network,
            tokenizer,
            split(),
            QUICK,
            seeded(),
            adapter=EventAdapter(16, generator=seeded()),
        )
