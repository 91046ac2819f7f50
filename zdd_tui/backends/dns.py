"""TTLs of public names, from the authoritative servers where they can be reached.

A cache returns the rest of a TTL, so its small number proves nothing. Needs dnspython, the extra ``dns``.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zdd_tui.model.doctor.facts import DnsFacts, Fact

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

DNS_TIMEOUT = 3.0
"""Seconds, for each query."""


async def read_ttls(
    names: Sequence[str], *, resolver: "Resolver | None" = None, port: int = 53
) -> Fact[tuple[DnsFacts, ...]]:
    """Reads the TTL of each name.

    Args:
        resolver: default: from /etc/resolv.conf.
        port: of the authoritative servers.
    """
    if not names:
        return Fact(())
    try:
        import dns.asyncresolver  # noqa: PLC0415  an extra
        import dns.exception  # noqa: PLC0415
    except ModuleNotFoundError:
        return Fact(None, "dnspython is not installed: TTLs cannot be read", "pip install 'zdd-tui[dns]'")
    if resolver is None:
        try:
            resolver = dns.asyncresolver.Resolver()
        except dns.exception.DNSException as error:
            return Fact(None, f"no resolver is configured: {error}", "check /etc/resolv.conf")
    return Fact(tuple(await asyncio.gather(*(_read_ttl(name, resolver, port) for name in names))))


async def _read_ttl(name: str, resolver: "Resolver", port: int) -> DnsFacts:
    import dns.exception  # noqa: PLC0415

    try:
        answer = await resolver.resolve(name, "A", lifetime=DNS_TIMEOUT, raise_on_no_answer=False, search=False)
        if answer.rrset is None:
            answer = await resolver.resolve(name, "AAAA", lifetime=DNS_TIMEOUT, search=False)
    except dns.exception.DNSException as error:
        return DnsFacts(name, None, problem=_short_reason(error))
    cached = _longest_ttl(answer.response)
    authoritative = await _read_authoritative_ttl(name, resolver, port)
    if authoritative is None:
        return DnsFacts(name, cached, authoritative=_is_authoritative(answer.response))
    # A CNAME may lead to a zone that this server does not hold.
    return DnsFacts(name, max(authoritative, cached), authoritative=True)


async def _read_authoritative_ttl(name: str, resolver: "Resolver", port: int) -> int | None:
    """Reads the TTL from a server of the name's zone; None where none is reachable or none has the name."""
    import dns.asyncquery  # noqa: PLC0415
    import dns.asyncresolver  # noqa: PLC0415
    import dns.exception  # noqa: PLC0415
    import dns.message  # noqa: PLC0415

    try:
        zone = await dns.asyncresolver.zone_for_name(name, resolver=resolver, lifetime=DNS_TIMEOUT)
        servers = await resolver.resolve(zone, "NS", lifetime=DNS_TIMEOUT, search=False)
        for server in [str(record.target) for record in servers][:3]:
            for address in await resolver.resolve(server, "A", lifetime=DNS_TIMEOUT, search=False):
                question = dns.message.make_query(name, "A")
                try:
                    answer, _ = await dns.asyncquery.udp_with_fallback(
                        question, address.address, timeout=DNS_TIMEOUT, port=port
                    )
                except (dns.exception.DNSException, OSError):
                    continue
                if _is_authoritative(answer) and answer.answer:
                    return _longest_ttl(answer)
    except (dns.exception.DNSException, OSError):
        return None
    return None


def _longest_ttl(message: Any) -> int:
    return max((int(rrset.ttl) for rrset in message.answer), default=0)


def _is_authoritative(message: Any) -> bool:
    import dns.flags  # noqa: PLC0415

    return bool(message.flags & dns.flags.AA)


def _short_reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
