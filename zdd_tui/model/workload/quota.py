"""Whether a namespace's quotas leave room for one more pod of a template.

Rules: Kubernetes documentation, "Resource Quotas". Only quotas without scopes count: whether a pod is in a scope
is decided by admission.
"""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from zdd_tui.model.json_access import get_object, get_objects, get_text

_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
_SUFFIXES = {
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate(("K", "M", "G", "T", "P", "E"), 1)},
    **{"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("0.001"), "": Decimal(1)},
}
_POD_COUNTS = ("pods", "count/pods")


def parse_quantity(text: str) -> Decimal | None:
    """The number of a quantity such as ``500m`` or ``2Gi``; None for anything else."""
    match = _QUANTITY.match(text)
    if match is None:
        return None
    try:
        return Decimal(match[1]) * _SUFFIXES[match[2] or ""]
    except InvalidOperation:
        return None


def find_quota_shortages(quotas: Sequence[Any], template: Any) -> tuple[str, ...]:
    """What forbids one more pod, one text for each quota and resource.

    Args:
        quotas: raw ResourceQuota objects.
        template: the raw pod template.
    """
    return tuple(text for quota in quotas for text in _shortages_of(quota, template))


def _shortages_of(quota: Any, template: Any) -> Iterator[str]:
    spec = get_object(quota, "spec")
    if spec.get("scopes") or spec.get("scopeSelector"):
        return
    name = get_text(quota, "metadata", "name")
    used = get_object(quota, "status", "used")
    hard = get_object(quota, "status", "hard") or get_object(quota, "spec", "hard")
    for resource, limit_text in hard.items():
        limit, now = parse_quantity(str(limit_text)), parse_quantity(str(used.get(resource, "0")))
        needed = _pod_need(resource, template)
        if limit is None or now is None or needed is None:
            continue
        if now + needed > limit:
            room = f"quota {name} allows {resource} {limit_text}, and {used.get(resource, '0')} are used"
            yield f"{room}: no pod can be created beside the old ones"


def _pod_need(resource: str, template: Any) -> Decimal | None:
    """How much of a quota's resource one pod takes; None for a resource that pods do not take, or an unknown amount."""
    if resource in _POD_COUNTS:
        return Decimal(1)
    section, _, name = resource.rpartition(".")
    if section not in ("", "requests", "limits") or (not section and name not in ("cpu", "memory")):
        return None
    total = Decimal(0)
    for container in get_objects(template, "spec", "containers"):
        resources = get_object(container, "resources")
        amounts = dict(get_object(resources, section or "requests"))
        if section != "limits":  # a request that is left out is the limit
            amounts = {**get_object(resources, "limits"), **amounts}
        amount = parse_quantity(str(amounts[name])) if name in amounts else None
        if amount is None:
            return None  # a LimitRange may fill it in
        total += amount
    return total
