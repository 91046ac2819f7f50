"""`zdd doctor` on real servers: what it finds in a cluster, what it keeps of answers, and what it does when blind."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.test_live_source import plan as feed_plan
from tests.dashboard.test_live_source import until
from tests.support.command_line import Ground, ground
from tests.support.store import ANA
from zdd_tui.backends.kubernetes.cluster import STRATEGIC_MERGE_PATCH, Cluster
from zdd_tui.cli.doctor import examine
from zdd_tui.dashboard.live_source import Feeds
from zdd_tui.demo import image_trials as trials
from zdd_tui.demo import manifests
from zdd_tui.demo.environment import Environment, Options
from zdd_tui.model.doctor import Report, examine_facts
from zdd_tui.model.doctor.facts import Facts
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.testbed.servers import PgServer, RedisServer


@pytest.fixture
async def place(tmp_path: Path, pg_dsn: str, redis_url: str) -> AsyncIterator[Ground]:
    async with ground(tmp_path, pg_dsn, redis_url) as made:
        async with Cluster.connect(made.environ["KUBECONFIG"], None, "default") as cluster:
            await cluster.http.json("POST", cluster.path("api/v1", "services"), body=manifests.service())
        yield made


async def report_of(made: Ground, *options: str) -> tuple[int, dict[str, Any]]:
    ended = await made.zdd("doctor", "--json", *options)
    assert not any(secret in ended.said for secret in made.secrets)
    assert ended.err == "", ended.err
    return ended.code, json.loads(ended.out)


def verdicts(report: dict[str, Any], table: str) -> dict[str, str]:
    return {finding["id"]: finding["verdict"] for finding in report[table]}


def evidence(report: dict[str, Any], name: str) -> str:
    found = next(each for each in (*report["pitfalls"], *report["checklist"]) if each["id"] == name)
    return "\n".join(f"{each['verdict']} {each['text']}" for each in found["evidence"])


async def test_the_demos_own_manifests_are_clean(place: Ground) -> None:
    code, report = await report_of(place)
    found = verdicts(report, "pitfalls")
    assert found["breaking-migration"] == "pass", evidence(report, "breaking-migration")
    assert found["sticky-sessions"] == found["leaking-flags"] == found["dns-ttl"] == "pass"
    assert found["probes"] == "inconclusive"
    assert "not tried with" in evidence(report, "probes")
    assert "fail" not in evidence(report, "probes")
    assert found["rollback-rehearsed"] == "fail"
    assert code == 1
    assert await place.fetchval("SELECT to_regnamespace('zdd') IS NULL"), "looking changes nothing"


async def test_what_binds_a_client_to_a_pod_is_found(place: Ground) -> None:
    async with Cluster.connect(place.environ["KUBECONFIG"], None, "default") as cluster:
        service = cluster.path("api/v1", "services", manifests.NAME)
        patch = {"spec": {"sessionAffinity": "ClientIP"}}
        await cluster.http.json("PATCH", service, body=patch, content_type=STRATEGIC_MERGE_PATCH)
        backend = {"service": {"name": manifests.NAME, "port": {"number": 80}}}
        body = {
            "metadata": {"name": "shop", "annotations": {"nginx.ingress.kubernetes.io/affinity": "cookie"}},
            "spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]},
        }
        await cluster.http.json("POST", cluster.path("apis/networking.k8s.io/v1", "ingresses"), body=body)
    _, report = await report_of(place)
    told = evidence(report, "sticky-sessions")
    assert "fail service/users-api: sessionAffinity ClientIP" in told
    assert "fail ingress/shop: nginx.ingress.kubernetes.io/affinity=cookie" in told


async def test_what_only_a_person_knows_is_kept_with_name_and_date(place: Ground) -> None:
    _, report = await report_of(place)
    assert verdicts(report, "checklist")["sessions"] == "inconclusive"
    _, report = await report_of(place, "--answer", "sessions", "--reason", "there are none")
    assert verdicts(report, "checklist")["sessions"] == "pass"
    who = await place.fetchval("SELECT actor || '@' || host || ' on ' || to_char(at, 'YYYY-MM-DD') FROM zdd.evidence")
    assert f"pass {who}: there are none" in evidence(report, "sessions")
    place.rewrite("batch_rows: 1000", "batch_rows: 900")
    _, report = await report_of(place)
    assert verdicts(report, "checklist")["sessions"] == "inconclusive", "it was said of another version"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--answer", "drain", "--reason", "x"), "proven by evidence, and no word stands in for it"),
        (("--answer", "sesions", "--reason", "x"), "did you mean sessions?"),
        (("--answer", "sessions", "--reason", "  "), "no reason was given"),
    ],
)
async def test_an_answer_that_cannot_count_is_refused(place: Ground, options: tuple[str, ...], said: str) -> None:
    ended = await place.zdd("doctor", *options)
    assert ended.code == 1
    assert said in ended.err
    assert await place.fetchval("SELECT to_regnamespace('zdd') IS NULL"), "nothing was changed"


async def test_a_doctor_who_sees_nothing_says_so(place: Ground) -> None:
    blind = place.with_env(
        DATABASE_URL="postgresql://ana:hidden@127.0.0.1:1/shop",
        REDIS_URL="redis://:hidden@127.0.0.1:1/0",
        KUBECONFIG=str(place.folder / "nothing"),
    )
    ended = await blind.zdd("doctor")
    assert "hidden" not in ended.said
    assert "? 2. sticky sessions: unknown" in ended.out
    assert "? 5. a rollback that was never rehearsed: unknown" in ended.out
    assert "127.0.0.1:1" in ended.out
    assert ended.err == ""


async def test_a_plan_in_version_control(place: Ground) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for arguments in (
        ("init", "-q"),
        ("add", "plan.yaml"),
        ("-c", "user.name=ana", "-c", "user.email=ana@shop.example", "commit", "-qm", "plan"),
    ):
        process = await asyncio.create_subprocess_exec("git", "-C", str(place.folder), *arguments)
        assert await process.wait() == 0
    loaded = load_plan(place.plan.read_text(), source=str(place.plan), environ=place.environ)
    report = await examine(loaded)
    fragile = next(each for each in report.pitfalls if each.id == "fragile-steps")
    assert any(each.text.startswith("the plan is in version control") for each in fragile.observations)


async def test_the_demo_tries_what_no_manifest_tells(
    place: Ground, pg: PgServer, redis_instance: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image as a process: it must say no to /ready while its database is away, and end on SIGTERM."""
    (place.folder / "logs").mkdir()
    made = Environment(place.folder, Options(), pg, redis_instance, Path(place.environ["KUBECONFIG"]))
    found = await trials.try_image(made, manifests.image(3))
    assert [(each.point, each.verdict, each.subject) for each in found] == [
        ("readiness", "pass", "shop/users-api:3"),
        ("shutdown", "pass", "shop/users-api:3"),
    ], found
    # An application whose /ready checks nothing, and which hears no signal.
    careless = (
        "import http.server, os, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "class Yes(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers()\n"
        "http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Yes).serve_forever()\n"
    )
    before = manifests.deployment

    def deployment(**options: Any) -> dict[str, Any]:
        body = before(**options)
        pod = body["spec"]["template"]["spec"]
        pod["terminationGracePeriodSeconds"] = 1
        pod["containers"][0]["command"] = [sys.executable, "-c", careless]
        return body

    monkeypatch.setattr(manifests, "deployment", deployment)
    found = await trials.try_image(made, manifests.image(3))
    assert [(each.point, each.verdict, each.text) for each in found] == [
        ("readiness", "fail", "/ready said 200, /health 200"),
        ("shutdown", "fail", "it ran on for 1 s"),
    ]


# --- in the dashboard's thread ------------------------------------------------------------------------------------


async def test_the_feeds_look_when_they_are_asked(pg_dsn: str) -> None:
    made = feed_plan(pg_dsn)
    asked = 0

    async def look() -> Report:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise KeyError("secret")
        return examine_facts(Facts(made, "hash", 0.0))

    feeds = Feeds(made, actor=ANA, examine=look)
    feeds.start(wait_for_screen=0)
    try:
        await until(feeds, lambda board: bool(board.release.error))
        assert (asked, feeds.board().doctor.value) == (0, None), "nobody asked"
        feeds.examine()
        board = await until(feeds, lambda board: board.doctor.value is not None and not board.examining)
        assert board.doctor.value is not None
        assert board.doctor.value.pitfalls[0].verdict in (Verdict.UNKNOWN, Verdict.PASS)
        feeds.examine()
        board = await until(feeds, lambda board: bool(board.doctor.error) and not board.examining)
        assert "KeyError" in board.doctor.error
        assert "secret" not in board.doctor.error
        assert board.doctor.value is not None, "what was found before stays, with its age"
    finally:
        assert await asyncio.to_thread(feeds.stop, 5.0)
