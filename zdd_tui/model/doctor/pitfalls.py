"""The seven pitfalls: one function each, and the table at the end."""

from collections.abc import Iterator
from datetime import UTC, datetime

from zdd_tui.model.doctor import probes
from zdd_tui.model.doctor.evidence import flag_owner, images, rehearsed, steps_that_watch, watches
from zdd_tui.model.doctor.facts import (
    Facts,
    Finding,
    NameFacts,
    Observation,
    Rule,
    apply,
    failed,
    passed,
    unknown,
    unsure,
)
from zdd_tui.model.duration import human_duration
from zdd_tui.model.plan.base import BasePlan, Plan

MAX_TTL = 60
"""Seconds: clients may use the old address for so long after a switch."""

FLAG_DAYS = 30
"""A flag that has said the same for so long has decided; it belongs removed."""

DAY = 86400.0
_SHOWN = 4


# --- 1 ------------------------------------------------------------------------------------------------------------


def breaking_migration(facts: Facts) -> Iterator[Observation]:
    """Only expand/contract carries a breaking change of the schema, and only once nobody asks for the old side."""
    plan = facts.plan
    if not isinstance(plan, Plan):
        yield from _shipped(facts)
        return
    yield passed(f"{plan.strategy}: the schema changes beside the old one, `zdd check` holds the DDL to that")
    history, queries = facts.history.value, facts.queries.value
    if history is None:
        yield facts.history.failure
        return
    if queries is None:
        yield facts.queries.failure
        return
    old = ", ".join(sorted(plan.change.down)) if plan.change.into is None else str(plan.change.table)
    proven = [query for query in queries.queries if query.proof]
    if history.cut_over_at is None:
        yield passed(f"before the cutover {old} may be asked for: {_seen(len(queries.queries))}")
        return
    for query in proven[:_SHOWN]:
        yield failed(
            f"after the cutover: {query.proof}: {query.text}",
            f"find who sends it and move it off {old} before contract; `zdd rollback` is still open",
        )
    if len(proven) > _SHOWN:
        yield failed(f"and {len(proven) - _SHOWN} more", "look into pg_stat_statements")
    for reason in queries.not_looked:
        yield unknown(reason, "CREATE EXTENSION pg_stat_statements; it also needs shared_preload_libraries")
    if not proven and (stale := len(queries.queries)):
        yield unsure(
            f"{stale} older entr{'y' if stale == 1 else 'ies'} in pg_stat_statements name{'s' if stale == 1 else ''}"
            f" {old}; none was called while we looked: {queries.queries[0].text}",
            "look again later: entries that nobody calls any more stay until pg_stat_statements_reset()",
        )
    elif not proven and not queries.not_looked:
        yield passed(f"after the cutover: no query names {old}")


def _shipped(facts: Facts) -> Iterator[Observation]:
    """The SQL beside a release that leaves the schema alone."""
    shipped = facts.migrations.value
    if shipped is None:
        yield facts.migrations.failure
        return
    for where, why in shipped.breaking[:_SHOWN]:
        yield failed(f"{where}: {why}", f"make it an expand/contract release: {shipped.advice}")
    if len(shipped.breaking) > _SHOWN:
        yield failed(f"and {len(shipped.breaking) - _SHOWN} more", f"see all: {shipped.advice}")
    if not shipped.statements:
        yield passed(f"{facts.plan.strategy}: the plan names no SQL that ships with it (`migrations`)")
    elif not shipped.breaking:
        yield passed(f"{facts.plan.strategy}: running code survives the SQL that ships with it")


def _seen(count: int) -> str:
    return f"{count} quer{'y does' if count == 1 else 'ies do'}" if count else "no query was seen that does"


# --- 2 ------------------------------------------------------------------------------------------------------------


