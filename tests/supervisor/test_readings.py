"""A reading stands still: the exposition is made of it in a thread, while the supervisor goes on counting."""

from types import SimpleNamespace
from typing import Any

from balancer.supervisor.readings import take_reading
from balancer.supervisor.resources import Usage
from balancer.supervisor.slot import Slot
from balancer.telemetry.exposition import render
from balancer.telemetry.ledger import Ledger
from balancer.telemetry.readings import CertificateReading, Durations
from balancer.telemetry.table import Table
from tests.supervisor.ground import QUICK, app


def test_it_does_not_change_with_what_it_was_taken_from() -> None:
    ledger = Ledger(Table.create(1))
    row = ledger.open("web", "web-0")
    slot = Slot("web", 0, app(), QUICK)
    supervisor: Any = SimpleNamespace(
        truth=SimpleNamespace(
            pools={"web": None}, shown_slots=lambda _: [slot], settings=SimpleNamespace(listen={"web": None})
        ),
        reloads=SimpleNamespace(results={"ok": 1}, last_ok=True, last_time=1.0, version=1),
        proxies=SimpleNamespace(live={}),
        material=SimpleNamespace(certificates=[]),
    )

    def count() -> None:
        slot.count_restart("crash")
        slot.count_restart("a reason that was never seen before")
        slot.probes.setdefault("pass", Durations()).observe(0.1)
        slot.messages["sent"] += 1
        supervisor.reloads.results["failed"] = supervisor.reloads.results.get("failed", 0) + 1
        supervisor.material.certificates.append(CertificateReading("web", "web.pem", 1.0, 2.0))
        ledger.table.cells[ledger.table.backend_base(0, row)] += 1

    count()
    tally, reading = ledger.tally(), take_reading(supervisor, Usage(lambda _: None))
    before = render(tally, reading)
    count()
    ledger.close("web", "web-0", row)
    assert render(tally, reading) == before
    assert render(ledger.tally(), take_reading(supervisor, Usage(lambda _: None))) != before
