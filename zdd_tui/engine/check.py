"""`zdd check`: can this plan run here? Looks at everything, changes nothing."""

from collections.abc import Awaitable, Callable

from zdd_tui.backends.change_check import check_change
from zdd_tui.backends.flags import FlagStore
from zdd_tui.backends.kubernetes import Cluster
from zdd_tui.backends.postgres import connect, describe, explained, refuse_pooler
from zdd_tui.engine.phases.expand import refuse_findings
from zdd_tui.engine.rollout import container_image
from zdd_tui.model.errors import ClusterError, DatabaseError, ZddError
from zdd_tui.model.lint import lint_plan_sql
from zdd_tui.model.plan import Plan


async def check_plan(plan: Plan, *, offline: bool) -> list[str]:
    """What was found good, a line each.

    Raises:
        ZddError: everything that is wrong, one message for each system.
    """
    found = await _lint(plan)
    if offline:
        return found
    wrong: list[ZddError] = []
    looks: tuple[Callable[[Plan], Awaitable[list[str]]], ...] = (_database, _cluster, _redis)
    for look in looks:
        try:
            found += await look(plan)
        except ZddError as error:
            wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise ZddError("\n".join(str(error) for error in wrong))
    return found


async def _lint(plan: Plan) -> list[str]:
    lint_plan_sql(plan)
    await refuse_findings(plan)
    return ["the DDL is additive"]


async def _database(plan: Plan) -> list[str]:
    dsn = plan.database.dsn.get_secret_value()
    conn = await connect(dsn, application_name="zdd check", timeout=plan.database.connect_timeout)
    try:
        with explained(dsn):
            await refuse_pooler(conn, dsn)
            if not await conn.fetchval(
                "SELECT has_database_privilege(current_database(), 'CREATE') OR to_regnamespace('zdd') IS NOT NULL"
            ):
                role = await conn.fetchval("SELECT current_user::text")
                raise DatabaseError(
                    f"{describe(dsn)}: role {role} may not create the schema zdd",
                    f"GRANT CREATE ON DATABASE ... TO {role}",
                )
            notes = await check_change(conn, plan, begun=await _under_way(conn, plan))
    finally:
        await conn.close()
    return [f"PostgreSQL {describe(dsn)}: {plan.change.table} can be changed", *(f"note: {note}" for note in notes)]


async def _under_way(conn: object, plan: Plan) -> bool:
    """The release of this plan has begun: then what it makes may exist."""
    fetchval = conn.fetchval  # type: ignore[attr-defined]
    if not await fetchval("SELECT to_regclass('zdd.release') IS NOT NULL"):
        return False
    return bool(
        await fetchval(
            "SELECT EXISTS (SELECT FROM zdd.release WHERE name = $1 AND state NOT IN ('rolled-back', 'planned'))",
            plan.name,
        )
    )


async def _cluster(plan: Plan) -> list[str]:
    names = plan.kubernetes
    async with Cluster.connect(names.kubeconfig, names.context, names.namespace) as cluster:
        view = await cluster.get_deployment(names.deployment)
        image = container_image(plan, view)
        if missing := await cluster.missing_permissions():
            raise ClusterError(
                f"the cluster lets us not {', '.join(missing)}",
                "see config/kubernetes/ for the role that a release needs",
            )
    running = f"{view.ready} of {view.desired} pods ready, {image}"
    return [f"Kubernetes {names.namespace}/{names.deployment}: {running} ({plan.version_of(image).upper()})"]


async def _redis(plan: Plan) -> list[str]:
    async with await FlagStore.connect(plan.flags.url.get_secret_value()) as store:
        values = await store.read([plan.flags.write, plan.flags.read])
        shown = ", ".join(f"{key} {value if value is not None else 'not set'}" for key, value in values.items())
        return [f"Redis {store.place}: {shown}"]
