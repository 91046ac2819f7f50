"""The demo's plans of the strategies that leave the schema alone."""

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
"""

IMAGE = "shop/users-api:2"
"""Version 2 with its flags unset does what version 1 does: a new image that needs no change of the schema."""

DARK_IMAGE = "shop/users-api:4"
"""Version 4 reads as version 1 does, and has another way to read beside it."""

_CANARY = """
canary:
  by: replicas
  weights: [{weights}]
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


def strategy_plan_text(strategy: str, *, name: str, soak: str, quick: bool = False) -> str:
    """The plan as YAML; secrets stay in the environment."""
    more = MORE[strategy].format(
        weights="33, 50" if quick else "20, 50",
        shadow="20, 100" if quick else "1, 25, 100",
        ramp="50, 100" if quick else "10, 50, 100",
    )
    image = DARK_IMAGE if strategy == "dark-launch" else IMAGE
    return _PLAN.format(name=name, strategy=strategy, image=image, soak=soak, more=more)
