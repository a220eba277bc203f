"""Events as an addition to the token embedding.

The adapter turns the event row of a bar, and what is scheduled for the bar after it,
into a vector that is added to the bar's token embedding. Its last layer starts at zero
and it has no biases: an untrained adapter, and a bar without events, add nothing. A
forecast without events never calls it, so that is the base model's bit for bit however
the adapter was trained.
"""

import json
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from lab.arrays import AnyArray
from lab.errors import CheckpointError, ForecastError
from lab.forecasters.kronos.event_rows import SCHEDULED

N_CHANNELS: Final = 20
N_PLACEHOLDER: Final = 10
"""Channels of the short layout: the first ones of the full."""


class EventAdapter(nn.Module):
    """Two bias-free layers from events to the network's width.

    Parameters
    ----------
    d_model : int
        Width of the network's embedding.
    n_channels : int, default 20
        20, or 10 for the placeholder layout: channels 0 to 9.
    n_hidden : int, default 32
        Width between the layers.
    generator : torch.Generator, optional
        Source of the first layer's weights; the last one's are zero. Without it the
        first layer is zero too, to be filled by `load_state_dict`.
    """

    def __init__(
        self,
        d_model: int,
        *,
        n_channels: int = N_CHANNELS,
        n_hidden: int = 32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if n_channels not in {N_CHANNELS, N_PLACEHOLDER}:
            raise CheckpointError(
                f"event adapter: {n_channels} channels, allowed are {N_CHANNELS} and"
                f" {N_PLACEHOLDER}"
            )
        self.n_channels = n_channels
        self.n_hidden = n_hidden
        self.d_model = d_model
        self.ahead = [one for one in SCHEDULED if one < n_channels]
        n_inputs = n_channels + len(self.ahead)
        with torch.device("meta"):
            self.inner = nn.Linear(n_inputs, n_hidden, bias=False)
            self.outer = nn.Linear(n_hidden, d_model, bias=False)
        self.to_empty(device="cpu")
        nn.init.zeros_(self.inner.weight)
        nn.init.zeros_(self.outer.weight)
        if generator is not None:
            nn.init.xavier_normal_(self.inner.weight, generator=generator)

    def forward(self, events: Tensor) -> Tensor:
        """Return what to add to the token embeddings.

        Parameters
        ----------
        events : Tensor of shape (B, T, n), float32
            Event rows of T successive bars; n of 20, or of 10 for the placeholder
            layout. Channels that one side lacks count as zero.

        Returns
        -------
        Tensor of shape (B, T, d_model), float32

        Raises
        ------
        ForecastError
            If n is neither 20 nor 10.

        Notes
        -----
        Point in time: position t uses row t and, of row t + 1, the channels known
        ahead; never the surprise of a release to come, nor a leader's next return.
        """
        if events.shape[-1] not in {N_CHANNELS, N_PLACEHOLDER}:
            raise ForecastError(
                f"events with {events.shape[-1]} channels: allowed are {N_CHANNELS} and"
                f" {N_PLACEHOLDER}"
            )
        missing = max(0, self.n_channels - events.shape[-1])
        rows = functional.pad(events[..., : self.n_channels], (0, missing))
        following = functional.pad(rows[:, 1:, self.ahead], (0, 0, 0, 1))
        inputs = torch.cat([rows, following], dim=-1)
        return self.outer(functional.silu(self.inner(inputs)))  # type: ignore[no-any-return]

    def added(self, events: AnyArray) -> Tensor:
        """Return `forward` of one series' rows (T, n), (T, d_model), without gradients.

        Raises
        ------
        ForecastError
            If the rows are not a finite array of 20 or 10 channels.
        """
        rows = torch.from_numpy(events.astype("float32"))
        if rows.ndim != 2 or not bool(rows.isfinite().all()):
            raise ForecastError(
                f"events of shape {tuple(rows.shape)}: finite rows by channels needed"
            )
        with torch.no_grad():
            return self.forward(rows[None])[0]

    def to_bytes(self) -> bytes:
        """Return the adapter as safetensors; its sizes are those of the tensors."""
        state = {
            name: value.detach().to("cpu").contiguous()
            for name, value in self.state_dict().items()
        }
        return save(state, metadata={"layout": json.dumps(self.n_channels)})


def read_adapter(data: bytes, *, d_model: int) -> EventAdapter:
    """Return the adapter of `EventAdapter.to_bytes`, ready for inference.

    Parameters
    ----------
    data : bytes
        Safetensors of the 20-channel or the 10-channel layout.
    d_model : int
        Width of the network that it belongs to.

    Raises
    ------
    CheckpointError
        If it is damaged, has other tensors, or belongs to another width.
    """
    try:
        state = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"event adapter: cannot be read: {error}") from None
    names = {"inner.weight", "outer.weight"}
    if set(state) != names or any(one.ndim != 2 for one in state.values()):
        raise CheckpointError(
            f"event adapter: tensors {', '.join(sorted(state))}; allowed are"
            f" {', '.join(sorted(names))}"
        )
    inner, outer = state["inner.weight"], state["outer.weight"]
    layouts = {
        n + sum(one < n for one in SCHEDULED): n for n in (N_CHANNELS, N_PLACEHOLDER)
    }
    n_channels = layouts.get(inner.shape[1])
    if n_channels is None or outer.shape != (d_model, inner.shape[0]):
        raise CheckpointError(
            f"event adapter: layers {tuple(inner.shape)} and {tuple(outer.shape)} are"
            f" not of 20 or 10 channels and a width of {d_model}"
        )
    if not all(bool(one.isfinite().all()) for one in state.values()):
        raise CheckpointError("event adapter: values that are not finite")
    adapter = EventAdapter(d_model, n_channels=n_channels, n_hidden=inner.shape[0])
    adapter.load_state_dict({name: value.float() for name, value in state.items()})
    adapter.eval()
    adapter.requires_grad_(requires_grad=False)
    return adapter
