"""The demo's plan: the same file that an operator would write."""

from datetime import UTC, datetime, timedelta
from typing import Literal

ChangeKind = Literal["column", "table"]
DualWriteMode = Literal["application", "trigger"]

_PLAN_HEAD = """\
# The demo's release; config/plan.example.yaml explains every key.
name: {name}
strategy: expand-contract
environment: demo

database:
  dsn: ${{DATABASE_URL}}

kubernetes:
  kubeconfig: ${{KUBECONFIG}}
  namespace: default
  deployment: users-api
  container: app
  images:
    v2: shop/users-api:2
    v3: shop/users-api:3
  rollout_timeout: 3m

flags:
  url: ${{REDIS_URL}}
  write: users_full_name_write
  read: users_full_name_read
  owner: you
  expires: {expires}

change:
  table: public.users
  dual_write: {mode}
"""

_COLUMN_CHANGE = """\
  expand: |
    ALTER TABLE users ADD COLUMN full_name text
  indexes:
    - CREATE INDEX CONCURRENTLY users_full_name_idx ON users (full_name)
  up:
    full_name: first_name || CASE WHEN last_name = '' THEN '' ELSE ' ' || last_name END
  down:
    first_name: split_part(full_name, ' ', 1)
    last_name: substr(full_name, length(split_part(full_name, ' ', 1)) + 2)
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
  up:
    full_name: first_name || CASE WHEN last_name = '' THEN '' ELSE ' ' || last_name END
    email: email
  down:
    first_name: split_part(full_name, ' ', 1)
    last_name: substr(full_name, length(split_part(full_name, ' ', 1)) + 2)
    email: email
"""

_PLAN_TAIL = """\

backfill:
  batch_rows: 1000
{ceiling}
gates:
  soak: {soak}
  owner: you
  wait_limit: 1d
"""


def flags_expiry_date() -> str:
    """A day well after the demo, as any plan would name one."""
    return f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"


GUARD_YAML = """
guard:
  interval: 1s
  rules:
    - name: errors
      metric: error-rate
      limit: 2%
      window: 6s
      for: 2s
      version: new
      min_samples: 20
      no_data: {after: 8s, action: rollback}
    - name: p95
      metric: latency
      quantile: p95
      limit: 250ms
      window: 6s
      for: 3s
      version: new
      min_samples: 20
    - name: restarts
      metric: restarts
      limit: 1
      window: 30s
"""
"""Short windows, so that a fault is answered while one looks; in production they are longer: see
config/plan.example.yaml."""

LENIENT_GUARD_YAML = """
guard:
  interval: 1s
  rules:
    - name: errors
      metric: error-rate
      limit: 2%
      window: 10s
      for: 3s
      version: new
      min_samples: 20
    - name: p95
      metric: latency
      quantile: p95
      limit: 2s
      window: 10s
      for: 10s
      version: new
      min_samples: 20
    - name: restarts
      metric: restarts
      limit: 1
      window: 30s
"""
"""Where nobody breaks anything: two busy cores that also run the servers and the load are slow, and are not ill."""


REGION_SOAK = "10s"
"""Between two regions: long enough to be refused in it."""

_REGION_YAML = """\
    - name: {name}
      database: {{dsn: "${{{up}_DATABASE_URL}}"}}
      kubernetes: {{kubeconfig: "${{{up}_KUBECONFIG}}"}}
"""


def regions_yaml(names: tuple[str, ...], *, uses_flags: bool) -> str:
    """The regions of a plan, as its last section; each has all of its systems to itself. Empty without names.

    Args:
        uses_flags: the strategy has flags.
    """
    if not names:
        return ""
    flags = '      flags: {{url: "${{{up}_REDIS_URL}}"}}\n' if uses_flags else ""
    each = "".join((_REGION_YAML + flags).format(name=name, up=name.upper()) for name in names)
    return f"\nregions:\n  soak: {REGION_SOAK}\n  order:\n{each}"


def plan_yaml(
    kind: ChangeKind,
    mode: DualWriteMode,
    *,
    name: str = "users-full-name",
    soak: str = "5s",
    max_rows_per_second: int | None = None,
) -> str:
    """The plan as YAML; secrets stay in the environment.

    Args:
        max_rows_per_second: rows a second that the backfill may move; None for as fast as it can.
    """
    limit = f"  max_rows_per_second: {max_rows_per_second}\n" if max_rows_per_second else ""
    head = _PLAN_HEAD.format(name=name, mode=mode, expires=flags_expiry_date())
    return head + (_COLUMN_CHANGE if kind == "column" else _TABLE_CHANGE) + _PLAN_TAIL.format(soak=soak, ceiling=limit)


# --- The demo's plans of the strategies that leave the schema alone.


_PLAN_YAML = """\
# The demo's release; config/examples/ explains every key.
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
  image: {image}
  rollout_timeout: 3m
{more}
gates:
  soak: {soak}
  owner: you
  wait_limit: 1d
"""

IMAGE = "shop/users-api:2"
"""Version 2 with its flags unset does what version 1 does: a new image that needs no change of the schema."""

DARK_IMAGE = "shop/users-api:4"
"""Version 4 reads as version 1 does, and has another way to read beside it."""

WRONG_RESULTS_IMAGE = "shop/users-api:5"
"""The same with a mistake on the other way."""

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
"""

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

dark:
  path: users_name
  shadow: [{shadow}]
  ramp: [{ramp}]
  min_sample: 5
  # Reads of about a millisecond on a busy machine: the median, and room for noise.
  max_latency_ratio: 10
  latency_quantile: 0.5
"""

STRATEGY_SECTIONS = {
    "rolling": "",
    # As few as the demo's four pods, or the two of its tests, can give exactly.
    "canary": _CANARY,
    "blue-green": _BLUE_GREEN,
    "dark-launch": _DARK_LAUNCH,
}
"""By strategy: what its plan has beside the common part."""

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
    """The plan as YAML; secrets stay in the environment.

    Args:
        canary_by: what makes a canary's weight, ``replicas``, ``flag`` or ``gateway``.
        has_wrong_results: the image of a dark launch is one whose new path answers otherwise.
    """
    by_flag = strategy == "canary" and canary_by == "flag"
    chosen = {"flag": _CANARY_BY_FLAG, "gateway": _CANARY_BY_GATEWAY}.get(canary_by) if strategy == "canary" else None
    more = (chosen or STRATEGY_SECTIONS[strategy]).format(
        **(_FAST_WEIGHTS if is_fast else _NORMAL_WEIGHTS), expires=flags_expiry_date()
    )
    dark = WRONG_RESULTS_IMAGE if has_wrong_results else DARK_IMAGE
    image = dark if strategy == "dark-launch" or by_flag else IMAGE
    return _PLAN_YAML.format(name=name, strategy=strategy, image=image, soak=soak, more=more)
