"""A client of `/ml/predict` with its token."""

from lakehouse.trust.tokens import issue
from tests.simulators.artefacts import NOW


class Asking:
    """A gateway in memory and a token for it."""

    def __init__(self, client):
        self.client = client
        self.gateway = client.app.inner.state.gateway
        token = issue(self.gateway.pulls.folder, "predict", now=NOW)
        self.headers = {"Authorization": f"Bearer {token}"}

    def ask(self, request, **options):
        """Send a request: a mapping, bytes, or bytes in parts."""
        kind = {"json": request} if isinstance(request, dict) else {"content": request}
        headers = options.pop("headers", self.headers)
        return self.client.request(
            "POST", "/ml/predict", headers=headers, **kind, **options
        )
