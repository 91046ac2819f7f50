"""One region after the other: which plan each has, and when the next may begin. Pure.

A release in one region stands in that region's own database, and knows nothing of the others but this: it begins
when every region before it has carried the very same plan to its end, and the last of them has soaked.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import ReleaseState

REGION_GATE = "region"
KeyPath = tuple[str | int, ...]

# --- when the next may begin ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegionStatus:
    """What a region's database says of the release of one plan.

    Attributes:
        state: of the newest release of that plan; None where there is none, or where it could not be read.
        phase: its current phase, or empty.
        seconds_since_end: seconds since it ended, by that database's clock; None while it has not.
        was_rolled_back: a release of that plan was rolled back there at some time, or is on its way back.
        runs_other_plan: there is none of that plan, but one of its name with another: the file was changed since.
        error: why the region could not be read, in one line; else empty.
    """

    region: str
    state: ReleaseState | None = None
    phase: str = ""
    is_paused: bool = False
    seconds_since_end: float | None = None
    was_rolled_back: bool = False
    runs_other_plan: bool = False
    error: str = ""

    def has_soaked(self, soak: float) -> bool:
        """Done for so many seconds. What could not be read, or was rolled back, never is."""
        done = self.state is ReleaseState.DONE and not self.was_rolled_back and not self.error
        return done and self.seconds_since_end is not None and self.seconds_since_end >= soak

    def describe(self, soak: float) -> str:
        """Where it stands, for people."""
        if self.error:
            return f"unreachable: {self.error}"
        if self.was_rolled_back:
            rolled = (
                "ROLLED BACK" if self.state in (ReleaseState.ROLLED_BACK, ReleaseState.DONE, None) else "rolling back"
            )
            return "was ROLLED BACK before" if self.state is ReleaseState.DONE else rolled
        if self.runs_other_plan:
            return "not begun with this plan: its release is of another version of it"
        if self.state is None or self.state is ReleaseState.PLANNED:
            return "not begun"
        if self.state is ReleaseState.DONE:
            left = soak - (self.seconds_since_end or 0.0)
            return f"done, soaking: {format_duration(left)} left" if left > 0 else "done"
        place = f"{self.state} in {self.phase}" if self.phase else str(self.state)
        return f"{place}, PAUSED" if self.is_paused else place


def evaluate_regions(earlier: Sequence[RegionStatus], soak_seconds: float) -> tuple[Verdict, str]:
    """May a release begin, as far as the regions before its own are concerned?

    Args:
        earlier: those regions, in order; none for the first.
        soak_seconds: seconds that the last of them must have been done.

    Returns:
        pass only where every one of them is done and the last has soaked; fail for good where one was rolled back.
    """
    for stand in earlier:
        if stand.was_rolled_back and not stand.error:
            return Verdict.FAIL, f"ROLLED BACK: the release stops at region {stand.region}"
    for number, stand in enumerate(earlier, 1):
        needed = soak_seconds if number == len(earlier) else 0.0
        if stand.has_soaked(needed):
            continue
        told = f"region {stand.region} is {stand.describe(needed)}"
        return (Verdict.UNKNOWN if stand.error else Verdict.FAIL), told
    if not earlier:
        return Verdict.PASS, "the first region waits for nobody"
    return Verdict.PASS, f"region {earlier[-1].region} is done and has soaked {format_duration(soak_seconds)}"


def find_current_region(statuses: Sequence[RegionStatus], soak: float) -> RegionStatus:
    """The first that is not done and soaked; the last one where all are. One that could not be read is not."""
    return next((stand for stand in statuses if not stand.has_soaked(soak)), statuses[-1])


def require_same_region(plan: BasePlan, region: str) -> None:
    """
    Args:
        region: of a release of this plan, as its database says.

    Raises:
        PlanError: the release is another region's: two addresses lead to one database.
    """
    if region != plan.region:
        raise PlanError(
            f"the database of region {plan.region or '(none)'} holds the release of region {region or '(none)'}",
            "each region has a database of its own: check the dsn of both",
        )


# --- the plan file ----------------------------------------------------------------------------------------------


def require_known_region(names: Sequence[str], requested: str, source: str) -> None:
    """
    Raises:
        PlanError: the plan has no region of that name; names the nearest.
    """
    if requested in names:
        return
    if not names:
        raise PlanError(
            f"--region {requested}: {source} has no regions", "leave --region out, or add regions to the plan"
        )
    near = difflib.get_close_matches(requested, names, n=1, cutoff=0.4)
    mend = f"did you mean {near[0]}?" if near else f"its regions: {', '.join(names)}"
    raise PlanError(f"--region {requested}: {source} has no such region", mend)


def require_region(plan: BasePlan, source: str) -> None:
    """
    Raises:
        PlanError: the plan has several regions and none was named.
    """
    if plan.regions is not None and not plan.region:
        names = ", ".join(plan.regions.names)
        raise PlanError(f"{source} has several regions, and an agent works in one", f"--region NAME, one of: {names}")


def region_names_in(document: Mapping[str, Any]) -> list[str]:
    """The regions' names in a document that may be wrong in every other way."""
    return [str(region.get("name")) for region in _region_sections(document)]


