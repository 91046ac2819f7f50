"""`zdd check`: can this plan run here? Looks at everything, changes nothing."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from zdd_tui.backends import migrations
from zdd_tui.backends.change_check import check_change
from zdd_tui.backends.flags import FlagStore
from zdd_tui.backends.kubernetes import Cluster
from zdd_tui.backends.postgres import connect, describe, explained, refuse_pooler
from zdd_tui.engine.phases.expand import refuse_findings
from zdd_tui.engine.rollout import container_image
from zdd_tui.model.errors import ClusterError, PlanError, ZddError
from zdd_tui.model.lint import lint_plan_sql
from zdd_tui.model.plan import BasePlan, Plan
from zdd_tui.model.plan_file import LoadedPlan
from zdd_tui.model.plans import BlueGreenPlan, OneImagePlan
from zdd_tui.verbs.check_image import check_image
from zdd_tui.verbs.check_second import check_switch, permissions, refuse_held
from zdd_tui.verbs.guard_check import check_guard, check_queries
from zdd_tui.verbs.plan_migrations import check_migrations


async def check_plan(loaded: LoadedPlan, *, offline: bool) -> list[str]:
    """What was found good, a line each. The systems are asked side by side.

    Raises:
        ZddError: everything that is wrong, at most one message for each system.
    """
    plan = loaded.plan
    try:
        found = await _lint(plan)
    except PlanError as error:
        raise loaded.located(error) from None
    if offline:
        return found + await check_migrations(loaded, offline=True)
    looks = await asyncio.gather(*_looks(plan), check_migrations(loaded, offline=False), return_exceptions=True)
    wrong: list[ZddError] = []
    for look in looks:
        if isinstance(look, PlanError):
            wrong.append(loaded.located(look))
        elif isinstance(look, ZddError):
            wrong.append(look)
        elif isinstance(look, BaseException):
            raise look
        else:
            found += look
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise ZddError("\n".join([f"{len(wrong)} systems cannot carry it", *(str(error) for error in wrong)]))
    return found


def _looks(plan: BasePlan) -> list[Coroutine[Any, Any, list[str]]]:
    asked = [_database(plan), _cluster(plan)]
    if plan.redis_url is not None:
        asked.append(_redis(plan, plan.redis_url.get_secret_value()))
    if plan.guard is not None:
        asked.append(check_queries(plan.guard))
    return asked


async def _lint(plan: BasePlan) -> list[str]:
    check_guard(plan.guard)
    if not isinstance(plan, Plan):
        return []
    lint_plan_sql(plan)
    await refuse_findings(plan)
    return ["the DDL is additive"]


async def _database(plan: BasePlan) -> list[str]:
    dsn = plan.database.dsn.get_secret_value()
    conn = await connect(dsn, application_name="zdd check", timeout=plan.database.connect_timeout)
    try:
        with explained(dsn):
            await refuse_pooler(conn, dsn)
            await migrations.check(conn, dsn)
            if not isinstance(plan, Plan):
                return [f"PostgreSQL {describe(dsn)}: keeps the release's record, nothing else"]
            notes = await check_change(conn, plan, begun=await _under_way(conn, plan))
    finally:
        await conn.close()
    return [f"PostgreSQL {describe(dsn)}: {plan.change.table} can be changed", *(f"note: {note}" for note in notes)]


async def _under_way(conn: object, plan: Plan) -> bool:
    """A release of this plan has begun and not ended: then what it makes may exist."""
    fetchval = conn.fetchval  # type: ignore[attr-defined]
    if not await fetchval("SELECT to_regclass('zdd.release') IS NOT NULL"):
        return False
    return bool(
        await fetchval(
            "SELECT EXISTS (SELECT FROM zdd.release"
            " WHERE name = $1 AND state NOT IN ('planned', 'rolled-back', 'done'))",
            plan.name,
        )
    )


async def _cluster(plan: BasePlan) -> list[str]:
    names = plan.kubernetes
    async with Cluster.connect(names.kubeconfig, names.context, names.namespace) as cluster:
        view = await cluster.get_deployment(names.deployment)
        image = container_image(plan, view)
        if missing := await cluster.missing_permissions(*permissions(plan)):
            raise ClusterError(
                f"Kubernetes {names.namespace}: we are not allowed to {', '.join(missing)}",
                "see config/kubernetes/ for the role that a release needs",
            )
        await refuse_held(cluster, plan)
        more = await check_switch(cluster, plan) if isinstance(plan, BlueGreenPlan) else []
        more += await check_image(cluster, plan, view) if isinstance(plan, OneImagePlan) else []
    running = f"{view.ready} of {view.desired} pods ready, {image}"
    return [f"Kubernetes {names.namespace}/{names.deployment}: {running} ({plan.version_of(image).upper()})", *more]


async def _redis(plan: BasePlan, url: str) -> list[str]:
    async with await FlagStore.connect(url) as store:
        values = await store.read(list(plan.flag_roles))
        shown = ", ".join(f"{key} {value if value is not None else 'not set'}" for key, value in values.items())
        return [f"Redis {store.place}: {shown}"]
