"""The status page's files: what they are served with, and what they must not contain."""

import re

import pytest

from balancer.admin.page import POLICY, asset
from balancer.admin.routes import Answer, Asked, answer


class Nobody:
    """Operations that a page must not need."""


@pytest.mark.parametrize(
    ("path", "content_type"), [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")]
)
async def test_the_files_are_served_under_a_policy_that_lets_them_speak_to_nobody_else(
    path: str, content_type: str
) -> None:
    given = await answer(Nobody(), Asked("GET", path))  # type: ignore[arg-type]
    assert isinstance(given, Answer)
    assert given.status == 200
    assert given.content_type.startswith(content_type)
    assert ("Content-Security-Policy", POLICY) in given.headers
    assert "default-src 'none'" in POLICY


async def test_no_other_file_can_be_had() -> None:
    for path in ("/index.html", "/page.py", "/__init__.py", "/../page.js"):
        given = await answer(Nobody(), Asked("GET", path))  # type: ignore[arg-type]
        assert isinstance(given, Answer)
        assert given.status == 404


def test_nothing_is_put_into_the_page_as_markup_and_nothing_comes_from_elsewhere() -> None:
    _, script = asset("page.js")
    assert not re.search(rb"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)
    for name in ("index.html", "page.css", "page.js"):
        assert b"://" not in asset(name)[1].replace(b"http://www.w3.org/2000/svg", b"")
