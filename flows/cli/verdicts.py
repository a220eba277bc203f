"""Say how a run of a flow ended."""

from flows.cli.session import output
from flows.runs import Outcome
from lakehouse.errors import InputError


def tell(*outcomes: Outcome) -> None:
    """Give the outcomes of the flows that a verb ran."""
    out = output()
    lines: list[str] = []
    for outcome in outcomes:
        lines += () if out.is_quiet else outcome.notes
        lines.append(f"{outcome.message} ({outcome.run_id})")
    documents = [
        {
            "run_id": outcome.run_id,
            "flow": outcome.flow,
            "status": outcome.status,
            "message": outcome.message,
            "counts": outcome.counts,
            "notes": outcome.notes,
            "parameters": outcome.parameters,
        }
        for outcome in outcomes
    ]
    out.result(documents[0] if len(documents) == 1 else documents, lines)


def split_list(text: str | None, *, what: str = "--symbols") -> list[str] | None:
    """Return the parts of a comma-separated option; None when it was not given.

    Raises
    ------
    InputError
        If it was given and names nothing.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InputError(f"{what} {text!r}: names nothing, expected e.g. A,B")
    return parts
