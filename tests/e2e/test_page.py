"""The status page, in a real browser."""

from pathlib import Path

import pytest
import trio

from tests.support import apps
from tests.support.browser import watch
from tests.support.running import running


@pytest.mark.needs("chromium", why="the status page in a browser")
async def test_the_page_shows_backends_and_events_and_breaks_no_rule_of_its_own(tmp_path: Path) -> None:
    async with running(apps.LISTEN + apps.pool("web", 2)) as balancer:
        for _ in range(4):
            await balancer.get("/")
        shown = """
            (() => {
              const rows = [...document.querySelectorAll("tbody tr")].map(r => r.cells[0].textContent + " " + r.cells[1].textContent);
              const events = document.querySelectorAll("#events li").length;
              return rows.length === 2 && events ? rows.join(", ") + "; " + document.getElementById("trouble").textContent : "";
            })()
        """
        text, said = await trio.to_thread.run_sync(watch, balancer.admin_url + "/", tmp_path, shown)
    assert text == "web-0 ready, web-1 ready; "
    assert not said


@pytest.mark.needs("chromium", why="the status page in a browser")
async def test_what_a_stranger_puts_into_a_path_is_shown_as_text(tmp_path: Path) -> None:
    async with running(apps.LISTEN + apps.pool("web", 1)) as balancer:
        name = "<img src=x onerror=document.title='pwned'>"
        await balancer.command("send", "web/web-0", f'"{name}"')
        shown = 'document.querySelectorAll("#events li").length ? document.title + document.querySelectorAll("img").length : ""'
        text, _ = await trio.to_thread.run_sync(watch, balancer.admin_url + "/", tmp_path, shown)
    assert text == "balancer0"
