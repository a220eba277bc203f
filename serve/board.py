"""What is served now: one verified view, its prepared answers and its age."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from serve import answers
from serve.answers import DEFAULT_LIMIT, ScoreFilter, View
from serve.renditions import Rendition
from serve.snapshot import Key

Routes = Mapping[str, Mapping[bytes, Rendition]]

PREDICTION: Final = "/showcase/ml-prediction/{symbol}"
BARS: Final = "/showcase/ohlcv/{symbol}"
INSTRUMENTS: Final = "/showcase/instruments"
EVALUATION: Final = "/showcase/evaluation"
SLEEVES: Final = "/showcase/sleeves"
_PAGE: Final = f"limit={DEFAULT_LIMIT}&offset=0"
_PAUSE: Final = 0.0005  # seconds the rendering thread leaves to requests


@dataclass(frozen=True, slots=True)
class Board:
    """An immutable set of answers; a refresh replaces it by one assignment.

    Attributes
    ----------
    view : View or None
        None until something was verified.
    routes : mapping of path to (mapping of query string to Rendition)
        Answers ready to send, by decoded path and raw query string.
    """

    view: View | None = None
    routes: Routes = field(default_factory=dict)


@dataclass(slots=True)
class Holder:
    """The one mutable cell between the refresher and the request path.

    Attributes
    ----------
    files : mapping
        Pages and assets, which do not depend on what was verified.
    board : Board
        Answers drawn from the verified view.
    routes : mapping
        Both of the above; what the request path reads.
    verified_mono : float
        Monotonic seconds of the last successful verification.
    """

    files: Routes = field(default_factory=dict)
    board: Board = field(default_factory=Board)
    routes: Routes = field(default_factory=dict)
    verified_mono: float = 0.0

    def __post_init__(self) -> None:
        """Offer the files before anything was verified."""
        self.show(self.board)

    def show(self, board: Board) -> None:
        """Swap what is served."""
        merged = {**self.files, **board.routes}
        self.board = board
        self.routes = merged


def build_board(view: View) -> Board:
    """Render every hot answer of `view`.

    Takes a while: call it in a thread. It pauses between answers, so that requests get
    the interpreter.
    """
    routes: dict[str, dict[bytes, Rendition]] = {}
    for path, queries, rendition in _answers(view):
        variants = routes.setdefault(path, {})
        for query in queries:
            variants.setdefault(query.encode(), rendition)
        time.sleep(_PAUSE)
    return Board(view, routes)


def _answers(view: View) -> Iterator[tuple[str, list[str], Rendition]]:
    snapshot = view.snapshot
    body = answers.instruments(view, limit=DEFAULT_LIMIT, offset=0)
    yield _lay(INSTRUMENTS, INSTRUMENTS, ["", _PAGE], body)
    body = answers.scores(view, ScoreFilter(), limit=DEFAULT_LIMIT, offset=0)
    yield _lay(EVALUATION, EVALUATION, ["", _PAGE], body)
    body = answers.sleeves(
        view, sleeve_id=None, timeframe=None, limit=DEFAULT_LIMIT, offset=0
    )
    yield _lay(SLEEVES, SLEEVES, ["", _PAGE], body)
    for key in snapshot.forecasts:
        symbol, timeframe, model = key
        path = PREDICTION.replace("{symbol}", symbol)
        body = answers.prediction(
            view,
            symbol,
            model_name=model,
            timeframe=timeframe,  # type: ignore[arg-type]
        )
        yield _lay(path, PREDICTION, _spellings(view, key), body)
    for symbol, timeframe in snapshot.bars:
        path = BARS.replace("{symbol}", symbol)
        body = answers.bars(
            view,
            symbol,
            timeframe=timeframe,  # type: ignore[arg-type]
            limit=DEFAULT_LIMIT,
            offset=0,
        )
        queries = [f"timeframe={timeframe}", f"timeframe={timeframe}&{_PAGE}"]
        if timeframe == "1h" or (symbol, "1h") not in snapshot.bars:
            queries += ["", _PAGE]
        yield _lay(path, BARS, queries, body)


def _lay(
    path: str, route: str, queries: list[str], body: bytes
) -> tuple[str, list[str], Rendition]:
    return path, queries, Rendition(body, path=path, route=route)


def _spellings(view: View, key: Key) -> list[str]:
    # The query strings that this forecast, and not another, answers.
    symbol, timeframe, model = key
    pick = view.snapshot.pick
    name = f"model_name={quote(model)}"
    bars = f"timeframe={timeframe}"
    spelled = [f"{name}&{bars}", f"{bars}&{name}"]
    if pick(symbol, model_name=None, timeframe=None) == key:
        spelled.append("")
    if pick(symbol, model_name=model, timeframe=None) == key:
        spelled.append(name)
    if pick(symbol, model_name=None, timeframe=timeframe) == key:
        spelled.append(bars)
    return spelled