def _region_sections(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    regions = document.get("regions")
    order = regions.get("order") if isinstance(regions, Mapping) else None
    return [region for region in order if isinstance(region, Mapping)] if isinstance(order, list) else []


def variables_not_needed(document: Mapping[str, Any], region: str) -> Callable[[KeyPath], bool]:
    """Whose variables need not be set on a machine that carries out one region.

    It needs its own systems, and the databases of the regions before it: nobody has to hand it the others' secrets.
    """
    names = region_names_in(document)
    here = names.index(region)
    until_here = list(range(here + 1))
    users: dict[KeyPath, list[int]] = {
        ("database", "dsn"): until_here,
        ("kubernetes", "kubeconfig"): [here],
        ("flags", "url"): [here],
    }

    def spared(path: KeyPath) -> bool:
        if path[:2] == ("regions", "order") and len(path) > 3 and isinstance(path[2], int):
            return path[2] > here or (path[2] < here and path[3] != "database")
        base = ("flags", "url") if path == ("canary", "flag", "url") else path
        return base in users and all(_has_key(_region_sections(document)[index], base) for index in users[base])

    return spared


def _has_key(region: Mapping[str, Any], path: KeyPath) -> bool:
    section = region.get(path[0])  # type: ignore[arg-type]
    return isinstance(section, Mapping) and path[1] in section


def find_region_errors(plan: BasePlan) -> Iterator[tuple[KeyPath, str, str]]:
    """What regions override in vain, or have in common and must not: where, what, and the mend."""
    if plan.regions is None:
        return
    seen: dict[tuple[object, ...], str] = {}
    for index, region in enumerate(plan.regions.order):
        name, place = region.name, ("regions", "order", index)
        if region.flags is not None and plan.redis_url is None:
            yield (*place, "flags"), f"this {plan.strategy} plan has no flags", "leave it out"
            continue
        own = plan.for_region(name)
        cluster = own.kubernetes
        found: list[tuple[str, tuple[object, ...], str, str]] = [
            (
                "database",
                ("db", _database_identity(own.database.dsn.get_secret_value())),
                "database",
                "database: {dsn: ...}",
            ),
            (
                "kubernetes",
                ("k8s", cluster.kubeconfig, cluster.context, cluster.namespace),
                f"cluster and namespace for Deployment {cluster.deployment}",
                "kubernetes: {context: ...}",
            ),
        ]
        if own.redis_url is not None:
            # Epochs are counted by each database: in one Redis, those of two regions would fence each other off.
            found.append(("flags", ("redis", own.redis_url.get_secret_value()), "Redis", "flags: {url: ...}"))
        for section, key, what, mend in found:
            first = seen.setdefault(key, name)
            if first != name:
                told = f"regions {first} and {name} have the same {what}"
                yield (*place, section), told, f"give region {name} its own: {mend}"


def _database_identity(dsn: str) -> tuple[str, ...]:
    """Which database an address means, whoever logs in."""
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return (dsn,)
    if parts.scheme not in ("postgresql", "postgres"):
        return (dsn,)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    hosts = parts.netloc.rpartition("@")[2].lower() or query.get("host", "")
    hosts = ",".join(f"{host}:{query.get('port', '5432')}" if ":" not in host else host for host in hosts.split(","))
    return hosts, parts.path.lstrip("/") or query.get("dbname", "")
