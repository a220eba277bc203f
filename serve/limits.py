"""How much one client may ask for."""

from dataclasses import dataclass, field

MAX_PATH = 2048  # bytes of the encoded path
MAX_QUERY = 4096  # bytes
MAX_HEADERS = 64  # fields
MAX_HEADER_BYTES = 16_384  # names and values together
MAX_BODY = 16_384  # bytes, unless a route says otherwise
MAX_PREDICT_BODY = 1_048_576  # bytes of a request to forecast
MAX_WORK_BODY = 4_194_304  # bytes of a worker's answer
MAX_ML_BODY = 8_388_608  # bytes of rows for the win-probability model


def max_body(path: str) -> int:
    """Return how many bytes a request on `path` may carry."""
    if path.rstrip("/") == "/predict":
        return MAX_PREDICT_BODY
    if path.rstrip("/") == "/ml/predict":
        return MAX_ML_BODY
    return MAX_WORK_BODY if path.startswith("/work/") else MAX_BODY


@dataclass(slots=True)
class TokenBuckets:
    """A token bucket per client address; full buckets are forgotten.

    Attributes
    ----------
    rate : float
        Requests a second a client may keep up; 0 switches the limit off.
    burst : float
        Requests a client may send at once.
    max_clients : int
        Buckets kept before the full ones are dropped.
    """

    rate: float
    burst: float
    max_clients: int = 10_000
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def wait(self, client: str, now: float) -> float:
        """Take a token; return 0 or the seconds until there is one.

        Parameters
        ----------
        client : str
            Address of the peer; forwarding headers are not believed.
        now : float
            Monotonic seconds.
        """
        tokens, before = self._buckets.get(client, (self.burst, now))
        tokens = min(self.burst, tokens + (now - before) * self.rate)
        if tokens < 1.0:
            self._buckets[client] = (tokens, now)
            return (1.0 - tokens) / self.rate
        self._buckets[client] = (tokens - 1.0, now)
        if len(self._buckets) > self.max_clients:
            self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        kept = {
            client: (tokens, before)
            for client, (tokens, before) in self._buckets.items()
            if tokens + (now - before) * self.rate < self.burst
        }
        if len(kept) > self.max_clients:  # all are busy: keep the most recent half
            newest = sorted(kept, key=lambda client: kept[client][1])
            kept = {client: kept[client] for client in newest[len(kept) // 2 :]}
        self._buckets = kept

    def __len__(self) -> int:
        return len(self._buckets)
