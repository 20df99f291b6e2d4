"""A small DNS server on 127.0.0.1 whose records a test changes as it likes.

async with name_server() as names:
    names.records["app.test."] = ["10.0.0.1", "10.0.0.2"]
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio


@dataclass
class NameServer:
    """records: name with its final dot → addresses, or "priority weight port target." for SRV. failing: it answers SERVFAIL."""

    port: int
    records: dict[str, list[str]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    ttl: int = 1
    failing: bool = False
    is_silent: bool = False
    asked: list[str] = field(default_factory=list)

    def answer(self, wire: bytes) -> bytes:
        """To one question."""
        query = dns.message.from_wire(wire)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        (question,) = query.question
        kind = dns.rdatatype.to_text(question.rdtype)
        name = question.name.to_text().lower()
        self.asked.append(f"{name} {kind}")
        if self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
            return response.to_wire()
        alias = self.aliases.get(name)
        if alias:
            response.answer.append(dns.rrset.from_text(name, 1000, "IN", "CNAME", alias))
            name = alias
        if name not in self.records:
            response.set_rcode(dns.rcode.NXDOMAIN)
            return response.to_wire()
        found = [text for text in self.records[name] if kind_of(text) == kind]
        if found:
            response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", kind, *found))
        return response.to_wire()


def kind_of(text: str) -> str:
    """The type of a record by its text."""
    return "SRV" if " " in text else "AAAA" if ":" in text else "A"


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    """Serve over UDP until the block is left."""
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))
    server = NameServer(sock.getsockname()[1])

    async def serve() -> None:
        while True:
            wire, client = await sock.recvfrom(4096)
            answer = server.answer(wire)
            if not server.is_silent:
                await sock.sendto(answer, client)

    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield server
            nursery.cancel_scope.cancel()
