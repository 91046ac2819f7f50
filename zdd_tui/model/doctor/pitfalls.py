"""The seven pitfalls: one function each with what it reads, and the table at the end."""

from collections.abc import Iterator
from datetime import UTC, datetime

from zdd_tui.model.doctor.facts import (
    DnsFacts,
    DoctorFacts,
    DoctorRule,
    Evidence,
    Finding,
    Observation,
    WorkloadFacts,
    failed,
    inconclusive,
    passed,
    unknown,
)
from zdd_tui.model.duration import format_duration
from zdd_tui.model.plan.base import BasePlan, Plan
from zdd_tui.model.plan.strategies import SingleImagePlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.strategies import build_strategy

MAX_TTL = 60
"""Seconds: clients may use the old address for so long after a switch."""

FLAG_DAYS = 30
"""A flag that kept one value for so long is settled: remove it."""

DAY = 86400.0
_MAX_SHOWN = 4

REHEARSE = "zdd rehearse PLAN"

READINESS_TRIAL = "readiness"
"""Id of the trial: a process was probed with its database away."""

SHUTDOWN_TRIAL = "shutdown"
"""Id of the trial: a process was sent SIGTERM."""


# --- 1 ------------------------------------------------------------------------------------------------------------


def check_breaking_migration(facts: DoctorFacts) -> Iterator[Observation]:
    """Only expand/contract can make a breaking change of the schema, and only after the last query of the old side."""
    plan = facts.plan
    if not isinstance(plan, Plan):
        yield from _check_shipped_sql(facts)
        return
    yield from _check_ddl(facts)
    history, queries = facts.history.require(), facts.queries.require()
    old = ", ".join(sorted(plan.change.down)) if plan.change.into is None else str(plan.change.table)
    proven = [query for query in queries.queries if query.evidence]
    if history.cutover_at is None:
        yield passed(f"before the cutover queries may use {old}: {_format_count(len(queries.queries))}")
        return
    for query in proven[:_MAX_SHOWN]:
        yield failed(
            f"after the cutover: {query.evidence}: {query.text}",
            f"find who sends it and move it off {old} before contract; until then `zdd rollback` is possible",
        )
    if len(proven) > _MAX_SHOWN:
        yield failed(f"and {len(proven) - _MAX_SHOWN} more", "see pg_stat_statements")
    for reason, hint in queries.unavailable:
        yield unknown(reason, hint)
    if not proven and (stale := len(queries.queries)):
        yield inconclusive(
            f"{stale} older entr{'y' if stale == 1 else 'ies'} in pg_stat_statements name{'s' if stale == 1 else ''}"
            f" {old}; none was called during the check: {queries.queries[0].text}",
            "check again later: unused entries stay until pg_stat_statements_reset()",
        )
    elif not proven and not queries.unavailable:
        yield passed(f"after the cutover: no query names {old}")


def _check_ddl(facts: DoctorFacts) -> Iterator[Observation]:
    """The DDL of expand/contract, as `zdd check --offline` checks it."""
    if facts.refusals.value is None:
        yield facts.refusals.as_unknown
        return
    for title, hint in facts.refusals.value:
        yield failed(title, hint)
    if not facts.refusals.value:
        yield passed("the new schema is added beside the old one, and the DDL is additive")


def _check_shipped_sql(facts: DoctorFacts) -> Iterator[Observation]:
    """The SQL beside a release that leaves the schema alone."""
    shipped = facts.migrations.require()
    for where, why in shipped.breaking[:_MAX_SHOWN]:
        yield failed(f"{where}: {why}", f"make it an expand/contract release: {shipped.advice}")
    if len(shipped.breaking) > _MAX_SHOWN:
        yield failed(f"and {len(shipped.breaking) - _MAX_SHOWN} more", f"see all: {shipped.advice}")
    if not shipped.statements:
        yield passed(f"{facts.plan.strategy}: the plan names no SQL that ships with it (`migrations`)")
    elif not shipped.breaking:
        yield passed(f"{facts.plan.strategy}: running code survives the SQL that ships with it")


