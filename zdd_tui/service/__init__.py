"""The library for a released application: flags, lifecycle (health, ready, drain), dual writing, shadow reads, metrics.

It imports nothing of the agent, the dashboard or Kubernetes. Only :mod:`zdd_tui.service.http` needs the ``service``
extra (aiohttp).
"""
