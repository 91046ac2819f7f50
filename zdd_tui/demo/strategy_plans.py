"""The demo's plans of the strategies that leave the schema alone."""

from zdd_tui.demo.plan import flags_expire

_PLAN = """\
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

MISTAKEN_IMAGE = "shop/users-api:5"
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

MORE = {
    "rolling": "",
    # As few as the demo's four pods, or the two of its tests, can give exactly.
    "canary": _CANARY,
    "blue/green": _BLUE_GREEN,
    "dark-launch": _DARK_LAUNCH,
}
"""By strategy: what its plan has beside the common part."""

_FULL = {"weights": "20, 50", "shares": "10, 50", "gateway": "10, 50", "shadow": "1, 25, 100", "ramp": "10, 50, 100"}
_QUICK = {"weights": "33, 50", "shares": "50", "gateway": "33, 50", "shadow": "20, 100", "ramp": "50, 100"}


def strategy_plan_text(
    strategy: str, *, name: str, soak: str, quick: bool = False, by: str = "replicas", mistaken: bool = False
) -> str:
    """The plan as YAML; secrets stay in the environment.

    Args:
        by: what makes a canary's weight, ``replicas``, ``flag`` or ``gateway``.
        mistaken: the image of a dark launch is one whose new path answers otherwise.
    """
    by_flag = strategy == "canary" and by == "flag"
    chosen = {"flag": _CANARY_BY_FLAG, "gateway": _CANARY_BY_GATEWAY}.get(by) if strategy == "canary" else None
    more = (chosen or MORE[strategy]).format(**(_QUICK if quick else _FULL), expires=flags_expire())
    dark = MISTAKEN_IMAGE if mistaken else DARK_IMAGE
    image = dark if strategy == "dark-launch" or by_flag else IMAGE
    return _PLAN.format(name=name, strategy=strategy, image=image, soak=soak, more=more)
