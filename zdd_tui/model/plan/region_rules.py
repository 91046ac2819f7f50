"""The rules of a plan's regions: which names exist, which variables one region needs, what two must not share."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import BasePlan, WorkloadPlan

KeyPath = tuple[str | int, ...]


def require_known_region(names: Sequence[str], requested: str, source: str) -> None:
    """
    Raises:
        PlanError: the plan has no region of that name.
    """
    if requested in names:
        return
    if not names:
        raise PlanError(
            f"--region {requested}: {source} has no regions", "leave --region out, or add regions to the plan"
        )
    near = difflib.get_close_matches(requested, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"its regions: {', '.join(names)}"
    raise PlanError(f"--region {requested}: {source} has no such region", hint)


def require_region(plan: BasePlan, source: str) -> None:
    """
    Raises:
        PlanError: the plan has several regions and none was named.
    """
    if plan.regions is not None and not plan.region:
        names = ", ".join(plan.regions.names)
        raise PlanError(f"{source} has several regions, and an agent runs one", f"add --region NAME, one of: {names}")


def region_names_in(document: Mapping[str, Any]) -> list[str]:
    """The regions' names in a document that may have other errors."""
    return [str(region.get("name")) for region in _region_sections(document)]


def _region_sections(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    regions = document.get("regions")
    order = regions.get("order") if isinstance(regions, Mapping) else None
    return [region for region in order if isinstance(region, Mapping)] if isinstance(order, list) else []


def variables_not_needed(document: Mapping[str, Any], region: str) -> Callable[[KeyPath], bool]:
    """A predicate: the value at a path is not needed on a machine that runs one region, so its variables may be unset.

    Such a machine needs the systems of its region and the databases of the earlier ones, not the secrets of the others.
    """
    names = region_names_in(document)
    here = names.index(region)
    until_here = list(range(here + 1))
    users: dict[KeyPath, list[int]] = {
        ("database", "dsn"): until_here,
        ("kubernetes", "kubeconfig"): [here],
        ("flags", "url"): [here],
    }

    def is_not_needed(path: KeyPath) -> bool:
        if path[:2] == ("regions", "order") and len(path) > 3 and isinstance(path[2], int):
            return path[2] > here or (path[2] < here and path[3] != "database")
        base = ("flags", "url") if path == ("canary", "flag", "url") else path
        return base in users and all(_has_key(_region_sections(document)[index], base) for index in users[base])

    return is_not_needed


def _has_key(region: Mapping[str, Any], path: KeyPath) -> bool:
    section = region.get(path[0])  # type: ignore[arg-type]
    return isinstance(section, Mapping) and path[1] in section


def find_region_errors(plan: BasePlan) -> Iterator[tuple[KeyPath, str, str]]:
    """Overrides without effect, and systems that two regions share but must not: path, error, hint."""
    if plan.regions is None:
        return
    seen: dict[tuple[object, ...], str] = {}
    for index, region in enumerate(plan.regions.order):
        name, path = region.name, ("regions", "order", index)
        if region.flags is not None and plan.redis_url is None:
            yield (*path, "flags"), f"this {plan.strategy} plan has no flags", "leave it out"
            continue
        if region.kubernetes is not None and not isinstance(plan, WorkloadPlan):
            yield (*path, "kubernetes"), "this plan has no Deployment", "leave it out"
            continue
        own = plan.for_region(name)
        database = ("db", _database_identity(own.database.dsn.get_secret_value()))
        systems: list[tuple[str, tuple[object, ...], str, str]] = [
            ("database", database, "database", "database: {dsn: ...}")
        ]
        if isinstance(own, WorkloadPlan):
            cluster = own.kubernetes
            location = ("k8s", cluster.kubeconfig, cluster.context, cluster.namespace)
            what = f"cluster and namespace for Deployment {cluster.deployment}"
            systems.append(("kubernetes", location, what, "kubernetes: {context: ...}"))
        if own.redis_url is not None:
            # Every database counts its own epochs: in one Redis those of two regions would fence each other.
            systems.append(("flags", ("redis", own.redis_url.get_secret_value()), "Redis", "flags: {url: ...}"))
        for section, key, what, hint in systems:
            first = seen.setdefault(key, name)
            if first != name:
                text = f"regions {first} and {name} have the same {what}"
                yield (*path, section), text, f"give region {name} its own: {hint}"


def _database_identity(dsn: str) -> tuple[str, ...]:
    """Host and database of an address, without the user."""
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