def _format_count(count: int) -> str:
    return f"{count} quer{'y does' if count == 1 else 'ies do'}" if count else "no query was seen that does"


# --- 2 ------------------------------------------------------------------------------------------------------------


def check_sticky_sessions(facts: DoctorFacts) -> Iterator[Observation]:
    """A client that is bound to a pod loses its session with the pod."""
    traffic, workload = facts.traffic.value, facts.workload.value
    if traffic is None:
        yield facts.traffic.as_unknown
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
        for reason in traffic.unavailable:
            yield unknown(reason, "grant list on it, or check it by hand")
    if workload is None:
        yield facts.workload.as_unknown
    elif workload.session_hints:
        for hint in workload.session_hints:
            yield inconclusive(f"{hint}: sessions may live in the process", "keep them outside of the pods")
    else:
        yield passed("nothing in env or volumes hints at sessions in memory")


# --- 3 ------------------------------------------------------------------------------------------------------------


def check_probes(facts: DoctorFacts) -> Iterator[Observation]:
    """What the Deployment declares, and what was tried with its images."""
    workload = facts.workload.require()
    yield from check_declared_probes(workload)
    yield from check_trials(facts, READINESS_TRIAL, "readiness without its database")
    yield from check_shutdown(workload)


def check_declared_probes(workload: WorkloadFacts) -> Iterator[Observation]:
    if not workload.readiness:
        yield failed("no readinessProbe: a pod gets requests before it can serve them", "add one that calls /ready")
    if not workload.liveness:
        yield failed(
            "no livenessProbe: a process that hangs is not restarted", "add one that calls /health, and no dependency"
        )
    if workload.readiness and workload.liveness:
        if workload.readiness == workload.liveness:
            yield failed(
                f"readiness and liveness are the same, {workload.readiness}: a dependency that is down restarts pods",
                "let readiness call /ready, which checks dependencies, and liveness /health, which checks none",
            )
        else:
            yield passed(f"readiness calls {workload.readiness}, liveness {workload.liveness}")
    if workload.startup:
        yield passed(f"startup calls {workload.startup}")
    else:
        yield failed(
            "no startupProbe: a slow start is killed by liveness, or liveness must allow for it at all times", "add one"
        )


def check_shutdown(workload: WorkloadFacts) -> Iterator[Observation]:
    """preStop, drain and the grace period that must hold them."""
    hook, grace = workload.pre_stop, format_duration(workload.grace)
    if hook is None:
        yield failed(
            "no preStop: the pod stops before endpoints are updated", "add lifecycle.preStop.sleep of a few seconds"
        )
        before: float | None = 0.0
    else:
        yield passed(f"preStop: {hook.action}")
        before = hook.seconds
    if before is None:
        yield inconclusive(f"the duration of preStop is unknown; the grace period is {grace}", "use preStop.sleep")
        return
    if workload.drain is None:
        if before >= workload.grace:
            yield failed(f"preStop takes {before:g} s, the grace period is {grace}", "raise the grace period")
            return
        yield inconclusive(
            f"the drain time of the application is unknown; after preStop it has {workload.grace - before:g} s",
            "set kubernetes.drain in the plan",
        )
        return
    text = f"preStop {before:g} s and drain {workload.drain:g} s in a grace period of {workload.grace:g} s"
    if before + workload.drain < workload.grace:
        yield passed(text)
    else:
        yield failed(f"{text}: the last requests are cut off", "raise terminationGracePeriodSeconds")


def check_trials(facts: DoctorFacts, item_id: str, description: str) -> Iterator[Observation]:
    """The newest trial of each image; only a trial proves what a process does."""
    history = facts.history.value
    trials: dict[str, Evidence] = {}
    for evidence in history.evidence if history else ():
        if evidence.source == "trial" and evidence.item_id == item_id:
            trials[evidence.subject] = max(evidence, trials.get(evidence.subject, evidence), key=lambda each: each.at)
    untried: list[str] = []
    for _, image in list_images(facts.plan, facts.workload.value):
        if image not in trials:
            untried.append(image)
            continue
        trial = trials[image]
        text = f"{description}, tried with {image}: {trial.text}"
        if trial.verdict == Verdict.PASS:
            yield passed(text)
        else:
            yield failed(text, "fix the application; zdd_tui.service does this part")
    if untried:
        yield inconclusive(f"{description} was not tested with {', '.join(untried)}", "try it in a test environment")


