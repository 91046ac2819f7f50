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
from tests.dashboard.test_live_source import wait_for_board
from tests.support.command_line import CliEnvironment, make_environment
from tests.support.store import ANA
from zdd_tui.backends.kubernetes.cluster import STRATEGIC_MERGE_PATCH, Cluster
from zdd_tui.cli.doctor import run_examination
from zdd_tui.dashboard.live_source import LiveSource
from zdd_tui.demo import image_trials as trials
from zdd_tui.demo import manifests
from zdd_tui.demo.environment import DemoOptions, Environment
from zdd_tui.model.doctor import Report, examine_facts
from zdd_tui.model.doctor.facts import DoctorFacts
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.testbed.servers import PostgresServer, RedisServer


@pytest.fixture
async def doctor_environment(tmp_path: Path, pg_dsn: str, redis_url: str) -> AsyncIterator[CliEnvironment]:
    async with make_environment(tmp_path, pg_dsn, redis_url) as made:
        async with Cluster.connect(made.environ["KUBECONFIG"], None, "default") as cluster:
            await cluster.http.request_json(
                "POST", cluster.path("api/v1", "services"), body=manifests.service_manifest()
            )
        yield made


async def doctor_report(made: CliEnvironment, *options: str) -> tuple[int, dict[str, Any]]:
    ended = await made.run_zdd("doctor", "--json", *options)
    assert not any(secret in ended.output for secret in made.secrets)
    assert ended.err == "", ended.err
    return ended.code, json.loads(ended.out)


def verdicts(report: dict[str, Any], table: str) -> dict[str, str]:
    return {finding["id"]: finding["verdict"] for finding in report[table]}


def evidence(report: dict[str, Any], name: str) -> str:
    found = next(each for each in (*report["pitfalls"], *report["checklist"]) if each["id"] == name)
    return "\n".join(f"{each['verdict']} {each['text']}" for each in found["evidence"])


async def test_the_demos_own_manifests_are_clean(doctor_environment: CliEnvironment) -> None:
    code, report = await doctor_report(doctor_environment)
    found = verdicts(report, "pitfalls")
    assert found["breaking-migration"] == "pass", evidence(report, "breaking-migration")
    assert found["sticky-sessions"] == found["leaking-flags"] == found["dns-ttl"] == "pass"
    assert found["probes"] == "inconclusive"
    assert "not tested with" in evidence(report, "probes")
    assert "fail" not in evidence(report, "probes")
    assert found["rollback-rehearsed"] == "fail"
    assert code == 1
    assert await doctor_environment.fetchval("SELECT to_regnamespace('zdd') IS NULL"), "looking changes nothing"


async def test_what_binds_a_client_to_a_pod_is_found(doctor_environment: CliEnvironment) -> None:
    async with Cluster.connect(doctor_environment.environ["KUBECONFIG"], None, "default") as cluster:
        service = cluster.path("api/v1", "services", manifests.NAME)
        patch = {"spec": {"sessionAffinity": "ClientIP"}}
        await cluster.http.request_json("PATCH", service, body=patch, content_type=STRATEGIC_MERGE_PATCH)
        backend = {"service": {"name": manifests.NAME, "port": {"number": 80}}}
        body = {
            "metadata": {"name": "shop", "annotations": {"nginx.ingress.kubernetes.io/affinity": "cookie"}},
            "spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]},
        }
        await cluster.http.request_json("POST", cluster.path("apis/networking.k8s.io/v1", "ingresses"), body=body)
    _, report = await doctor_report(doctor_environment)
    text = evidence(report, "sticky-sessions")
    assert "fail service/users-api: sessionAffinity ClientIP" in text
    assert "fail ingress/shop: nginx.ingress.kubernetes.io/affinity=cookie" in text


async def test_what_only_a_person_knows_is_kept_with_name_and_date(doctor_environment: CliEnvironment) -> None:
    _, report = await doctor_report(doctor_environment)
    assert verdicts(report, "checklist")["sessions"] == "inconclusive"
    _, report = await doctor_report(doctor_environment, "--answer", "sessions", "--reason", "there are none")
    assert verdicts(report, "checklist")["sessions"] == "pass"
    who = await doctor_environment.fetchval(
        "SELECT actor || '@' || host || ' on ' || to_char(at, 'YYYY-MM-DD') FROM zdd.evidence"
    )
    assert f"pass {who}: there are none" in evidence(report, "sessions")
    doctor_environment.rewrite("batch_rows: 1000", "batch_rows: 900")
    _, report = await doctor_report(doctor_environment)
    assert verdicts(report, "checklist")["sessions"] == "inconclusive", "the answer is about another version"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--answer", "drain", "--reason", "x"), "proven by evidence only, not by an answer"),
        (("--answer", "sesions", "--reason", "x"), "did you mean sessions?"),
        (("--answer", "sessions", "--reason", "  "), "no reason was given"),
    ],
)
async def test_an_answer_that_cannot_count_is_refused(
    doctor_environment: CliEnvironment, options: tuple[str, ...], message: str
) -> None:
    ended = await doctor_environment.run_zdd("doctor", *options)
    assert ended.code == 1
    assert message in ended.err
    assert await doctor_environment.fetchval("SELECT to_regnamespace('zdd') IS NULL"), "nothing was changed"


