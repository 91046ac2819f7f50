"""The doctor's rules: what each needs to say pass, and what makes it say anything else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.schema_change import make_plan
from zdd_tui.model.doctor import CHECKLIST, PITFALLS, DoctorFacts, Fact, Finding, examine_facts
from zdd_tui.model.doctor.facts import (
    DnsFacts,
    Evidence,
    FileFacts,
    MigrationFacts,
    OldSideQuery,
    PreStop,
    QueryFacts,
    ReleaseHistory,
    RollbackRecord,
    TrafficFacts,
    WorkloadFacts,
)
from zdd_tui.model.doctor.workload import STICKY_ANNOTATIONS, extract_traffic_facts, extract_workload_facts
from zdd_tui.model.plan.registry import PLAN_CLASSES
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.sql import redact_query

NOW = 1_800_000_000.0
DAY = 86400.0
HASH = "a" * 64
GUARD = {
    "rules": [
        {"name": "errors", "metric": "error-rate", "limit": "1%", "window": "30s", "for": "5s", "action": "rollback"}
    ]
}
IMAGES = ("shop/users-api:2", "shop/users-api:3", "shop/users-api:1")
WORKLOAD = WorkloadFacts(
    image="shop/users-api:1",
    startup="GET http/ready",
    readiness="GET http/ready",
    liveness="GET http/health",
    pre_stop=PreStop("sleep 5s", 5.0),
    grace=30.0,
    drain=5.0,
)
TRIALS = tuple(
    Evidence(point, "trial", "pass", "tried", "demo@here", NOW - 60, HASH, image)
    for point in ("readiness", "shutdown")
    for image in IMAGES
)
ANSWERS = tuple(
    Evidence(point, "person", "pass", "I know", "ana@bastion", NOW - 60, HASH) for point in ("flags", "sessions")
)


def good() -> DoctorFacts:
    """Facts by which everything passes."""
    plan = make_plan(
        flags={"owner": "team users", "expires": "2027-06-01"},
        gates={"owner": "ana", "wait_limit": "1h"},
        guard=GUARD,
        kubernetes={"deployment": "users-api", "images": {"v2": IMAGES[0], "v3": IMAGES[1]}},
    )
    return DoctorFacts(
        plan,
        HASH,
        NOW,
        workload=Fact(WORKLOAD),
        traffic=Fact(TrafficFacts("users-api", "None", (), 1)),
        queries=Fact(QueryFacts(())),
        history=Fact(
            ReleaseHistory(rehearsals=(RollbackRecord(HASH, NOW - 60, "pass", 100, 1.0),), evidence=(*TRIALS, *ANSWERS))
        ),
        flags=Fact({"w": None, "r": None}),
        names=Fact(()),
        file=Fact(FileFacts("committed", "abc1234")),
        refusals=Fact(()),
    )


def found(facts: DoctorFacts, name: str) -> Finding:
    report = examine_facts(facts)
    return next(each for each in (*report.pitfalls, *report.checklist) if each.id == name)


def with_history(facts: DoctorFacts, **changes: Any) -> DoctorFacts:
    assert facts.history.value is not None
    return replace(facts, history=Fact(replace(facts.history.value, **changes)))


def with_workload(facts: DoctorFacts, **changes: Any) -> DoctorFacts:
    return replace(facts, workload=Fact(replace(WORKLOAD, **changes)))


def with_plan(facts: DoctorFacts, **changes: Any) -> DoctorFacts:
    return replace(facts, plan=facts.plan.model_copy(update=changes))


def gates(facts: DoctorFacts, **changes: Any) -> DoctorFacts:
    return with_plan(facts, gates=facts.plan.gates.model_copy(update=changes))


def test_everything_can_pass() -> None:
    report = examine_facts(good())
    assert len(report.pitfalls) == 7
    assert len(report.checklist) == 8
    wrong = [
        (each.id, each.deciding_observation) for each in (*report.pitfalls, *report.checklist) if each.verdict != "pass"
    ]
    assert not wrong


def test_facts_that_were_not_read_are_unknown_with_the_reason() -> None:
    blind: Fact[Any] = Fact(None, "the server does not respond", "check the VPN")
    facts = replace(
        good(),
        workload=blind,
        traffic=blind,
        queries=blind,
        history=blind,
        flags=blind,
        names=blind,
        file=blind,
        refusals=blind,
    )
    facts = with_plan(facts, dns=("shop.example",))
    report = examine_facts(facts)
    for finding in report.pitfalls:
        assert finding.verdict is Verdict.UNKNOWN, finding
        assert finding.deciding_observation.text == "the server does not respond"
        assert finding.deciding_observation.hint == "check the VPN"
    assert {finding.id for finding in report.checklist if finding.verdict is Verdict.PASS} == {"triggers"}
    assert not any(finding.verdict is Verdict.FAIL for finding in report.checklist)


AFTER_CUTOVER: Callable[[DoctorFacts], DoctorFacts] = lambda facts: with_history(facts, cutover_at=NOW - 60)  # noqa: E731
LIVE = OldSideQuery("SELECT first_name FROM users", "called 3 times within 2 s")
OLD = OldSideQuery("SELECT first_name FROM users", "")

CASES: list[tuple[str, Callable[[DoctorFacts], DoctorFacts], str, Verdict, str]] = [
    (
        "old queries before the cutover",
        lambda facts: replace(facts, queries=Fact(QueryFacts((LIVE,)))),
        "breaking-migration",
        Verdict.PASS,
        "1 query does",
    ),
    (
        "old queries after it",
        lambda facts: replace(AFTER_CUTOVER(facts), queries=Fact(QueryFacts((LIVE, OLD)))),
        "breaking-migration",
        Verdict.FAIL,
        "after the cutover: called 3 times within 2 s: SELECT first_name",
    ),
    (
        "entries that may be history",
        lambda facts: replace(AFTER_CUTOVER(facts), queries=Fact(QueryFacts((OLD,)))),
        "breaking-migration",
        Verdict.INCONCLUSIVE,
        "none was called during the check",
    ),
    (
        "no pg_stat_statements",
        lambda facts: replace(
            AFTER_CUTOVER(facts), queries=Fact(QueryFacts((), (("it is not installed", "install it"),)))
        ),
        "breaking-migration",
        Verdict.UNKNOWN,
        "it is not installed",
    ),
    (
        "sessionAffinity",
        lambda facts: replace(facts, traffic=Fact(TrafficFacts("users-api", "ClientIP", (), 0))),
        "sticky-sessions",
        Verdict.FAIL,
        "service/users-api: sessionAffinity ClientIP",
    ),
    (
        "an ingress with a cookie",
        lambda facts: replace(facts, traffic=Fact(TrafficFacts("users-api", "None", ("ingress/a: b=cookie",), 1))),
        "sticky-sessions",
        Verdict.FAIL,
        "ingress/a: b=cookie",
    ),
    (
        "sessions in memory",
        lambda facts: with_workload(facts, session_hints=("env SESSION_STORE=memory",)),
        "sticky-sessions",
        Verdict.INCONCLUSIVE,
        "env SESSION_STORE=memory",
    ),
    ("no readiness", lambda facts: with_workload(facts, readiness=""), "probes", Verdict.FAIL, "no readinessProbe"),
    ("no liveness", lambda facts: with_workload(facts, liveness=""), "probes", Verdict.FAIL, "no livenessProbe"),
    ("no startup", lambda facts: with_workload(facts, startup=""), "probes", Verdict.FAIL, "no startupProbe"),
    (
        "both the same",
        lambda facts: with_workload(facts, liveness=WORKLOAD.readiness),
        "probes",
        Verdict.FAIL,
        "are the same, GET http/ready",
    ),
    ("no preStop", lambda facts: with_workload(facts, pre_stop=None), "probes", Verdict.FAIL, "no preStop"),
    (
        "a grace period that is as long as what it must hold",
        lambda facts: with_workload(facts, grace=10.0),
        "probes",
        Verdict.FAIL,
        "preStop 5 s and drain 5 s in a grace period of 10 s",
    ),
    (
        "unknown drain time",
        lambda facts: with_workload(facts, drain=None),
        "probes",
        Verdict.INCONCLUSIVE,
        "the drain time of the application is unknown",
    ),
    (
        "unknown preStop time",
        lambda facts: with_workload(facts, pre_stop=PreStop("exec /drain.sh", None)),
        "probes",
        Verdict.INCONCLUSIVE,
        "the duration of preStop is unknown",
    ),
    (
        "an image that was not tried",
        lambda facts: with_workload(facts, image="shop/users-api:0"),
        "probes",
        Verdict.INCONCLUSIVE,
        "not tested with shop/users-api:0",
    ),
    (
        "a readiness that checks nothing",
        lambda facts: with_history(
            facts,
            evidence=(*TRIALS, replace(TRIALS[0], verdict="fail", text="/ready said 200", at=NOW)),
        ),
        "probes",
        Verdict.FAIL,
        "tried with shop/users-api:2: /ready said 200",
    ),
    (
        "a flag without a step",
        lambda facts: replace(facts, flags=Fact({"w": "true", "r": None})),
        "leaking-flags",
        Verdict.UNKNOWN,
        "its age cannot be proven",
    ),
    (
        "a flag that has decided",
        lambda facts: with_history(
            replace(facts, flags=Fact({"w": "true", "r": None})), flag_set_at={"w": NOW - 31 * DAY}
        ),
        "leaking-flags",
        Verdict.FAIL,
        "w: 'true' for 31 days",
    ),
    (
        "a flag of a release that has ended",
        lambda facts: with_history(
            replace(facts, flags=Fact({"w": "true", "r": None})), ended_flags={"w": "release x (done)"}
        ),
        "leaking-flags",
        Verdict.FAIL,
        "w: left behind by release x (done)",
    ),
    ("never rehearsed", lambda facts: with_history(facts, rehearsals=()), "rollback-rehearsed", Verdict.FAIL, "never"),
    (
        "another version was rehearsed",
        lambda facts: with_history(facts, rehearsals=(RollbackRecord("b" * 64, NOW - 60, "pass"),)),
        "rollback-rehearsed",
        Verdict.FAIL,
        "for another version of the plan (bbbbbbbb)",
    ),
    (
        "a rehearsal that failed after one that passed",
        lambda facts: with_history(
            facts, rehearsals=(RollbackRecord(HASH, NOW - 90, "pass"), RollbackRecord(HASH, NOW - 60, "fail"))
        ),
        "rollback-rehearsed",
        Verdict.FAIL,
        "on an embedded server: fail",
    ),
    (
        "a long TTL",
        lambda facts: replace(with_plan(facts, dns=("a.example",)), names=Fact((DnsFacts("a.example", 61, True),))),
        "dns-ttl",
        Verdict.FAIL,
        "a.example: TTL 61 s",
    ),
    (
        "a TTL that is good enough",
        lambda facts: replace(with_plan(facts, dns=("a.example",)), names=Fact((DnsFacts("a.example", 60, True),))),
        "dns-ttl",
        Verdict.PASS,
        "a.example: TTL 60 s",
    ),
    (
        "what is left of a TTL in a cache",
        lambda facts: replace(with_plan(facts, dns=("a.example",)), names=Fact((DnsFacts("a.example", 7),))),
        "dns-ttl",
        Verdict.INCONCLUSIVE,
        "7 s left in a cache",
    ),
    (
        "a name that is not there",
        lambda facts: replace(
            with_plan(facts, dns=("a.example",)), names=Fact((DnsFacts("a.example", None, problem="NXDOMAIN"),))
        ),
        "dns-ttl",
        Verdict.UNKNOWN,
        "a.example: NXDOMAIN",
    ),
    ("no owner", lambda facts: gates(facts, owner=None), "fragile-steps", Verdict.FAIL, "no owner is named"),
    ("no limit", lambda facts: gates(facts, wait_limit=None), "fragile-steps", Verdict.FAIL, "without limit"),
    (
        "a release that waits too long",
        lambda facts: with_history(facts, waiting_since=NOW - 7200),
        "fragile-steps",
        Verdict.FAIL,
        "waiting for 2h00m, of 1h00m at most",
    ),
    (
        "a release that waits",
        lambda facts: with_history(facts, waiting_since=NOW - 600),
        "fragile-steps",
        Verdict.PASS,
        "",
    ),
    (
        "a plan that was changed",
        lambda facts: replace(facts, file=Fact(FileFacts("changed", "abc1234"))),
        "fragile-steps",
        Verdict.FAIL,
        "differs from what is committed",
    ),
    (
        "the tag latest",
        lambda facts: with_workload(facts, image="registry:5000/shop/users-api:latest"),
        "fragile-steps",
        Verdict.FAIL,
        "has the tag latest",
    ),
    (
        "no tag behind a port",
        lambda facts: with_workload(facts, image="registry:5000/shop/users-api"),
        "fragile-steps",
        Verdict.FAIL,
        "has no tag",
    ),
    (
        "a digest",
        lambda facts: with_workload(facts, image="registry:5000/shop/users-api@sha256:" + "0" * 64),
        "fragile-steps",
        Verdict.PASS,
        "",
    ),
    (
        "refused by check",
        lambda facts: replace(facts, refusals=Fact((("change.expand: DROP TABLE is not additive", "write ADD"),))),
        "breaking-migration",
        Verdict.FAIL,
        "change.expand: DROP TABLE",
    ),
    (
        "no guard",
        lambda facts: with_plan(facts, guard=None),
        "fragile-steps",
        Verdict.FAIL,
        "soak: no guard rule",
    ),
    (
        "no guard, no trigger",
        lambda facts: with_plan(facts, guard=None),
        "triggers",
        Verdict.FAIL,
        "no rule of the guard",
    ),
    (
        "a part of the volume",
        lambda facts: with_history(facts, rehearsals=(RollbackRecord(HASH, NOW, "pass", 100, 0.1, "a copy"),)),
        "volume",
        Verdict.INCONCLUSIVE,
        "rehearsed on a copy with 100 rows, 10% of production's volume",
    ),
]


@pytest.mark.parametrize(
    ("reason", "change", "name", "verdict", "text"), CASES, ids=[f"{case[2]}: {case[0]}" for case in CASES]
)
def test_rule(
    reason: str, change: Callable[[DoctorFacts], DoctorFacts], name: str, verdict: Verdict, text: str
) -> None:
    finding = found(change(good()), name)
    assert finding.verdict is verdict, (reason, finding)
    telling = [each for each in finding.observations if each.verdict is verdict]
    assert any(text in each.text for each in telling), (reason, telling)
    if verdict is Verdict.FAIL:
        assert all(each.hint for each in telling), "every failure has a hint"


def test_an_answer_counts_for_its_version_of_the_plan_and_carries_name_and_date() -> None:
    assert found(good(), "sessions").deciding_observation.text == "ana@bastion on 2027-01-15: I know"
    other = with_history(good(), evidence=(*TRIALS, replace(ANSWERS[1], plan_hash="b" * 64)))
    finding = found(other, "sessions")
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "answered for another version of the plan, ana@bastion" in finding.deciding_observation.text
    requested = found(with_history(good(), evidence=TRIALS), "sessions")
    assert requested.deciding_observation.hint.startswith("zdd doctor PLAN --answer sessions --reason TEXT")


def test_no_answer_stands_against_evidence() -> None:
    sticky = replace(good(), traffic=Fact(TrafficFacts("users-api", "ClientIP", (), 0)))
    finding = found(sticky, "sessions")
    assert finding.verdict is Verdict.FAIL
    assert not any("ana@bastion" in each.text for each in finding.observations)
    blind = replace(good(), traffic=Fact(None, "not allowed"))
    assert found(blind, "sessions").verdict is Verdict.UNKNOWN


OTHERS: dict[str, dict[str, Any]] = {
    "rolling": {},
    "blue-green": {"blue_green": {"smoke": [{"path": "/ready"}]}},
    "canary": {"canary": {"by": "flag", "flag": {"url": "redis://x", "key": "w", "owner": "ana"}}},
    "dark-launch": {
        "flags": {"url": "redis://x", "shadow": "s", "read": "w", "owner": "ana"},
        "dark": {"path": "names"},
    },
}


@pytest.mark.parametrize("strategy", OTHERS)
def test_every_strategy_is_examined(strategy: str) -> None:
    document = {
        "name": "users",
        "strategy": strategy,
        "database": {"dsn": "postgresql://x@y/z"},
        "kubernetes": {"deployment": "users-api", "image": "shop/users-api:2"},
    }
    plan = PLAN_CLASSES[strategy].model_validate(document | OTHERS[strategy])
    facts = replace(good(), plan=plan, migrations=Fact(MigrationFacts()))
    assert found(facts, "breaking-migration").verdict is Verdict.PASS
    breaks = MigrationFacts(2, (("m.sql:3: ALTER TABLE t DROP a", "the old pods read it"),), "zdd advise --sql m.sql")
    message = found(replace(facts, migrations=Fact(breaks)), "breaking-migration")
    assert (message.verdict, message.deciding_observation.hint[-22:]) == (Verdict.FAIL, "zdd advise --sql m.sql")
    blind = replace(facts, migrations=Fact(None, "there is no file m.sql", "check the path"))
    assert found(blind, "breaking-migration").verdict is Verdict.UNKNOWN
    assert found(facts, "probes").verdict is Verdict.PASS, "the new image was tried, and V3 is none of it"
    flags = found(facts, "leaking-flags")
    if plan.flag_roles:
        assert any(each.text.endswith("owner ana") for each in flags.observations)
        assert any(each.text.endswith("no expiry") for each in flags.observations)
    else:
        assert flags.verdict is Verdict.PASS
    fragile = [each.text for each in found(facts, "fragile-steps").observations]
    assert "image new: shop/users-api:2" in fragile
    assert any("no guard rule" in text for text in fragile), "every strategy has its soak"


def test_ids_are_unique() -> None:
    names = [each.id for each in (*PITFALLS, *CHECKLIST)]
    assert len(set(names)) == len(names) == 15


# --- what is read ------------------------------------------------------------------------------------------------


def raw(container: dict[str, Any], **pod: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "a:1"} | container]} | pod}}}


def test_two_probes_of_one_question_read_the_same() -> None:
    facts = extract_workload_facts(
        raw(
            {
                "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
                "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 9},
                "startupProbe": {"tcpSocket": {"port": "http"}},
                "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "sleep 7 && nginx -s quit"]}}},
                "env": [{"name": "DRAIN_SECONDS", "value": "2.5"}],
            }
        ),
        "app",
        drain_seconds=None,
    )
    assert facts is not None
    assert facts.readiness == facts.liveness == "GET 80/"
    assert facts.startup == "TCP http"
    assert facts.pre_stop == PreStop("exec sh -c sleep 7 && nginx -s quit", 7.0)
    assert (facts.grace, facts.drain) == (30.0, 2.5)


@pytest.mark.parametrize("junk", [None, [], "x", {"spec": 3}, {"spec": {"template": {"spec": {"containers": "x"}}}}])
def test_a_deployment_that_is_none_has_no_container(junk: object) -> None:
    assert extract_workload_facts(junk, "app", drain_seconds=None) is None


def test_hints_of_sessions_in_memory() -> None:
    facts = extract_workload_facts(
        raw(
            {
                "env": [{"name": "SESSION_STORE", "value": "in-memory"}, {"name": "SESSION_TTL", "value": "30"}],
                "volumeMounts": [
                    {"name": "scratch", "mountPath": "/var/lib/php/sessions"},
                    {"name": "x", "mountPath": "/sessions"},
                ],
            },
            volumes=[{"name": "scratch", "emptyDir": {}}, {"name": "x", "persistentVolumeClaim": {}}],
        ),
        "app",
        drain_seconds=None,
    )
    assert facts is not None
    assert facts.session_hints == ("env SESSION_STORE=in-memory", "emptyDir at /var/lib/php/sessions")


def ingress(service: str, **annotations: str) -> dict[str, Any]:
    path = {"path": "/", "backend": {"service": {"name": service, "port": {"number": 80}}}}
    return {
        "metadata": {"name": "shop", "annotations": annotations},
        "spec": {"rules": [{"http": {"paths": [path]}}]},
    }


SERVICE = {"metadata": {"name": "users-api"}, "spec": {}}
VALUES = {
    "nginx.ingress.kubernetes.io/affinity": "cookie",
    "haproxy-ingress.github.io/affinity": "cookie",
    "ingress.kubernetes.io/affinity": "cookie",
    "nginx.org/lb-method": "ip_hash",
    "haproxy.org/load-balance": "source",
    "alb.ingress.kubernetes.io/target-group-attributes": "a=b,stickiness.enabled=true,c=d",
    "alb.ingress.kubernetes.io/actions.*": '{"targetGroupStickinessConfig":{"enabled":true}}',
    "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes": "stickiness.enabled=true",
    "service.beta.kubernetes.io/do-loadbalancer-sticky-sessions-type": "cookies",
}


@pytest.mark.parametrize("name", [name for name, _ in STICKY_ANNOTATIONS])
def test_every_annotation_is_found_and_only_when_it_is_set(name: str) -> None:
    value = VALUES.get(name, "true")
    key = name.replace("*", "shop")
    assert extract_traffic_facts(SERVICE, [ingress("users-api", **{key: value})], []).sticky
    assert not extract_traffic_facts(SERVICE, [ingress("users-api", **{"not-" + key: value})], []).sticky
    assert not extract_traffic_facts(SERVICE, [ingress("another", **{key: value})], []).sticky


def test_a_route_with_session_persistence_is_sticky() -> None:
    rule = {"backendRefs": [{"name": "users-api", "port": 80}]}
    route = {"metadata": {"name": "shop"}, "spec": {"rules": [rule | {"sessionPersistence": {"type": "Cookie"}}]}}
    facts = extract_traffic_facts(SERVICE, [], [route])
    assert (facts.sticky, facts.routes) == (("httproute/shop: sessionPersistence",), 1)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT *\n FROM users  WHERE name = 'It''s Ana'", "SELECT * FROM users WHERE name = '…'"),
        ("WHERE a = E'x\\'y' AND b = 42.5 AND c = $1", "WHERE a = '…' AND b = … AND c = $1"),
        ("WHERE a = $$secret$$ AND t3.b = $x$ a 'b' $x$", "WHERE a = '…' AND t3.b = '…'"),
        ("WHERE a = 'cut off in the mid", "WHERE a = '…'"),
        ("SELECT /* for ana */ 1 -- 42", "SELECT …"),
    ],
)
def test_evidence_holds_no_personal_data(query: str, shown: str) -> None:
    assert redact_query(query) == shown
