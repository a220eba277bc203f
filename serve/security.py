"""Response headers that protect a reader, chosen by path."""

from typing import Final

Headers = list[tuple[bytes, bytes]]

_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# Swagger UI writes <style> elements; nothing else on that page is ours to protect.
_CSP_DOCS: Final = _CSP.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")

# Data has nothing to load; fewer bytes on the hottest answers.
_CSP_DATA: Final = "default-src 'none'; frame-ancestors 'none'"

_COMMON: Final[Headers] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_PAGE: Final[Headers] = [*_COMMON, (b"content-security-policy", _CSP.encode())]
_DOCS: Final[Headers] = [*_COMMON, (b"content-security-policy", _CSP_DOCS.encode())]
_SHOWCASE: Final[Headers] = [
    *_COMMON,
    (b"content-security-policy", _CSP_DATA.encode()),
    (b"access-control-allow-origin", b"*"),
]
PREFLIGHT: Final[Headers] = [
    *_SHOWCASE,
    (b"access-control-allow-methods", b"GET, HEAD"),
    (b"access-control-allow-headers", b"if-none-match"),
    (b"access-control-max-age", b"86400"),
    (b"allow", b"GET, HEAD, OPTIONS"),
    (b"content-length", b"0"),
]


def headers_for(path: str) -> Headers:
    """Return the protective headers of a response on `path`."""
    if path.startswith("/showcase/"):
        return _SHOWCASE
    if path.strip("/") == "schema":
        return _DOCS
    return _PAGE
