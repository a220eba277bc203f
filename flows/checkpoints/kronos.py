"""Kronos from a folder or the Hub's cache: both halves, their pairing, their card.

A source is `compact` (the checkpoint of this project), a folder, or a Hub id. A folder
holds the predictor's `config.json` and `model.safetensors`, or two folders `model` and
`tokenizer` with such files each. What is saved here has the published keys and opens in
the published code.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.checkpoints.folders import (
    CONFIG,
    WEIGHTS,
    Checkpoint,
    check_digests,
    find_folder,
    read_checkpoint,
)
from flows.checkpoints.pairing import CONTEXTS, check_pair, tokenizer_of
from flows.checkpoints.settings import ModelSettings
from flows.checkpoints.store import card_cutoff
from lab.errors import CheckpointError

if TYPE_CHECKING:
    from lab.forecasters.kronos.forecaster import KronosForecaster
    from lab.forecasters.kronos.network import KronosNetwork
    from lab.forecasters.kronos.tokenizer import KronosTokenizer

COMPACT: Final = "compact"
_ODD: Final = re.compile(r"[^A-Za-z0-9_.=-]+")
WINDOW: Final = 512
"""Tokens that a published predictor attends to, where nothing else is known."""

MAX_THREADS: Final = 4

HORIZON: Final = 120
"""Steps that fit into the window behind the history, so that every one is cached."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A predictor and its tokenizer, read but not built.

    Attributes
    ----------
    predictor, tokenizer : Checkpoint
        Their bytes.
    rests_on : str
        What says that they belong together: `card`, `published` or `bits`.
    """

    predictor: Checkpoint
    tokenizer: Checkpoint
    rests_on: str

    @property
    def sha256(self) -> dict[str, str]:
        """Digest per file."""
        halves = {"model": self.predictor, "tokenizer": self.tokenizer}
        return {
            f"{half}/{file}": digest
            for half, one in halves.items()
            for file, digest in one.sha256.items()
        }

    @property
    def version(self) -> str:
        """The predictor's name and a hash of both halves."""
        name = self.predictor.card.get("name") or Path(self.predictor.source).name
        plain = _ODD.sub("-", str(name))[:60]
        return f"{plain}+{self.predictor.fingerprint}{self.tokenizer.fingerprint[:4]}"

    @property
    def window(self) -> int:
        """Longest window the predictor was made for."""
        stated = self.predictor.card.get("window")
        if isinstance(stated, int):
            return stated
        return CONTEXTS.get(self.predictor.source.partition("@")[0], WINDOW)

    @property
    def card(self) -> dict[str, Any]:
        """What is known of the pair."""
        return {
            **self.predictor.card,
            "source": self.predictor.source,
            "tokenizer_source": self.tokenizer.source,
            "pairing": self.rests_on,
            "sha256": self.sha256,
        }


def read_pair(source: str, tokenizer: str | None = None) -> Pair:
    """Read a predictor and its tokenizer.

    Parameters
    ----------
    source : str
        `compact`, a folder, or a Hub id.
    tokenizer : str, optional
        Folder or Hub id; the folder `tokenizer` beside the predictor's files, else the
        published pair's, if not given.

    Raises
    ------
    CheckpointError
        If a part is missing or damaged, or the two do not belong together.
    """
    folder = (
        Path(__file__).with_name("compact")
        if source == COMPACT
        else find_folder(source, what="kronos")
    )
    halves = (folder / "model").is_dir()
    predictor = read_checkpoint(
        folder / "model" if halves else folder, source=source, what="kronos"
    )
    codes = _read_tokenizer(source, tokenizer, folder)
    for half in (predictor, codes):
        check_digests(half, what="kronos")
    return Pair(predictor, codes, check_pair(predictor, codes))


def _read_tokenizer(source: str, tokenizer: str | None, folder: Path) -> Checkpoint:
    if tokenizer is None and (folder / "tokenizer").is_dir():
        return read_checkpoint(
            folder / "tokenizer", source=f"{source}/tokenizer", what="kronos"
        )
    name = tokenizer or tokenizer_of(source)
    if name is None:
        raise CheckpointError(
            f"kronos {source}: which tokenizer? give ALPHALAKE_KRONOS_TOKENIZER,"
            " or put both halves into folders `model` and `tokenizer`"
        )
    return read_checkpoint(
        find_folder(name, what="kronos tokenizer"), source=name, what="kronos tokenizer"
    )


