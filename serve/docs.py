"""The OpenAPI document and its page; assets come from an installed package."""

from typing import Any, Final

from litestar import MediaType, Request, Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.status_codes import HTTP_404_NOT_FOUND

from serve.errors import NotHereError

_PAGE: Final = b"""<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>API \xc2\xb7 Alphalake</title>
  <link rel="icon" href="/vendor/favicon-32x32.png" type="image/png">
  <link rel="stylesheet" href="/vendor/swagger-ui.css">
  <script src="/vendor/swagger-ui-bundle.js" defer></script>
  <script src="/vendor/start-swagger.js" defer></script>
</head>
<body>
  <main id="swagger-ui"></main>
  <noscript><p>This page needs JavaScript; the document is at
  <a href="/schema/openapi.json">/schema/openapi.json</a>.</p></noscript>
</body>
</html>
"""


class SwaggerPage(OpenAPIRenderPlugin):
    """Swagger UI from the installed package, no CDN."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(
        self,
        request: Request[Any, Any, Any],  # noqa: ARG002 - the plugin's signature
        openapi_schema: dict[str, Any],  # noqa: ARG002
    ) -> bytes:
        """Return the page; it fetches the document itself."""
        return _PAGE


def _refuse_as_elsewhere(response: Any) -> Any:
    # The framework's own page for an unknown path under /schema is no problem document.
    if response.status_code == HTTP_404_NOT_FOUND:
        raise NotHereError("no such page")
    return response


def build_openapi(version: str) -> OpenAPIConfig:
    """Return the configuration of `/schema`."""
    return OpenAPIConfig(
        title="Alphalake gateway",
        version=version,
        description="Verified forecasts, bars and scores. Errors are RFC 9457 problems.",
        path="/schema",
        openapi_router=Router(
            "/schema",
            route_handlers=[],
            include_in_schema=False,
            after_request=_refuse_as_elsewhere,
        ),
        render_plugins=[
            SwaggerPage(),
            JsonRenderPlugin(path="/openapi.json", media_type=MediaType.JSON),
        ],
        components=Components(
            security_schemes={
                "admin": SecurityScheme(type="http", scheme="bearer"),
                "consumer": SecurityScheme(type="http", scheme="bearer"),
                "predict": SecurityScheme(type="http", scheme="bearer"),
                "worker": SecurityScheme(type="http", scheme="bearer"),
            }
        ),
    )