# --- 4 ------------------------------------------------------------------------------------------------------------


def check_flag_lifetime(facts: DoctorFacts) -> Iterator[Observation]:
    """A flag without owner and end stays for ever, and with it both of its paths."""
    plan = facts.plan
    if not plan.flag_roles:
        yield passed(f"{plan.strategy}: the plan has no flags")
        return
    section = plan.flag_section
    owner, expires = (section.owner, section.expires) if section else (None, None)
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
    yield from _check_flag_ages(facts)


def _check_flag_ages(facts: DoctorFacts) -> Iterator[Observation]:
    stored, history = facts.flags.require(), facts.history.require()
    for key in facts.plan.flag_roles:
        value, since = stored.get(key), history.flag_set_at.get(key)
        if value is None:
            yield passed(f"{key}: not set in Redis")
        elif key in history.ended_flags:
            continue  # reported below
        elif since is None:
            yield unknown(
                f"{key}: {value!r} in Redis, and no step of a release has set it: its age cannot be proven",
                "let the release set it, or delete it if it is a leftover",
            )
        elif facts.now - since > FLAG_DAYS * DAY:
            days = int((facts.now - since) / DAY)
            yield failed(f"{key}: {value!r} for {days} days, by the audit", "its value is settled: finish the release")
        else:
            yield passed(f"{key}: {value!r} since {format_duration(max(0.0, facts.now - since))}, by the audit")
    left = {key: name for key, name in history.ended_flags.items() if stored.get(key) is not None}
    for key, name in left.items():
        yield failed(f"{key}: left behind by {name}, which has ended", f"DEL ff:{key}, when no code reads it")


# --- 5 ------------------------------------------------------------------------------------------------------------


def check_rollback_rehearsed(facts: DoctorFacts) -> Iterator[Observation]:
    """A rollback that was never run is not proven: was this version of the plan rehearsed forward and back?"""
    history = facts.history.require()
    newest = max(history.rehearsals, key=lambda each: (each.plan_hash == facts.plan_hash, each.at), default=None)
    if newest is None:
        yield failed("never rehearsed", REHEARSE)
        return
    age = format_duration(max(0.0, facts.now - newest.at))
    if newest.plan_hash != facts.plan_hash:
        other = f"for another version of the plan ({newest.plan_hash[:8]})"
        yield failed(f"rehearsed {age} ago, but {other}", REHEARSE)
    elif newest.verdict == Verdict.PASS:
        yield passed(f"this version of the plan was rolled back on {newest.where} {age} ago")
    else:
        yield failed(
            f"the rehearsal of {age} ago on {newest.where}: {newest.verdict}",
            "read its report, fix the cause, run zdd rehearse PLAN",
        )


# --- 6 ------------------------------------------------------------------------------------------------------------


def check_dns_ttl(facts: DoctorFacts) -> Iterator[Observation]:
    """Where DNS does the switch, its TTL is how long the old side still gets requests."""
    if not facts.plan.dns:
        yield passed("the plan names no `dns`: nothing is switched by DNS")
        return
    for name in facts.names.require():
        yield _check_name(name)


def _check_name(facts: DnsFacts) -> Observation:
    hint = f"lower its TTL to {MAX_TTL} s at least one old TTL before the release"
    if facts.ttl is None:
        return unknown(f"{facts.name}: {facts.problem}", "check the name, and that this machine reaches a resolver")
    if facts.ttl > MAX_TTL:
        return failed(f"{facts.name}: TTL {facts.ttl} s", hint)
    if not facts.authoritative:
        return inconclusive(
            f"{facts.name}: {facts.ttl} s left in a cache; the zone's own server was not reached",
            "run this where the zone's name servers can be reached",
        )
    return passed(f"{facts.name}: TTL {facts.ttl} s")


