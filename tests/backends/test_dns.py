"""TTLs, from a DNS server of our own on loopback that is a resolver and the zone's server at once."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import dns.asyncresolver
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest

from zdd_tui.backends.dns import read_ttls
from zdd_tui.model.doctor.facts import DnsFacts

LOOPBACK = "127.0.0.1"
ZONE = {
    ("shop.example.", "SOA"): ("shop.example.", 3600, "ns.shop.example. root.shop.example. 1 2 3 4 5"),
    ("shop.example.", "NS"): ("shop.example.", 3600, "ns.shop.example."),
    ("ns.shop.example.", "A"): ("ns.shop.example.", 3600, LOOPBACK),
    ("quick.shop.example.", "A"): ("quick.shop.example.", 30, "192.0.2.1"),
    ("slow.shop.example.", "A"): ("slow.shop.example.", 300, "192.0.2.1"),
}


class DnsServer(asyncio.DatagramProtocol):
    """Answers questions of its zone.

    Args:
        authoritative: it is the zone's own server; else a cache in which TTLs run down.
        left: seconds that a cache has left of any TTL.
    """

    def __init__(self, *, authoritative: bool, left: int | None = None) -> None:
        self._authoritative = authoritative
        self._left = left
        self._transport: asyncio.DatagramTransport
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        question = dns.message.from_wire(data)
        [requested] = question.question
        self.asked.append(requested.name.to_text())
        answer = dns.message.make_response(question)
        if self._authoritative:
            answer.flags |= dns.flags.AA
        answer.flags |= dns.flags.RA
        name = requested.name.to_text()
        if name == "alias.shop.example.":
            self._add(answer, name, 600, "CNAME", "quick.shop.example.")
            name = "quick.shop.example."
        found = ZONE.get((name, dns.rdatatype.to_text(requested.rdtype)))
        if found is not None:
            self._add(answer, found[0], found[1], dns.rdatatype.to_text(requested.rdtype), found[2])
        elif not any(known == name for known, _ in ZONE):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), addr)

    def _add(self, answer: dns.message.Message, name: str, ttl: int, kind: str, value: str) -> None:
        seconds = ttl if self._left is None else min(self._left, ttl)
        answer.answer.append(dns.rrset.from_text(name, seconds, "IN", kind, value))


@asynccontextmanager
async def serving(server: DnsServer) -> AsyncIterator[int]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: server, local_addr=(LOOPBACK, 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def resolver(port: int) -> dns.asyncresolver.Resolver:
    made = dns.asyncresolver.Resolver(configure=False)
    made.nameservers, made.port = [LOOPBACK], port
    return made


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes questions and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind((LOOPBACK, 0))
        yield mute.getsockname()[1]


@pytest.mark.parametrize(("name", "ttl"), [("quick", 30), ("slow", 300), ("alias", 600)])
async def test_the_authoritative_server_gives_the_longest_ttl(name: str, ttl: int) -> None:
    # The cache would have returned 5 seconds.
    cache, zone = DnsServer(authoritative=False, left=5), DnsServer(authoritative=True)
    async with serving(cache) as cached, serving(zone) as own:
        fact = await read_ttls([f"{name}.shop.example"], resolver=resolver(cached), port=own)
    assert fact.value == (DnsFacts(f"{name}.shop.example", ttl, authoritative=True),)
    assert zone.asked


async def test_a_cached_ttl_is_not_authoritative() -> None:
    with silent_port() as mute:
        async with serving(DnsServer(authoritative=False, left=5)) as cached:
            fact = await read_ttls(["slow.shop.example"], resolver=resolver(cached), port=mute)
    assert fact.value == (DnsFacts("slow.shop.example", 5, authoritative=False),)


async def test_an_unknown_name() -> None:
    async with serving(DnsServer(authoritative=True)) as port:
        fact = await read_ttls(["nobody.shop.example"], resolver=resolver(port), port=port)
    assert fact.value is not None
    [seen] = fact.value
    assert seen.ttl is None
    assert "nobody.shop.example" in seen.problem


async def test_no_names_need_no_query() -> None:
    assert (await read_ttls([])).value == ()
