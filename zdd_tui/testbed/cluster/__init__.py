"""A local cluster that speaks the Kubernetes API: what kubectl, the agent and the dashboard of the demo talk to.

`cluster.local_cluster` runs it in this process, `python -m zdd_tui.testbed.cluster` in its own. A request goes through
these rooms:

    server, request, watching     HTTP: token, path, verb, streams
    discovery, paging, tables     what is served; lists in pages; what `kubectl get` prints
    schema, defaults, validation  the body as the kind's type, completed, validated
    api, patches                  the verbs and their rules
    store                         objects in memory, their history, who watches
    controllers                   what makes Deployments roll, pods be placed, endpoints follow

tests/cluster holds it against a real control plane, object by object and refusal by refusal.
Left out: server-side apply, protobuf bodies (`kubectl create deployment` sends them; `kubectl create -f` does not),
authorization (every client that has the token may do everything), admission by policy, custom resources.
"""
