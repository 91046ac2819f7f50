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

MORE = {
    "rolling": "",
    # As few as the demo's four pods, or the two of its tests, can give exactly.
    "canary": _CANARY,
    "blue/green": _BLUE_GREEN,
}
"""By strategy: what its plan has beside the common part."""


def strategy_plan_text(strategy: str, *, name: str, soak: str, quick: bool = False) -> str:
    """The plan as YAML; secrets stay in the environment."""
    more = MORE[strategy].format(weights="33, 50" if quick else "20, 50")
    return _PLAN.format(name=name, strategy=strategy, image=IMAGE, soak=soak, more=more)
