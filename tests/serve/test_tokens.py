"""Tokens: printed once, kept as hashes, two live ones a role."""

from datetime import UTC, datetime

import pytest

from lakehouse.errors import InputError
from lakehouse.trust.tokens import TOKENS_FILE, TokenBook, issue, state_folder

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_only_the_hash_is_kept(tmp_path):
    token = issue(tmp_path, "admin", now=NOW)
    text = (tmp_path / TOKENS_FILE).read_text()
    assert token not in text
    assert (tmp_path / TOKENS_FILE).stat().st_mode & 0o777 == 0o600
    assert TokenBook.load(tmp_path).role_of(token) == "admin"


def test_a_third_token_ends_the_first(tmp_path):
    tokens = [issue(tmp_path, "consumer:desk", now=NOW) for _ in range(3)]
    book = TokenBook.load(tmp_path)
    assert [book.role_of(token) for token in tokens] == [
        None,
        "consumer:desk",
        "consumer:desk",
    ]


@pytest.mark.parametrize(
    "role", ["", "root", "consumer:", "consumer:../x", "consumer:a b", "Admin"]
)
def test_other_roles_are_refused(tmp_path, role):
    with pytest.raises(InputError, match="allowed are admin"):
        issue(tmp_path, role, now=NOW)


def test_nobody_is_let_in_without_a_book_or_by_odd_text(tmp_path):
    assert TokenBook.load(tmp_path).role_of("x") is None
    issue(tmp_path, "admin", now=NOW)
    book = TokenBook.load(tmp_path)
    for text in ("", "\x00", "\ud800", "é" * 1000):
        assert book.role_of(text) is None


def test_a_damaged_book_is_refused(tmp_path):
    (tmp_path / TOKENS_FILE).write_text('{"admin": [1]}')
    with pytest.raises(InputError, match="not a token file"):
        TokenBook.load(tmp_path)


def test_each_trusted_root_has_its_own_folder(tmp_path):
    assert state_folder(tmp_path, b"a") != state_folder(tmp_path, b"b")
    assert state_folder(tmp_path, b"a").parent == tmp_path
