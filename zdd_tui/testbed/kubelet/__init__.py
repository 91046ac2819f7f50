"""A kubelet that runs each pod as a real process on this machine.

It is a client of whatever API server it is given: the embedded one, or a real control plane. What it leaves out
against the real one: images, volumes, init and sidecar containers, resources. What it keeps is what a rollout shows:
probes, conditions, restarts with back-off, preStop, SIGTERM, grace, SIGKILL, Events.

    node        registers the node, watches its pods, binds unbound ones, starts a worker for each
    worker      one pod from start to deletion
    container   the process: command, environment, exit
    zygote      a warm process of the sample application, from which its pods are forked
    probes      startup, readiness and liveness; the handlers of probes and hooks
    status      the PodStatus that all of it amounts to, and its report
    events      Events in the kubelet's words
    addresses   a loopback address for each pod
"""