def sticky_sessions(facts: Facts) -> Iterator[Observation]:
    """A client that is bound to a pod loses its session with the pod."""
    traffic, workload = facts.traffic.value, facts.workload.value
    if traffic is None:
        yield facts.traffic.failure
    else:
        if traffic.affinity != "None":
            yield failed(
                f"service/{traffic.service}: sessionAffinity {traffic.affinity}",
                "keep sessions outside of the pods, then set sessionAffinity: None",
            )
        else:
            yield passed(f"service/{traffic.service}: sessionAffinity None")
        for found in traffic.sticky:
            yield failed(found, "keep sessions outside of the pods (Redis, a database, signed cookies), then remove it")
        if not traffic.sticky:
            many = f"{traffic.routes} route{'' if traffic.routes == 1 else 's'} from outside"
            yield passed(f"no affinity annotation on the Service and {many}")
        for reason in traffic.not_looked:
            yield unknown(reason, "grant list on it, or look yourself")
    if workload is None:
        yield facts.workload.failure
    elif workload.session_hints:
        for hint in workload.session_hints:
            yield unsure(f"{hint}: sessions may live in the process", "keep them outside of the pods")
    else:
        yield passed("nothing in env or volumes hints at sessions in memory")


# --- 4 ------------------------------------------------------------------------------------------------------------


def leaking_flags(facts: Facts) -> Iterator[Observation]:
    """A flag without owner and end stays for ever, and with it both of its paths."""
    plan = facts.plan
    if not plan.flag_roles:
        yield passed(f"{plan.strategy}: the plan has no flags")
        return
    owner, expires = flag_owner(plan)
    keys = ", ".join(plan.flag_roles)
    if owner:
        yield passed(f"{keys}: owner {owner}")
    else:
        yield failed(f"{keys}: no owner", "add owner beside the flags in the plan: a person or a team")
    if expires is None:
        yield failed(f"{keys}: no expiry", "add expires: YYYY-MM-DD beside the flags in the plan")
    elif expires < (today := datetime.fromtimestamp(facts.now, UTC).date()):
        yield failed(
            f"{keys}: expired on {expires}, {(today - expires).days} days ago",
            "finish the release, or give the flags a new day with a reason",
        )
    else:
        yield passed(f"{keys}: expires on {expires}")
    yield from _flag_ages(facts)


def _flag_ages(facts: Facts) -> Iterator[Observation]:
    stored, history = facts.flags.value, facts.history.value
    if stored is None:
        yield facts.flags.failure
        return
    if history is None:
        yield facts.history.failure
        return
    for key in facts.plan.flag_roles:
        value, since = stored.get(key), history.flag_set_at.get(key)
        if value is None:
            yield passed(f"{key}: not set in Redis")
        elif key in history.ended_flags:
            continue  # told below
        elif since is None:
            yield unknown(
                f"{key}: {value!r} in Redis, and no step of a release has set it: its age cannot be proven",
                "let the release set it, or delete it if it is a leftover",
            )
        elif facts.now - since > FLAG_DAYS * DAY:
            days = int((facts.now - since) / DAY)
            yield failed(f"{key}: {value!r} for {days} days, by the audit", "it has decided: finish the release")
        else:
            yield passed(f"{key}: {value!r} since {human_duration(max(0.0, facts.now - since))}, by the audit")
    left = {key: name for key, name in history.ended_flags.items() if stored.get(key) is not None}
    for key, name in left.items():
        yield failed(f"{key}: left behind by {name}, which has ended", f"DEL ff:{key}, when no code asks for it")


# --- 5 ------------------------------------------------------------------------------------------------------------


def unrehearsed_rollback(facts: Facts) -> Iterator[Observation]:
    """A way back that nobody has walked is a hope."""
    yield rehearsed(facts)


# --- 6 ------------------------------------------------------------------------------------------------------------


def slow_dns(facts: Facts) -> Iterator[Observation]:
    """Where DNS does the switch, its TTL is how long the old side still gets requests."""
    if not facts.plan.dns:
        yield passed("the plan names no `dns`: nothing is switched by DNS")
        return
    if facts.names.value is None:
        yield facts.names.failure
        return
    for name in facts.names.value:
        yield _name(name)


