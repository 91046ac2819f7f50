"""The plan of a release from the copy that is stored with it, for a dashboard that has no plan file.

The copy holds ``${NAME}`` instead of secrets. The address of the database is the one that the release was read from.
Every other variable is taken from the fleet's configuration of that database. The environment of this machine counts
only where it leads to the same database: else ``${KUBECONFIG}`` or ``${REDIS_URL}`` could be those of another system.
"""

from collections.abc import Mapping

from pydantic import SecretStr

from zdd_tui.model.errors import PlanError
from zdd_tui.model.fleet.config import FleetDatabase, is_same_database
from zdd_tui.model.masking import hide_values
from zdd_tui.model.plan.base import BasePlan, WorkloadPlan
from zdd_tui.model.plan.file import fill_placeholders, find_placeholders, load_plan

KUBECONFIG = "KUBECONFIG"
"""The variable that names the kubeconfig of a plan without one."""

MASKED = "***"
"""What the stored copy has in place of a password that was written into the plan."""


def load_stored_plan(
    text: str, *, release: str, region: str, database: FleetDatabase, environment: Mapping[str, str]
) -> BasePlan:
    """Parses the stored copy of a plan. What is not known stays a placeholder; see :func:`require_known_value`.

    Args:
        release: name of the release, for messages.
        region: of the release; empty for a plan without regions.
        database: where the release is.
        environment: of this process.

    Raises:
        PlanError: the copy cannot be used by this version.
    """
    source = f"the stored plan of {release}"
    own = dict(database.variables)
    values: Mapping[str, str] = {**environment, **own}
    loaded = load_plan(text, source=source, environment=values, region=region, keep_unset=True)
    is_trusted = is_same_database(loaded.plan.database.dsn.get_secret_value(), database.dsn)
    if not is_trusted:
        values = own
        loaded = load_plan(text, source=source, environment=own, region=region, keep_unset=True)
    names = find_placeholders(loaded.document.get("change"))
    hide_values({name: values[name] for name in names if name in values}, shown=text)
    plan = loaded.plan
    changes: dict[str, object] = {"database": plan.database.model_copy(update={"dsn": SecretStr(database.dsn)})}
    if not isinstance(plan, WorkloadPlan):
        return plan.model_copy(update=changes)
    cluster = plan.kubernetes
    if cluster.kubeconfig is None and (KUBECONFIG in own or (not is_trusted and cluster.context is None)):
        # The current context of this machine may be any cluster.
        cluster = cluster.model_copy(update={"kubeconfig": own.get(KUBECONFIG, f"${{{KUBECONFIG}}}")})
    return plan.model_copy(update=changes | {"kubernetes": cluster})


def require_known_cluster(plan: WorkloadPlan) -> None:
    """Refuses a cluster that the stored copy of a plan does not name; as :func:`require_known_value`."""
    require_known_value(plan.kubernetes.kubeconfig or "", "kubernetes.kubeconfig")
    require_known_value(plan.kubernetes.context or "", "kubernetes.context")


def require_known_value(value: str, key: str) -> None:
    """Refuses a value that the stored copy of a plan does not have.

    Args:
        key: of the plan, such as ``flags.url``.

    Raises:
        PlanError: it has a placeholder that is not filled, or a password that was masked.
    """
    _, unset = fill_placeholders(value, {})
    if unset:
        raise PlanError(
            f"{key} is taken from ${{{unset[0]}}}, which is not known for this database",
            f"set {unset[0]} in the variables of that database in config.toml, or open the plan's file",
        )
    if MASKED in value:
        raise PlanError(
            f"{key} has a password that the stored copy of the plan does not hold",
            "take it from ${NAME} in the plan, or open the plan's file",
        )