def build_pair(pair: Pair) -> tuple["KronosTokenizer", "KronosNetwork"]:
    """Return both modules, strictly filled, ready for inference.

    Raises
    ------
    CheckpointError
        If a key is missing, unknown or of the wrong shape.
    """
    from lab.forecasters.kronos.weights import read_network, read_tokenizer

    try:
        codes = read_tokenizer(pair.tokenizer.config, pair.tokenizer.weights)
        network = read_network(pair.predictor.config, pair.predictor.weights)
    except CheckpointError as error:
        raise CheckpointError(f"kronos {pair.predictor.source}: {error}") from error
    return codes, network


def open_kronos(settings: ModelSettings) -> "KronosForecaster":
    """Return Kronos as the settings name it.

    Raises
    ------
    CheckpointError
        If the weights are missing, damaged or no pair.
    """
    keep_threads_few()
    pair = read_pair(settings.kronos, settings.kronos_tokenizer)
    # A wrong source is told before seconds are spent on the import.
    from lab.forecasters.kronos.forecaster import KronosForecaster

    codes, network = build_pair(pair)
    window = settings.kronos_window or pair.window
    return KronosForecaster(
        codes,
        network,
        version=_version(pair, settings, window),
        cutoff=card_cutoff(pair.predictor.card),
        card=pair.card,
        window=window,
        context=context_of(pair, window),
        mode=settings.kronos_mode,
        device=pick_device(settings.device),
        **sampling(pair.predictor.card),
    )


def context_of(pair: Pair, window: int) -> int:
    """Return the history that the card states, or what leaves room for the horizon."""
    stated = pair.predictor.card.get("context")
    room = max(window - HORIZON, window // 2)
    return stated if isinstance(stated, int) and 0 < stated <= room else room


def sampling(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling parameters that a card states; the published ones else."""
    stated = card.get("sampling", {})
    usual = {"temperature": 1.0, "top_p": 0.9, "top_k": 0}
    return {name: stated.get(name, value) for name, value in usual.items()}


def _version(pair: Pair, settings: ModelSettings, window: int) -> str:
    marks = [pair.version]
    if settings.kronos_mode != "exact":
        marks.append(settings.kronos_mode)
    if window != pair.window:
        marks.append(f"w{window}")
    return "+".join(marks)


def keep_threads_few() -> None:
    """Let torch use four threads at most.

    With 16, the matrix library splits some layers' products otherwise for another batch
    size: a series' forecast would no longer be the same bits alone and in a batch.
    """
    import torch

    if torch.get_num_threads() > MAX_THREADS:
        torch.set_num_threads(MAX_THREADS)


def pick_device(wanted: str) -> str:
    """Return the device to run on: `cuda`, `mps` or `cpu`.

    Raises
    ------
    CheckpointError
        If the one asked for is not there.
    """
    import torch

    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there[wanted]:
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise CheckpointError(f"ALPHALAKE_DEVICE={wanted}: not here; there is {found}")
    return wanted


def write_folder(
    folder: Path,
    tokenizer: "KronosTokenizer",
    network: "KronosNetwork",
    *,
    card: Mapping[str, Any],
) -> None:
    """Write both halves with the published keys, and their card.

    Parameters
    ----------
    folder : Path
        Made if it is not there; gets `model` and `tokenizer`.
    tokenizer, network : KronosTokenizer, KronosNetwork
        The pair.
    card : mapping
        JSON values; the digests and the pairing are added.
    """
    import hashlib
    import json

    from lab.forecasters.kronos.weights import write

    digests: dict[str, dict[str, str]] = {}
    for half, module in (("tokenizer", tokenizer), ("model", network)):
        place = folder / half
        place.mkdir(parents=True, exist_ok=True)
        config, weights = write(module)
        (place / CONFIG).write_bytes(config)
        (place / WEIGHTS).write_bytes(weights)
        digests[half] = {
            CONFIG: hashlib.sha256(config).hexdigest(),
            WEIGHTS: hashlib.sha256(weights).hexdigest(),
        }
    full = {
        **card,
        "sha256": digests["model"],
        "tokenizer_sha256": digests["tokenizer"][WEIGHTS],
    }
    text = json.dumps(full, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / "model" / "card.json").write_text(text + "\n", encoding="utf-8")