def _name(seen: NameFacts) -> Observation:
    mend = f"lower its TTL to {MAX_TTL} s at least one old TTL before the release"
    if seen.ttl is None:
        return unknown(f"{seen.name}: {seen.problem}", "check the name, and that this machine reaches a resolver")
    if seen.ttl > MAX_TTL:
        return failed(f"{seen.name}: TTL {seen.ttl} s", mend)
    if not seen.authoritative:
        return unsure(
            f"{seen.name}: {seen.ttl} s left in a cache; the zone's own server was not reached",
            "ask from where the zone's name servers can be reached",
        )
    return passed(f"{seen.name}: TTL {seen.ttl} s")


# --- 7 ------------------------------------------------------------------------------------------------------------


def fragile_steps(facts: Facts) -> Iterator[Observation]:
    """What depends on one person, on one machine, or on a name that means something else tomorrow."""
    yield from _manual_gates(facts)
    yield from _version_control(facts)
    for what, image in images(facts.plan, facts.workload.value):
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" in image or (tag and tag != "latest"):
            yield passed(f"image {what}: {image}")
        else:
            yield failed(
                f"image {what}: {image} has {'the tag latest' if tag else 'no tag'}",
                "name a version or a digest: a rollback must bring back the same image",
            )
    yield from _a_persons_eye(facts.plan)


def _manual_gates(facts: Facts) -> Iterator[Observation]:
    gates, history = facts.plan.gates, facts.history.value
    if gates.owner:
        yield passed(f"each phase is advanced by {gates.owner}")
    else:
        yield failed("nobody is named who advances the release", "add gates.owner to the plan")
    if gates.wait_limit is None:
        yield failed("a release may wait for a person for ever", "add gates.wait_limit to the plan")
    elif history is None or history.waiting_since is None:
        yield passed(f"waits for a person for at most {human_duration(gates.wait_limit)}")
    else:
        waited = max(0.0, facts.now - history.waiting_since)
        told = f"it has been waiting for {human_duration(waited)}, of {human_duration(gates.wait_limit)} at most"
        late = waited > gates.wait_limit
        yield failed(told, f"ask {gates.owner or 'its owner'}: advance or roll back") if late else passed(told)


def _version_control(facts: Facts) -> Iterator[Observation]:
    file = facts.file.value
    if file is None:
        yield facts.file.failure
        return
    match file.state:
        case "committed":
            yield passed(f"the plan is in version control, revision {file.revision}")
        case "changed":
            yield failed("the plan differs from what is committed", "commit it: what runs must be what was reviewed")
        case "untracked":
            yield failed("the plan is in a repository, but not committed", "git add and commit it")
        case _:
            yield failed("the plan is in no version control", "keep it in a repository, beside the code it releases")


def _a_persons_eye(plan: BasePlan) -> Iterator[Observation]:
    watched = steps_that_watch(plan)
    if not watched:
        yield passed("every gate is judged by the agent; no step waits for an eye on a graph")
    elif watches(plan):
        yield passed(f"{', '.join(watched)}: the guard watches")
    else:
        yield failed(
            f"{', '.join(watched)}: no guard rule, so only a person who looks would see errors or latency",
            "add guard rules with a limit to the plan",
        )


PITFALLS = (
    Rule("breaking-migration", "a breaking migration in a strategy that cannot bear it", breaking_migration),
    Rule("sticky-sessions", "sticky sessions", sticky_sessions),
    Rule("probes", "probes that say nothing, endings that cut off", probes.probes),
    Rule("leaking-flags", "flags that leak", leaking_flags),
    Rule("rollback-rehearsed", "a rollback that was never rehearsed", unrehearsed_rollback),
    Rule("dns-ttl", "slow DNS", slow_dns),
    Rule("fragile-steps", "fragile steps", fragile_steps),
)


def look_for_pitfalls(facts: Facts) -> tuple[Finding, ...]:
    return apply(PITFALLS, facts)
