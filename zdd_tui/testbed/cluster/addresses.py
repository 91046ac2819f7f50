"""Virtual addresses and node ports of Services."""

import random

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.errors import invalid, unprocessable
from zdd_tui.testbed.cluster.meta import Json, name_of
from zdd_tui.testbed.cluster.store import ObjectStore

# The range that kubeadm gives a cluster. Nothing routes it here; it is what kubectl shows.
SERVICE_NETWORK = "10.96"
NODE_PORTS = range(30_000, 32_768)


class ServiceAddressAllocator:
    """Hands out what no other Service has."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def assign(self, service: Json) -> None:
        """Fill clusterIP and nodePort in place. Raises ApiError 422 for an address that is taken."""
        spec = service["spec"]
        if spec["type"] == "ExternalName":
            return
        others = [item["spec"] for item in self._store.items(kinds.SERVICE)]
        taken = {item.get("clusterIP") for item in others}
        wanted = spec.get("clusterIP")
        if wanted and wanted != "None" and wanted in taken:
            cause = invalid("spec.clusterIPs", [wanted], "failed to allocate IP: provided IP is already allocated")
            raise unprocessable(kinds.SERVICE, name_of(service), [cause])
        while not wanted or (wanted != "None" and wanted in taken):
            wanted = f"{SERVICE_NETWORK}.{random.randrange(256)}.{random.randrange(2, 255)}"  # noqa: S311 - no secret
        spec["clusterIP"] = wanted
        spec["clusterIPs"] = [wanted]
        if spec["type"] in ("NodePort", "LoadBalancer"):
            used = {port.get("nodePort") for item in others for port in item.get("ports") or ()}
            for port in spec.get("ports") or ():
                if not port.get("nodePort"):
                    port["nodePort"] = next(number for number in NODE_PORTS if number not in used)
                used.add(port["nodePort"])
