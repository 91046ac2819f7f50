"""The demo's plans: the same files that an operator would write."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import yaml

from zdd_tui.model.migrations.operations import PlanOperation

ChangeKind = Literal["column", "table"]
DualWriteMode = Literal["application", "trigger"]

EXPAND_CONTRACT = "expand-contract"

FLAG_STALENESS, FAST_FLAG_STALENESS = "1s", "500ms"
"""How long a pod may use a flag's value after it was changed, and the same in tests."""

_HEAD = """\
# The demo's release. Every key is explained in {reference}.
name: {name}
strategy: {strategy}
environment: demo

database:
  dsn: ${{DATABASE_URL}}

kubernetes:
  kubeconfig: ${{KUBECONFIG}}
  namespace: default
  deployment: users-api
  container: app
{images}
  rollout_timeout: 3m
"""

_GATES = """
gates:
  soak: {soak}
  owner: you
  wait_limit: 1d
"""

_CHANGE_IMAGES = """\
  images:
    v2: shop/users-api:2
    v3: shop/users-api:3"""

_CHANGE = """
flags:
  url: ${{REDIS_URL}}
  write: users_full_name_write
  read: users_full_name_read
  owner: you
  expires: {expires}
{staleness}
change:
  table: public.users
  dual_write: {mode}
"""

_COLUMN_CHANGE = """\
  expand: |
    ALTER TABLE users ADD COLUMN full_name text
  indexes:
    - CREATE INDEX CONCURRENTLY users_full_name_idx ON users (full_name)
  constrain:
    - ALTER TABLE users ALTER COLUMN full_name SET NOT NULL
  up:
    full_name: first_name || CASE WHEN last_name = '' THEN '' ELSE ' ' || last_name END
  down:
    first_name: split_part(full_name, ' ', 1)
    last_name: substr(full_name, length(split_part(full_name, ' ', 1)) + 2)

accept:
  - what: default last_name
    reason: V3 always writes a full name
"""

_TABLE_CHANGE = """\
  into: public.people
  expand: |
    CREATE TABLE people (
      id bigint PRIMARY KEY DEFAULT nextval('users_id_seq'),
      full_name text,
      email text
    )
  indexes:
    - CREATE INDEX CONCURRENTLY people_full_name_idx ON people (full_name)
  constrain:
    - ALTER TABLE people ALTER COLUMN full_name SET NOT NULL
  up:
    full_name: first_name || CASE WHEN last_name = '' THEN '' ELSE ' ' || last_name END
    email: email
  down:
    first_name: split_part(full_name, ' ', 1)
    last_name: substr(full_name, length(split_part(full_name, ' ', 1)) + 2)
    email: email

accept:
  - what: default last_name
    reason: V3 always writes a full name
  - what: column created_at
    reason: nothing reads it
  - what: column updated_at
    reason: nothing reads it
"""


def flags_expiry_date() -> str:
    """A date 30 days from now: a plan must say when its flags expire."""
    return f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"


def plan_yaml(
    kind: ChangeKind,
    mode: DualWriteMode,
    *,
    name: str = "users-full-name",
    soak: str = "5s",
    max_rows_per_second: int | None = None,
    is_fast: bool = False,
) -> str:
    """The plan of an expand/contract release as YAML; secrets stay in the environment.

    Args:
        max_rows_per_second: limit of the backfill; None for no limit.
        is_fast: pods see flags sooner.
    """
    staleness = f"  max_staleness: {FAST_FLAG_STALENESS}\n" if is_fast else ""
    limit = f"  max_rows_per_second: {max_rows_per_second}\n" if max_rows_per_second else ""
    return (
        _HEAD.format(reference="config/plan.example.yaml", name=name, strategy=EXPAND_CONTRACT, images=_CHANGE_IMAGES)
        + _CHANGE.format(expires=flags_expiry_date(), mode=mode, staleness=staleness)
        + (_COLUMN_CHANGE if kind == "column" else _TABLE_CHANGE)
        + f"\nbackfill:\n  batch_rows: 1000\n{limit}"
        + _GATES.format(soak=soak)
    )


IMAGE = "shop/users-api:2"
"""Version 2 with its flags unset does what version 1 does: a new image that needs no change of the schema."""

DARK_IMAGE = "shop/users-api:4"
"""Version 4 reads as version 1 does, and has a second way to read, behind a flag."""

WRONG_RESULTS_IMAGE = "shop/users-api:5"
"""Version 4 with a bug in that second way."""

_CANARY = """
canary:
  by: replicas
  weights: [{weights}]
"""

_CANARY_BY_FLAG = """
canary:
  by: flag
  weights: [{shares}]
  flag:
    url: ${{REDIS_URL}}
    key: users_sql_name_read
    owner: you
    expires: {expires}
{staleness}"""

_CANARY_BY_GATEWAY = """
canary:
  by: gateway
  route: users-api
  weights: [{gateway}]
"""

_BLUE_GREEN = """
blue_green:
  smoke:
    - path: /ready
    - path: /version
      contains: '"version": 2'
    - path: /users/1
"""