async def test_a_doctor_without_facts_reports_unknown(doctor_environment: CliEnvironment) -> None:
    blind = doctor_environment.with_env(
        DATABASE_URL="postgresql://ana:hidden@127.0.0.1:1/shop",
        REDIS_URL="redis://:hidden@127.0.0.1:1/0",
        KUBECONFIG=str(doctor_environment.folder / "nothing"),
    )
    ended = await blind.run_zdd("doctor")
    assert "hidden" not in ended.output
    assert "? 2. sticky sessions: unknown" in ended.out
    assert "? 5. a rollback that was never rehearsed: unknown" in ended.out
    assert "127.0.0.1:1" in ended.out
    assert ended.err == ""


async def test_a_plan_in_version_control(doctor_environment: CliEnvironment) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for arguments in (
        ("init", "-q"),
        ("add", "plan.yaml"),
        ("-c", "user.name=ana", "-c", "user.email=ana@shop.example", "commit", "-qm", "plan"),
    ):
        process = await asyncio.create_subprocess_exec("git", "-C", str(doctor_environment.folder), *arguments)
        assert await process.wait() == 0
    loaded = load_plan(
        doctor_environment.plan_file.read_text(),
        source=str(doctor_environment.plan_file),
        environment=doctor_environment.environ,
    )
    report = await run_examination(loaded)
    fragile = next(each for each in report.pitfalls if each.id == "fragile-steps")
    assert any(each.text.startswith("the plan is in version control") for each in fragile.observations)


async def test_the_demo_tests_what_no_manifest_shows(
    doctor_environment: CliEnvironment, pg: PostgresServer, redis_instance: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image as a process: /ready must fail while its database is unreachable, and SIGTERM must end it."""
    (doctor_environment.folder / "logs").mkdir()
    made = Environment(
        doctor_environment.folder, DemoOptions(), pg, redis_instance, Path(doctor_environment.environ["KUBECONFIG"])
    )
    found = await trials.run_image_trial(made, manifests.image_name(3))
    assert [(each.item_id, each.verdict, each.subject) for each in found] == [
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
    before = manifests.deployment_manifest

    def deployment(**options: Any) -> dict[str, Any]:
        body = before(**options)
        pod = body["spec"]["template"]["spec"]
        pod["terminationGracePeriodSeconds"] = 1
        pod["containers"][0]["command"] = [sys.executable, "-c", careless]
        return body

    monkeypatch.setattr(manifests, "deployment_manifest", deployment)
    found = await trials.run_image_trial(made, manifests.image_name(3))
    assert [(each.item_id, each.verdict, each.text) for each in found] == [
        ("readiness", "fail", "/ready returned 200, /health 200"),
        ("shutdown", "fail", "still running after 1 s"),
    ]


# --- in the dashboard's thread ------------------------------------------------------------------------------------


async def test_the_source_examines_on_request(pg_dsn: str) -> None:
    made = feed_plan(pg_dsn)
    requested = 0

    async def examine() -> Report:
        nonlocal requested
        requested += 1
        if requested == 2:
            raise KeyError("secret")
        return examine_facts(DoctorFacts(made, "hash", 0.0))

    feeds = LiveSource(made, actor=ANA, doctor=examine)
    feeds.start(wait_for_screen=0)
    try:
        await wait_for_board(feeds, lambda board: bool(board.release.error))
        assert (requested, feeds.state().doctor_report.value) == (0, None), "not requested yet"
        feeds.run_doctor()
        board = await wait_for_board(
            feeds, lambda board: board.doctor_report.value is not None and not board.is_doctor_running
        )
        assert board.doctor_report.value is not None
        assert board.doctor_report.value.pitfalls[0].verdict in (Verdict.UNKNOWN, Verdict.PASS)
        feeds.run_doctor()
        board = await wait_for_board(
            feeds, lambda board: bool(board.doctor_report.error) and not board.is_doctor_running
        )
        assert "KeyError" in board.doctor_report.error
        assert "secret" not in board.doctor_report.error
        assert board.doctor_report.value is not None, "what was found before stays, with its age"
    finally:
        assert await asyncio.to_thread(feeds.stop, 5.0)