# --- 7 ------------------------------------------------------------------------------------------------------------


def check_manual_dependencies(facts: DoctorFacts) -> Iterator[Observation]:
    """What depends on one person, on one machine, or on a tag that can move."""
    yield from _check_manual_gates(facts)
    yield from _check_version_control(facts)
    for what, image in list_images(facts.plan, facts.workload.value):
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" in image or (tag and tag != "latest"):
            yield passed(f"image {what}: {image}")
        else:
            yield failed(
                f"image {what}: {image} has {'the tag latest' if tag else 'no tag'}",
                "name a version or a digest: a rollback must bring back the same image",
            )
    yield from _check_unguarded_soaks(facts.plan)


def list_images(plan: BasePlan, workload: WorkloadFacts | None) -> Iterator[tuple[str, str]]:
    """The images that are rolled out and the one that runs, each with its role."""
    seen: dict[str, str] = {}
    match plan:
        case Plan():
            seen = {plan.kubernetes.images.v2: "V2", plan.kubernetes.images.v3: "V3"}
        case SingleImagePlan():
            seen = {plan.kubernetes.image: "new"}
    for image, role in seen.items():
        yield role, image
    if workload is not None and workload.image not in seen:
        yield "that runs", workload.image


def _check_manual_gates(facts: DoctorFacts) -> Iterator[Observation]:
    gates, history = facts.plan.gates, facts.history.value
    if gates.owner:
        yield passed(f"each phase is advanced by {gates.owner}")
    else:
        yield failed("no owner is named who advances the release", "add gates.owner to the plan")
    if gates.wait_limit is None:
        yield failed("a release may wait for a person without limit", "add gates.wait_limit to the plan")
    elif history is None or history.waiting_since is None:
        yield passed(f"waits for a person for at most {format_duration(gates.wait_limit)}")
    else:
        waited = max(0.0, facts.now - history.waiting_since)
        text = f"it has been waiting for {format_duration(waited)}, of {format_duration(gates.wait_limit)} at most"
        late = waited > gates.wait_limit
        yield (failed(text, f"ask {gates.owner or 'its owner'}: advance or roll back") if late else passed(text))


def _check_version_control(facts: DoctorFacts) -> Iterator[Observation]:
    file = facts.file.value
    if file is None:
        yield facts.file.as_unknown
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


def _soak_step_labels(plan: BasePlan) -> tuple[str, ...]:
    """Labels of the soak steps, in which metrics must be watched.

    Not those of shadow reads: there the gate compares the new path with the old one.
    """
    steps = build_strategy(plan).steps
    soaks = (step for step in steps if "soak" in (step.name, step.handler))
    return tuple(step.label for step in soaks if not step.name.startswith("soak-shadow"))


def _check_unguarded_soaks(plan: BasePlan) -> Iterator[Observation]:
    watched = _soak_step_labels(plan)
    if not watched:
        yield passed("the agent evaluates every gate; no step needs a person to watch a graph")
    elif plan.guard is not None and plan.guard.closes_gates:
        yield passed(f"{', '.join(watched)}: the guard watches")
    else:
        yield failed(
            f"{', '.join(watched)}: no guard rule, so errors and latency are seen only by a person who watches",
            "add guard rules with a limit to the plan",
        )


PITFALLS = (
    DoctorRule("breaking-migration", "a breaking migration with the wrong strategy", check_breaking_migration),
    DoctorRule("sticky-sessions", "sticky sessions", check_sticky_sessions),
    DoctorRule("probes", "shallow probes, abrupt shutdown", check_probes),
    DoctorRule("leaking-flags", "flags that leak", check_flag_lifetime),
    DoctorRule("rollback-rehearsed", "a rollback that was never rehearsed", check_rollback_rehearsed),
    DoctorRule("dns-ttl", "slow DNS", check_dns_ttl),
    DoctorRule("fragile-steps", "fragile steps", check_manual_dependencies),
)


def check_pitfalls(facts: DoctorFacts) -> tuple[Finding, ...]:
    return tuple(Finding(rule.id, rule.title, tuple(rule.examine(facts))) for rule in PITFALLS)
