"""The status page, `GET /` of the admin address: three files that ask the API like anybody else.

They come from here and speak to nobody else (the policy below forbids it), and whatever an app has put into a name, a path or a
log line is shown as text, never as markup.
"""

from functools import cache
from importlib.resources import files

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
}


@cache
def asset(name: str) -> tuple[str, bytes]:
    """(content type, bytes) of one of the page's files. Raises KeyError for any other name."""
    return _TYPES[name], (files(__package__) / name).read_bytes()
