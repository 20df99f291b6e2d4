"""Questions to backends: each of them ends once, with a reply or the reason why there is none."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from balancer.channel.lines import Channel
from balancer.pool.backend import BackendId
from balancer.supervisor.messages import Post
from balancer.supervisor.question import Question
from balancer.supervisor.slot import Slot
from tests.supervisor.ground import QUICK, app, ground, replace, talker

A, B = BackendId("web-0", 1), BackendId("web-1", 4)


async def ends(question: Question) -> list[dict[str, Any]]:
    with trio.fail_after(5):
        return [end async for end in question.ends()]


async def test_replies_come_as_they_are_given_and_count_once(autojump_clock: trio.testing.MockClock) -> None:
    question = Question(7, "how many?", 3.0)
    assert question.message == {"type": "ask", "id": 7, "data": "how many?"}
    question.expect(A)
    question.expect(B)
    assert question.replied(B, {"type": "reply", "id": 7, "data": None})
    assert not question.replied(B, {"type": "reply", "id": 7, "data": "again"})
    assert not question.replied(BackendId("web-1", 5), {"data": "not asked"})
    question.lose(B, "went away")
    assert question.replied(A, {"type": "reply", "id": 7, "data": 3})
    assert await ends(question) == [
        {"event": "reply", "backend": "web-1", "generation": 4, "data": None},
        {"event": "reply", "backend": "web-0", "generation": 1, "data": 3},
        {"event": "done", "ok": True, "text": "2 backends replied"},
    ]


async def test_errors_losses_and_the_end_of_the_time_are_said(autojump_clock: trio.testing.MockClock) -> None:
    question = Question(1, None, 3.0)
    late = BackendId("web-2", 1)
    for id in (A, B, late):  # noqa: A001
        question.expect(id)
    question.replied(A, {"error": {"code": 4}})
    question.lose(B, "went away")
    started = trio.current_time()
    assert await ends(question) == [
        {"event": "reply", "backend": "web-0", "generation": 1, "error": {"code": 4}}
        | {"text": 'web-0 replied with an error: {"code": 4}'},
        {"event": "no reply", "backend": "web-1", "generation": 4, "text": "web-1 went away"},
        {"event": "no reply", "backend": "web-2", "generation": 1, "text": "web-2 did not reply within 3 s"},
        {"event": "done", "ok": False}
        | {"text": 'web-0 replied with an error: {"code": 4}\nweb-1 went away\nweb-2 did not reply within 3 s'},
    ]
    assert trio.current_time() - started == pytest.approx(3.0)


@asynccontextmanager
async def joined(post: Post, *ids: BackendId) -> AsyncIterator[dict[BackendId, socket.socket]]:
    """A channel for each; gives the other ends."""
    others, channels = {}, []
    for id in ids:  # noqa: A001
        ours, others[id] = socket.socketpair()
        channels.append(Channel(ours))
        post.join(id, Slot("web", int(id.name[-1]), app(), QUICK), channels[-1])
    try:
        yield others
    finally:
        for channel in channels:
            channel.close()
        for other in others.values():
            other.close()


async def test_only_who_was_asked_can_reply_and_nothing_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    post = Post()
    async with joined(post, A, B) as others:
        assert post.ask("web", "web-7", 1, 1.0) is None
        question = post.ask("web", "web-0", {"x": 1}, 1.0)
        assert question is not None
        assert others[A].recv(1000) == b'{"type":"ask","id":2,"data":{"x":1}}\n'
        reply = {"type": "reply", "id": 2, "data": "mine"}
        assert not post.replied(B, reply)
        for number in (1, 3, "2", None, [2], True):
            assert not post.replied(A, {**reply, "id": number})
        assert post.replied(A, reply)
        assert not post.replied(A, reply)
        del question
        assert not post._questions  # who asked has gone: nobody waits, and nothing is left


async def test_one_that_takes_nothing_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    post = Post()
    async with joined(post, A, B) as others:
        others[A].close()
        post.send("web", "web-0", "whose end is gone")
        question = post.ask("web", "", 1, 1.0)
        assert question is not None
        assert post.replied(B, {"type": "reply", "id": 1, "data": 0})
        said = [end.get("text") for end in await ends(question)]
        assert said == ["web-0 takes no messages", None, "web-0 takes no messages"]
        others[B].close()
        post.send("web", "web-1", "whose end is gone")
        assert post.ask("web", "", 1, 1.0) is None


async def test_real_backends_reply_and_one_that_dies_is_lost_at_once() -> None:
    async with ground() as g:
        for index, kind in enumerate(("thread", "trio")):
            g.add(talker(kind), replace(QUICK, ready_when="message"), index)
        await g.event("ready", 2)
        question = g.around.post.ask("web", "", "work", 10.0)
        assert question is not None
        *replies, done = await ends(question)
        assert sorted(reply["data"]["done by"] for reply in replies) == ["web-0", "web-1"]
        assert done["ok"]
        question = g.around.post.ask("web", "web-1", "die", 60.0)
        assert question is not None
        assert [end.get("text") for end in await ends(question)] == ["web-1 went away before it replied"] * 2
