"""What the README shows exists: every verb, every option, every file."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from flows.cli.app import app

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def shown_commands() -> list[str]:
    """Return every `alphalake …` of the console blocks and of the running text."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`(alphalake [^`]*)`", README)
    found = []
    for line in [*lines, *inline]:
        words = line.removeprefix("$ ").split("  #")[0]
        found += [
            part.strip() for part in words.split("&&") if "alphalake " in f"{part} "
        ]
    return sorted({part[part.index("alphalake") :] for part in found})


def test_the_readme_shows_commands():
    assert len(shown_commands()) > 10


@pytest.mark.parametrize("line", shown_commands())
def test_a_shown_command_can_be_typed(line: str):
    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    known = {"--root", "--now", "--json", "--quiet"}
    while words and (below := getattr(command, "commands", None)):
        if words[0] in known:
            del words[: 2 if words[0] in {"--root", "--now"} else 1]
            continue
        assert words[0] in below, f"{line}: no verb {words[0]}"
        command = below[words.pop(0)]
    known |= {name for one in command.params for name in one.opts}
    known |= {name for one in command.params for name in one.secondary_opts}
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    assert set(options) <= known, line


def test_named_files_exist():
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (REPOSITORY / name).exists(), name
    for target in re.findall(r"`make (\w[\w-]*)", README):
        assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.M)
