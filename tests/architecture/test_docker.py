"""The images stay short and say what DESIGN says; no engine runs here to build them."""

from pathlib import Path

import pytest
import yaml

DOCKER = Path(__file__).resolve().parents[2] / "docker"
INSTRUCTIONS = {
    "ARG",
    "FROM",
    "RUN",
    "WORKDIR",
    "COPY",
    "USER",
    "ENV",
    "CMD",
    "EXPOSE",
    "HEALTHCHECK",
}


def instructions(path: Path) -> list[tuple[str, str]]:
    """Split a Dockerfile into (instruction, arguments), continuations joined."""
    joined = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [
        line
        for line in joined.splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


@pytest.mark.parametrize(
    "path", sorted(DOCKER.glob("*.Dockerfile")), ids=lambda path: path.name
)
def test_dockerfile_is_short_pinned_and_not_root(path: Path):
    steps = instructions(path)
    assert len(steps) <= 20
    assert {name for name, _ in steps} <= INSTRUCTIONS
    images = [image for name, image in steps if name == "FROM"]
    assert images
    assert all(":" in image or image.startswith("${") for image in images)
    users = [user for name, user in steps if name == "USER"]
    assert users, "runs as root"
    assert users[-1] != "root"
    for name, arguments in steps:
        if name == "COPY":
            for source in arguments.split()[:-1]:
                assert (DOCKER.parent / source).exists(), f"{path.name} copies {source}"


def test_gateway_image_carries_only_the_serve_extra():
    text = (DOCKER / "gateway.Dockerfile").read_text(encoding="utf-8")
    assert "'.[serve]'" in text


def test_compose_has_postgres_behind_prefect_and_a_read_only_gateway():
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert set(services) == {"postgres", "prefect", "lab", "worker", "gateway"}
    url = services["prefect"]["environment"]["PREFECT_API_DATABASE_CONNECTION_URL"]
    assert url.startswith("postgresql+asyncpg://")
    assert "lake:/var/lib/alphalake/root:ro" in services["gateway"]["volumes"]
    published = [
        port for service in services.values() for port in service.get("ports", [])
    ]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