_DARK_LAUNCH = """
flags:
  url: ${{REDIS_URL}}
  shadow: users_sql_name_shadow
  read: users_sql_name_read
  owner: you
  expires: {expires}
{staleness}
dark:
  path: users_name
  shadow: [{shadow}]
  ramp: [{ramp}]
  min_sample: 5
  # Reads take about a millisecond on a busy machine: compare the median, and leave room for noise.
  max_latency_ratio: 10
  latency_quantile: 0.5
"""

STRATEGY_SECTIONS = {"rolling": "", "canary": _CANARY, "blue-green": _BLUE_GREEN, "dark-launch": _DARK_LAUNCH}
"""By strategy: the sections that its plan has besides the common ones."""

# The weights are those that the demo's four pods, or the two of its tests, can reach exactly.
_NORMAL_WEIGHTS = {
    "weights": "20, 50",
    "shares": "10, 50",
    "gateway": "10, 50",
    "shadow": "1, 25, 100",
    "ramp": "10, 50, 100",
}
_FAST_WEIGHTS = {"weights": "33, 50", "shares": "50", "gateway": "33, 50", "shadow": "20, 100", "ramp": "50, 100"}


def strategy_plan_yaml(
    strategy: str,
    *,
    name: str,
    soak: str,
    is_fast: bool = False,
    canary_by: str = "replicas",
    has_wrong_results: bool = False,
) -> str:
    """The plan of a strategy that leaves the schema alone, as YAML; secrets stay in the environment.

    Args:
        canary_by: what sets a canary's weight: ``replicas``, ``flag`` or ``gateway``.
        has_wrong_results: the new path of a dark launch returns different results.
    """
    section, image = STRATEGY_SECTIONS[strategy], IMAGE
    if strategy == "dark-launch":
        image = WRONG_RESULTS_IMAGE if has_wrong_results else DARK_IMAGE
    elif strategy == "canary" and canary_by == "flag":
        section, image = _CANARY_BY_FLAG, DARK_IMAGE
    elif strategy == "canary" and canary_by == "gateway":
        section = _CANARY_BY_GATEWAY
    weights = _FAST_WEIGHTS if is_fast else _NORMAL_WEIGHTS
    indent = "    " if strategy == "canary" else "  "
    staleness = f"{indent}max_staleness: {FAST_FLAG_STALENESS}\n" if is_fast else ""
    return (
        _HEAD.format(reference="config/examples/", name=name, strategy=strategy, images=f"  image: {image}")
        + section.format(**weights, expires=flags_expiry_date(), staleness=staleness)
        + _GATES.format(soak=soak)
    )


def migration_plan_yaml(
    operations: Sequence[PlanOperation], *, name: str, soak: str, max_rows_per_second: int | None = None
) -> str:
    """The plan of a migration of the reader's own, and of an image that needs no change of the schema.

    Args:
        max_rows_per_second: limit of each fill; None for no limit.
    """
    head = _HEAD.format(reference="docs/operations.md", name=name, strategy=EXPAND_CONTRACT, images=f"  image: {IMAGE}")
    listed = yaml.safe_dump({"operations": list(operations)}, sort_keys=False, allow_unicode=True)
    limit = f"\nbackfill:\n  max_rows_per_second: {max_rows_per_second}\n" if max_rows_per_second else ""
    return f"{head}\n{listed}{limit}{_GATES.format(soak=soak)}"


_GUARD = """
guard:
  interval: 1s
  rules:
    - name: errors
      metric: error-rate
      limit: 2%
      window: {window}
      for: {errors_for}
      version: new
      min_samples: 20
{no_data}\
    - name: p95
      metric: latency
      quantile: p95
      limit: {latency}
      window: {window}
      for: {latency_for}
      version: new
      min_samples: 20
    - name: restarts
      metric: restarts
      limit: 1
      window: 30s
"""

GUARD_YAML = _GUARD.format(
    window="6s",
    errors_for="2s",
    no_data="      no_data: {after: 8s, action: rollback}\n",
    latency="250ms",
    latency_for="3s",
)
"""Short windows, so that the guard reacts within seconds; production uses longer ones: config/plan.example.yaml."""

LENIENT_GUARD_YAML = _GUARD.format(window="10s", errors_for="3s", no_data="", latency="2s", latency_for="10s")
"""For runs without a fault: a small machine that also runs the servers and the load is slow, which is no defect."""

REGION_SOAK = "10s"
"""Soak between two regions: long enough for an advance to be refused during it."""

_REGION_YAML = """\
    - name: {name}
      database: {{dsn: "${{{up}_DATABASE_URL}}"}}
      kubernetes: {{kubeconfig: "${{{up}_KUBECONFIG}}"}}
"""


def regions_yaml(names: tuple[str, ...], *, uses_flags: bool) -> str:
    """The last section of a plan, for its regions; each has systems of its own. Empty without names.

    Args:
        uses_flags: the strategy has flags.
    """
    if not names:
        return ""
    flags = '      flags: {{url: "${{{up}_REDIS_URL}}"}}\n' if uses_flags else ""
    regions = "".join((_REGION_YAML + flags).format(name=name, up=name.upper()) for name in names)
    return f"\nregions:\n  soak: {REGION_SOAK}\n  order:\n{regions}"
