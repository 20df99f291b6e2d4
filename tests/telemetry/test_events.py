"""Events: their order, their text, and followers."""

import json

from balancer.telemetry.events import Event, Events


def test_text_and_json() -> None:
    seen: list[Event] = []
    events = Events(on_record=seen.append)
    event = events.record("crashed", pool="web", backend="web-3", generation=7, signal="SIGSEGV", requests=["GET /a b"])
    assert event.text == "web-3 (generation 7) crashed: signal=SIGSEGV requests='GET /a b'"
    assert events.record("rolled back", pool="web", reason="a\nb").text == "pool web rolled back: reason='a\\nb'"
    assert events.record("stopping").text == "stopping"
    value = json.loads(json.dumps(event.to_json()))
    assert value.pop("time") > 1e9
    assert value == {
        "number": 0,
        "event": "crashed",
        "pool": "web",
        "backend": "web-3",
        "generation": 7,
        "signal": "SIGSEGV",
        "requests": ["GET /a b"],
        "text": event.text,
    }
    assert [event.number for event in seen] == [0, 1, 2]


def test_a_detail_cannot_hide_what_the_event_is() -> None:
    value = Events().record("ready", event="crashed", number=99).to_json()
    assert (value["event"], value["number"]) == ("ready", 0)


async def test_a_follower_gets_the_past_and_what_comes_and_what_it_missed() -> None:
    events = Events(kept=5)
    for number in range(4):
        events.record(f"old {number}")
    following = events.follow(last=2)
    assert [(await anext(following)).kind for _ in range(2)] == ["old 2", "old 3"]
    for number in range(8):
        events.record(f"new {number}")
    kinds = [await anext(following) for _ in range(6)]
    assert (kinds[0].kind, kinds[0].detail) == ("lost", {"count": 3})
    assert [event.kind for event in kinds[1:]] == [f"new {number}" for number in range(3, 8)]
    await following.aclose()  # type: ignore[attr-defined]
