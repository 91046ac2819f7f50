"""A report of the doctor by its own rules, over facts of every kind."""

from tests.support.schema_change import make_plan
from tests.support.states import EPOCH
from zdd_tui.model.doctor import DoctorFacts, Fact, Report, examine_facts
from zdd_tui.model.doctor.facts import (
    DnsFacts,
    Evidence,
    FileFacts,
    OldSideQuery,
    PreStop,
    QueryFacts,
    ReleaseHistory,
    TrafficFacts,
    WorkloadFacts,
)


def report() -> Report:
    """Two pitfalls are clear, the others are not; a person has answered a point."""
    plan = make_plan(
        flags={"owner": "team users", "expires": "2026-11-01"},
        gates={"owner": "ana", "wait_limit": "1h"},
        kubernetes={"deployment": "users-api", "images": {"v2": "shop/users-api:2", "v3": "shop/users-api"}},
    )
    plan = plan.model_copy(update={"dns": ("shop.example",)})
    workload = WorkloadFacts(
        image="shop/users-api:1",
        startup="GET http/ready",
        readiness="GET http/health",
        liveness="GET http/health",
        pre_stop=PreStop("sleep 5s", 5.0),
        grace=30.0,
        drain=30.0,
    )
    traffic = TrafficFacts("users-api", "None", (), 1, ("not allowed to list httproutes in namespace 'shop'",))
    history = ReleaseHistory(
        cutover_at=EPOCH - 600,
        evidence=(
            Evidence("flags", "person", "pass", "reviewed with team users", "ana@bastion", EPOCH - 86400, "0" * 64),
        ),
        flag_set_at={"w": EPOCH - 3600},
    )
    seen = OldSideQuery("SELECT first_name FROM users WHERE id = $1", "called 12 times within 2 s")
    return examine_facts(
        DoctorFacts(
            plan,
            "0" * 64,
            EPOCH,
            workload=Fact(workload),
            traffic=Fact(traffic),
            queries=Fact(QueryFacts((seen,))),
            history=Fact(history),
            flags=Fact({"w": "true", "r": None}),
            names=Fact((DnsFacts("shop.example", 60, True),)),
            file=Fact(FileFacts("committed", "9bb38de")),
            refusals=Fact(()),
        )
    )
