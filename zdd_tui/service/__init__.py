"""What a released application imports: flags, lifecycle (health, ready, drain), dual writing, shadow reads, metrics.

It stands alone: nothing of the agent, the dashboard or Kubernetes comes with it. Only
:mod:`zdd_tui.service.http` needs the ``service`` extra (aiohttp).
"""
