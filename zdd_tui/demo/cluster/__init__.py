"""A local cluster that speaks the Kubernetes API: what kubectl, the agent and the dashboard of the demo talk to.

`cluster.local_cluster` runs it in this process, `python -m zdd_tui.demo.cluster` in its own.
"""
