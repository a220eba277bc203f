"""Pages and assets, read once at start; nothing in a request ever names a file."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from serve.board import Holder, Routes
from serve.errors import NotHereError
from serve.gateway import GatewayPart
from serve.renditions import Rendition
from serve.responses import respond

PAGES: Final = Path(__file__).parent / "pages"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".woff2": "font/woff2",
}
_REVALIDATE: Final = "no-cache"
_VENDORED: Final = "public, max-age=86400"
_PAGE_FILES: Final = {
    "/": "index.html",
    "/evaluation": "evaluation.html",
    "/sleeves": "sleeves.html",
}
_SWAGGER: Final = (
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-ui.css",
    "favicon-32x32.png",
)
_START_SWAGGER: Final = b"""window.addEventListener("load", () => {
  window.ui = SwaggerUIBundle({
    url: "/schema/openapi.json", dom_id: "#swagger-ui", deepLinking: true,
    validatorUrl: null, presets: [SwaggerUIBundle.presets.apis],
  });
});
"""


class AnyQuery(dict[bytes, Rendition]):
    """A file's one rendition, whatever the query string says."""

    def get(self, key: bytes, default: Any = None) -> Any:  # noqa: ARG002
        """Return the rendition."""
        return self[b""]


def load_files() -> Routes:
    """Read every page and asset into memory."""
    return {
        path: AnyQuery({b"": _lay(path, data, media_type, cache_control)})
        for path, data, media_type, cache_control in _find_files()
    }


def _find_files() -> Iterator[tuple[str, bytes, str, str]]:
    for path, name in _PAGE_FILES.items():
        yield path, (PAGES / name).read_bytes(), _TYPES[".html"], _REVALIDATE
    static = PAGES / "static"
    for file in sorted(static.rglob("*")):
        if file.suffix in _TYPES:
            path = f"/static/{file.relative_to(static).as_posix()}"
            yield path, file.read_bytes(), _TYPES[file.suffix], _REVALIDATE
    chart = package_folder("lightweight_charts") / "js" / "lightweight-charts.js"
    yield (
        "/vendor/lightweight-charts.js",
        chart.read_bytes(),
        _TYPES[".js"],
        _VENDORED,
    )
    swagger = package_folder("swagger_ui") / "static"
    for name in _SWAGGER:
        data = (swagger / name).read_bytes()
        yield f"/vendor/{name}", data, _TYPES[Path(name).suffix], _VENDORED
    yield "/vendor/start-swagger.js", _START_SWAGGER, _TYPES[".js"], _REVALIDATE


def package_folder(name: str) -> Path:
    """Return where a package is installed, without importing it.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"{name} is not installed: pip install alphalake[serve]"
        )
    return Path(spec.origin).parent


def _lay(path: str, data: bytes, media_type: str, cache_control: str) -> Rendition:
    return Rendition(
        data,
        path=path,
        route=path,
        media_type=media_type,
        cache_control=cache_control,
        has_age=False,
    )


def build_handler(holder: Holder) -> HTTPRouteHandler:
    """Return the router's handler of every file, for OPTIONS, 405 and the like."""

    @get(sorted(holder.files), include_in_schema=False, operation_id="readFile")
    async def read_file(
        request: Request[Any, Any, Any], gateway: GatewayPart
    ) -> Response[bytes]:
        variants = gateway.holder.files.get(request.url.path)
        if variants is None:
            raise NotHereError("no such page")
        return respond(variants[b""], request, gateway.holder)

    return read_file
