"""The demo's plan: the same file that an operator would write."""

from datetime import UTC, datetime, timedelta
from typing import Literal

Kind = Literal["column", "table"]
Mode = Literal["application", "trigger"]

_HEAD = """\
# The demo's release; config/plan.example.yaml explains every key.
name: {name}
strategy: expand/contract
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

_COLUMN = """\
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

_TABLE = """\
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

_TAIL = """\

backfill:
  batch_rows: 1000
{ceiling}
gates:
  soak: {soak}
  owner: you
  wait_limit: 1d
"""


def flags_expire() -> str:
    """A day well after the demo, as any plan would name one."""
    return f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"


GUARD = """
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

CALM_GUARD = """
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

_REGION = """\
    - name: {name}
      database: {{dsn: "${{{up}_DATABASE_URL}}"}}
      kubernetes: {{kubeconfig: "${{{up}_KUBECONFIG}}"}}
"""


def regions_text(names: tuple[str, ...], *, flagged: bool) -> str:
    """The regions of a plan, as its last section; each has all of its systems to itself. Empty without names.

    Args:
        flagged: the strategy has flags.
    """
    if not names:
        return ""
    flags = '      flags: {{url: "${{{up}_REDIS_URL}}"}}\n' if flagged else ""
    each = "".join((_REGION + flags).format(name=name, up=name.upper()) for name in names)
    return f"\nregions:\n  soak: {REGION_SOAK}\n  order:\n{each}"


def plan_text(
    kind: Kind, mode: Mode, *, name: str = "users-full-name", soak: str = "5s", ceiling: int | None = None
) -> str:
    """The plan as YAML; secrets stay in the environment.

    Args:
        ceiling: rows a second that the backfill may move; None for as fast as it can.
    """
    limit = f"  max_rows_per_second: {ceiling}\n" if ceiling else ""
    head = _HEAD.format(name=name, mode=mode, expires=flags_expire())
    return head + (_COLUMN if kind == "column" else _TABLE) + _TAIL.format(soak=soak, ceiling=limit)
