"""What is tried again, and what is not."""

from collections.abc import Callable

import pytest

import flows.runs
from flows.runs import PlainSteps
from lakehouse.errors import (
    CommitConflictError,
    InputError,
    RefusedError,
    SourceUnavailableError,
    StoreError,
)


class Flaky:
    """Fails with `error` a number of times, then answers."""

    def __init__(self, error: Exception, n_failures: int) -> None:
        self.error, self.left, self.n_calls = error, n_failures, 0

    def __call__(self) -> str:
        self.n_calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "done"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.runs.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize(
    ("step", "error", "n_calls"),
    [
        ("fetch", SourceUnavailableError("away"), 3),
        ("commit", CommitConflictError("taken"), 4),
    ],
)
def test_a_step_is_tried_again_only_for_its_own_error(
    step: str, error: Exception, n_calls: int
):
    steps: Callable[[Flaky], str] = getattr(PlainSteps(), step)
    once = Flaky(error, 1)
    assert steps(once) == "done"
    assert once.n_calls == 2
    always = Flaky(error, 99)
    with pytest.raises(type(error)):
        steps(always)
    assert always.n_calls == n_calls


@pytest.mark.parametrize("step", ["fetch", "commit"])
@pytest.mark.parametrize(
    "error",
    [InputError("x"), RefusedError("x"), StoreError("x"), OSError("x")],
    ids=lambda error: type(error).__name__,
)
def test_any_other_error_ends_the_run_at_once(step: str, error: Exception):
    call = Flaky(error, 1)
    with pytest.raises(type(error)):
        getattr(PlainSteps(), step)(call)
    assert call.n_calls == 1
