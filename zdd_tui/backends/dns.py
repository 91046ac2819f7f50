"""TTLs of public names, from the zone's own servers where they can be reached.

A cache answers with what is left of a TTL, so a small number from one proves nothing. Needs dnspython, the extra
``dns``.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zdd_tui.model.doctor.facts import Look, NameFacts

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

SECONDS = 3.0
"""For each question."""


async def read_names(
    names: Sequence[str], *, resolver: "Resolver | None" = None, port: int = 53
) -> Look[tuple[NameFacts, ...]]:
    """The TTL of each name.

    Args:
        resolver: default: what /etc/resolv.conf says.
        port: of the zones' own servers.
    """
    if not names:
        return Look(())
    try:
        import dns.asyncresolver  # noqa: PLC0415  an extra
        import dns.exception  # noqa: PLC0415
    except ModuleNotFoundError:
        return Look(None, "dnspython is not installed: TTLs cannot be asked for", "pip install 'zdd-tui[dns]'")
    if resolver is None:
        try:
            resolver = dns.asyncresolver.Resolver()
        except dns.exception.DNSException as error:
            return Look(None, f"no resolver is configured here: {error}", "check /etc/resolv.conf")
    return Look(tuple(await asyncio.gather(*(_name(name, resolver, port) for name in names))))


async def _name(name: str, resolver: "Resolver", port: int) -> NameFacts:
    import dns.exception  # noqa: PLC0415

    try:
        answer = await resolver.resolve(name, "A", lifetime=SECONDS, raise_on_no_answer=False, search=False)
        if answer.rrset is None:
            answer = await resolver.resolve(name, "AAAA", lifetime=SECONDS, search=False)
    except dns.exception.DNSException as error:
        return NameFacts(name, None, problem=_brief(error))
    cached = _longest(answer.response)
    own = await _from_the_zone(name, resolver, port)
    if own is None:
        return NameFacts(name, cached, authoritative=_is_authoritative(answer.response))
    # A name that points elsewhere by CNAME ends in a zone that this server does not hold.
    return NameFacts(name, max(own, cached), authoritative=True)


async def _from_the_zone(name: str, resolver: "Resolver", port: int) -> int | None:
    """The TTL that a server of the name's zone gives; None where none is reached or none holds it."""
    import dns.asyncquery  # noqa: PLC0415
    import dns.asyncresolver  # noqa: PLC0415
    import dns.exception  # noqa: PLC0415
    import dns.message  # noqa: PLC0415

    try:
        zone = await dns.asyncresolver.zone_for_name(name, resolver=resolver, lifetime=SECONDS)
        servers = await resolver.resolve(zone, "NS", lifetime=SECONDS, search=False)
        for server in [str(record.target) for record in servers][:3]:
            for address in await resolver.resolve(server, "A", lifetime=SECONDS, search=False):
                question = dns.message.make_query(name, "A")
                try:
                    answer, _ = await dns.asyncquery.udp_with_fallback(
                        question, address.address, timeout=SECONDS, port=port
                    )
                except (dns.exception.DNSException, OSError):
                    continue
                if _is_authoritative(answer) and answer.answer:
                    return _longest(answer)
    except (dns.exception.DNSException, OSError):
        return None
    return None


def _longest(message: Any) -> int:
    return max((int(rrset.ttl) for rrset in message.answer), default=0)


def _is_authoritative(message: Any) -> bool:
    import dns.flags  # noqa: PLC0415

    return bool(message.flags & dns.flags.AA)


def _brief(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
