"""Make a place ready: keys, the artefact repository, and what a server needs."""

from dataclasses import dataclass

from flows.probe import find_server
from flows.server import use_server
from flows.wiring import Workplace, open_workplace
from lakehouse.clock import thaw_clock
from lakehouse.settings import load_settings


@dataclass(frozen=True, slots=True)
class SetupReport:
    """What `init` made.

    Attributes
    ----------
    root : str
        Lake root.
    keys : str
        Key folder.
    keys_made : int
        Development keys made now.
    is_repository_new : bool
        Whether the artefact repository was made now.
    server : str or None
        Prefect API that answered.
    server_made : tuple of str
        What was made or replaced on it.
    """

    root: str
    keys: str
    keys_made: int
    is_repository_new: bool
    server: str | None
    server_made: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the report for a person."""
        keys = f"{self.keys_made} development keys made" if self.keys_made else "kept"
        repository = "made" if self.is_repository_new else "kept"
        server = (
            f"{self.server}: {', '.join(self.server_made) or 'pool, limits and automations are there'}"
            if self.server
            else "none answers; run `alphalake init` again once one does"
        )
        return [
            f"root        {self.root}",
            f"keys        {self.keys}: {keys}",
            f"artefacts   repository {repository}",
            f"prefect     {server}",
        ]


def set_up_place() -> SetupReport:
    """Make the keys, the repository and the server's objects; keep what is there.

    Raises
    ------
    TrustError
        If the key folder is not safe.
    """
    workplace = open_workplace()
    keys_made, is_new = set_up_trust(workplace)
    url = find_server()
    made: list[str] = []
    if url is not None:
        use_server(url)
        from flows.prefect_setup import set_up_server

        made = set_up_server()
    return SetupReport(
        workplace.root, str(workplace.keys), keys_made, is_new, url, tuple(made)
    )


def set_up_trust(workplace: Workplace) -> tuple[int, bool]:
    """Make development keys and the TUF repository where they are missing.

    Returns
    -------
    n_keys : int
        Keys made now.
    is_new : bool
        Whether the repository was made now.
    """
    keys = workplace.key_store()
    keys.refuse_under(workplace.root)
    n_before = len(keys.list_keys())
    is_new = workplace.repository().init()
    return len(keys.list_keys()) - n_before, is_new


def thaw_place() -> bool:
    """Let time run again; return whether it had been frozen."""
    return thaw_clock(load_settings().root)
