"""The text of a new plan file, written for people to read and keep."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from zdd_tui.model.advice.plan_from_migration import MissingInput
from zdd_tui.model.advice.rules import BLUE_GREEN, CANARY, DARK_LAUNCH, EXPAND_CONTRACT
from zdd_tui.model.production_lock import is_production


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """The parts of a plan beside the change. Empty: not known.

    Attributes:
        image: of the strategies that roll out one image.
        v2, v3: of expand-contract: the image that writes both sides behind a flag; the one that uses only the new side.
        flag: of a canary by flag.
        smoke: of blue-green: the path that is requested from new pods before the switch.
        dsn: the database's address, as a variable: no secret is written.
        path: of a dark launch: the new path's name in the application's metrics.
    """

    name: str = ""
    environment: str = "production"
    namespace: str = ""
    deployment: str = ""
    container: str = ""
    service: str = ""
    image: str = ""
    v2: str = ""
    v3: str = ""
    flag: str = ""
    smoke: str = ""
    path: str = ""
    dsn: str = "${DATABASE_URL}"


def find_missing_inputs(strategy: str, target: PlanTarget) -> tuple[MissingInput, ...]:
    """The values that the plan needs and that are not known."""
    needed = [(target.deployment, "the Deployment that serves", "--deployment NAME or --manifest FILE")]
    if strategy == EXPAND_CONTRACT:
        needed.append((target.v2, "the image that writes both sides behind a flag (V2)", "--v2 IMAGE"))
        needed.append((target.v3, "the image that uses only the new side (V3)", "--v3 IMAGE"))
    else:
        needed.append((target.image, "the new image", "--image OLD NEW"))
    if strategy == BLUE_GREEN:
        needed.append((target.smoke, "the path that shows that a new pod works", "--smoke /PATH"))
    if strategy == DARK_LAUNCH:
        needed.append((target.path, "the new path's name in the application's metrics", "--dark-path NAME"))
    return tuple(MissingInput(text, option) for value, text, option in needed if not value)


def build_plan_document(
    strategy: str, target: PlanTarget, change: Mapping[str, Any] | None, region_count: int = 1
) -> dict[str, Any]:
    """The plan as a document, when :func:`find_missing_inputs` is empty.

    Args:
        region_count: number of regions; the plan itself describes the first, each other gets variables of its own.
    """
    plan = _build_strategy_document(strategy, target, change)
    if region_count > 1:
        plan["regions"] = _build_regions(region_count, has_flags="${REDIS_URL}" in str(plan))
    return plan


def _build_regions(count: int, *, has_flags: bool) -> dict[str, Any]:
    order: list[dict[str, Any]] = [{"name": "region-1"}]
    for number in range(2, count + 1):
        variable = f"REGION_{number}"
        own: dict[str, Any] = {
            "name": f"region-{number}",
            "database": {"dsn": f"${{{variable}_DATABASE_URL}}"},
            "kubernetes": {"kubeconfig": f"${{{variable}_KUBECONFIG}}"},
        }
        order.append(own | ({"flags": {"url": f"${{{variable}_REDIS_URL}}"}} if has_flags else {}))
    return {"soak": "5m", "order": order}


def _build_strategy_document(strategy: str, target: PlanTarget, change: Mapping[str, Any] | None) -> dict[str, Any]:
    name = target.name or _derive_release_name(strategy, target, change)
    workload: dict[str, Any] = {
        "namespace": target.namespace or "default",
        "deployment": target.deployment,
        "container": target.container or "app",
    }
    if target.service and target.service != target.deployment:
        workload["service"] = target.service
    plan: dict[str, Any] = {
        "name": name,
        "strategy": strategy,
        "environment": target.environment,
        "production": is_production(target.environment),
        "database": {"dsn": target.dsn},
    }
    if strategy == EXPAND_CONTRACT:
        assert change is not None
        key = name.replace("-", "_")
        workload["images"] = {"v2": target.v2, "v3": target.v3}
        flags = {"url": "${REDIS_URL}", "write": f"{key}_write", "read": f"{key}_read"}
        return plan | {"kubernetes": workload, "flags": flags, "change": dict(change)}
    plan["kubernetes"] = workload | {"image": target.image}
    if strategy == CANARY and target.flag:
        plan["canary"] = {"by": "flag", "flag": {"url": "${REDIS_URL}", "key": target.flag}}
    if strategy == BLUE_GREEN:
        plan["blue_green"] = {"smoke": [{"path": target.smoke}]}
    if strategy == DARK_LAUNCH:
        key = re.sub(r"[^A-Za-z0-9_.-]", "_", target.path).lstrip("_.-")
        plan["flags"] = {"url": "${REDIS_URL}", "shadow": f"{key}_shadow", "read": f"{key}_read"}
        plan["dark"] = {"path": target.path}
    return plan


def format_yaml(plan: Mapping[str, Any], reasons: str) -> str:
    """The file's text: a comment with the reasons, then the sections with a blank line between them."""
    sections = [yaml.dump({key: value}, Dumper=_Dumper, **_YAML_OPTIONS) for key, value in plan.items()]
    head = "".join(s for s in sections if not s.rstrip("\n").count("\n"))
    rest = [s for s in sections if s.rstrip("\n").count("\n")]
    return (
        f"# {reasons}\n# config/plan.schema.json describes every key; secrets stay in the environment.\n"
        + "\n".join([head, *rest])
    )


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and lists indented under their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _represent_text)
_YAML_OPTIONS: dict[str, Any] = {"sort_keys": False, "width": 100, "allow_unicode": True}


def _derive_release_name(strategy: str, target: PlanTarget, change: Mapping[str, Any] | None) -> str:
    """A name from the change: ``users-full-name``, ``users-api-2-1``."""
    if change is not None:
        table = str(change.get("into") or change["table"]).rpartition(".")[2]
        words = [table, *([] if "into" in change else list(change["up"])[:1])]
    else:
        words = [target.deployment, target.image.rpartition("/")[2].partition(":")[2] or strategy]
    plain = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
    return plain[:40].strip("-") or "release"
