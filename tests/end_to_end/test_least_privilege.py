"""A whole release and a whole rollback under exactly the shipped roles of PostgreSQL and users of Redis (issue 11, 6).

The agent is no superuser and a member of the tables' owner; operators send commands by the function; the application,
a third role, writes all the time.
"""

import secrets
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from tests.support.command_line import CliEnvironment
from tests.support.least_privilege import install_database_roles, read_redis_users, redis_url_for
from tests.support.release import assert_no_failures, start_production
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.demo import manifests
from zdd_tui.demo.environment import Environment, poll_until
from zdd_tui.demo.state_snapshot import describe_differences, read_environment_state

PHASES = ("expand", "dual-write", "backfill", "cutover", "contract", "cleanup")


async def move_pods_to(env: Environment, dsn: str, redis_url: str) -> None:
    """The application of the release reads and writes as its own role, not as the superuser of the demo."""
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        path = f"{cluster.path('apis/apps/v1', 'deployments')}/{manifests.NAME}"
        body = await cluster.http.request_json("GET", path)
        container = body["spec"]["template"]["spec"]["containers"][0]
        given = {"DATABASE_URL": dsn, "REDIS_URL": redis_url}
        patched = [item | {"value": given.get(item["name"], item.get("value"))} for item in container["env"]]
        patch = {"spec": {"template": {"spec": {"containers": [{"name": container["name"], "env": patched}]}}}}
        await cluster.http.request_json(
            "PATCH", path, body=patch, content_type="application/strategic-merge-patch+json"
        )

        async def has_moved() -> bool:
            view = await cluster.get_deployment(manifests.NAME)
            pods = await cluster.http.request_json("GET", cluster.path("api/v1", "pods"))
            return view.available >= view.desired and all(
                any(item.get("value") == dsn for item in pod["spec"]["containers"][0]["env"]) for pod in pods["items"]
            )

        assert await poll_until(has_moved, 60)


@pytest.mark.timeout(540)
@pytest.mark.parametrize(
    ("kind", "mode"), [("column", "application"), pytest.param("table", "trigger", marks=pytest.mark.slow)]
)
async def test_a_release_and_a_rollback_under_the_shipped_roles(kind: str, mode: str, tmp_path: Path) -> None:
    async with start_production(tmp_path, kind=kind, mode=mode, has_guard=True, is_guard_lenient=True) as (env, _store):
        admin = await asyncpg.connect(env.postgres.dsn)
        roles = await install_database_roles(env.postgres, env.postgres.dsn)
        password = secrets.token_urlsafe(12)
        async with Redis.from_url(env.redis.url) as redis:
            for user, rules in read_redis_users(password).items():
                await redis.execute_command("ACL", "SETUSER", user, *rules)
        urls = {user: redis_url_for(env.redis.url, user, password) for user in read_redis_users(password)}
        await move_pods_to(env, roles.app, urls["zdd-app"])
        environ = env.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
        agent_env = CliEnvironment(env.folder, environ | {"DATABASE_URL": roles.agent, "REDIS_URL": urls["zdd-agent"]})
        operator = CliEnvironment(
            env.folder, environ | {"DATABASE_URL": roles.operator, "REDIS_URL": urls["zdd-viewer"]}
        )
        viewer = CliEnvironment(env.folder, environ | {"DATABASE_URL": roles.viewer, "REDIS_URL": urls["zdd-viewer"]})
        name = env.options.name
        if kind == "table":  # the rights of the old table, which `zdd check` asks for
            grants = f"    );\n    GRANT SELECT, INSERT, UPDATE, DELETE ON people TO {urlsplit(roles.app).username}\n"
            text = env.plan_file.read_text()
            assert "\n    )\n" in text
            env.plan_file.write_text(text.replace("    )\n", grants, 1))
        try:
            before = await read_environment_state(env)
            checked = await agent_env.run_zdd("check")
            assert checked.code == 0, checked.output
            for last, back in (("contract", True), ("cleanup", False)):
                async with agent_env.run_agent("--new") as agent:
                    await agent.wait_for_output("holding the lease")
                    for phase in PHASES[: PHASES.index(last) + 1]:
                        sent = await operator.run_zdd("advance", "--confirm", name, "--reason", "time")
                        assert sent.code == 0, (phase, sent.output, agent.log)
                        target = "done" if phase == "cleanup" else phase
                        reached = await operator.run_zdd("status", "--wait", target, "--timeout", "2m")
                        assert reached.code == 0, (phase, reached.output, agent.log)
                        if phase == "expand":
                            refused = await viewer.run_zdd("pause")
                            assert refused.code == 2
                            assert "may not send commands" in refused.err
                            assert "Fix:" in refused.err
                            assert (await viewer.run_zdd("status")).code == 0
                    if back:
                        sent = await operator.run_zdd("rollback", "--yes")
                        assert sent.code == 0, (sent.output, agent.log)
                        reached = await operator.run_zdd("status", "--wait", "rolled-back", "--timeout", "2m")
                        assert reached.code == 0, (reached.output, agent.log)
                    assert await agent.wait_for_exit() == 0, agent.log
                if back:
                    assert describe_differences(before, await read_environment_state(env)) == []
            senders = await admin.fetch("SELECT DISTINCT role FROM zdd.event WHERE kind = 'command'")
            assert [row["role"] for row in senders] == [urlsplit(roles.operator).username]
            owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = $1::regclass"
            assert await admin.fetchval(owner, "people" if kind == "table" else "users") == roles.owner
            await assert_no_failures(env)
        finally:
            await admin.close()
