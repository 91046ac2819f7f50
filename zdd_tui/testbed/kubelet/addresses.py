"""A loopback address for each pod: on Linux the whole of 127.0.0.0/8 is this machine.

The real API server refuses loopback addresses in EndpointSlices. With `advertise` the kubelet therefore reports
another first octet (10.x.y.z for 127.x.y.z), while the process listens on loopback.
"""

import errno
import secrets
import socket

FIRST_OCTET, LAST_OCTET = 1, 254
SECOND_OCTETS = range(16, 240)
"""What the second octet may be."""

CLAIM_PORT = 61_999
"""Whoever listens here on 127.R.0.1 has the whole of 127.R.x.y; no pod has that address, and no program this port."""


class PodAddressAllocator:
    """Hands out 127.R.x.y, each once before any comes again. No other kubelet of this machine has the same R: a load
    that still sends to a pod that has just gone would reach another cluster's pod.

    Raises:
        OSError: every R is taken.
    """

    def __init__(self, advertise: int = 127) -> None:
        self._claim, self._second = _claim_network()
        self._next = 0
        self._used: set[str] = set()
        self._advertise = advertise

    def allocate(self, port: int) -> str:
        """An address on which `port` is free.

        Raises:
            OSError: no address is left, or the port may not be bound at all.
        """
        span = LAST_OCTET - FIRST_OCTET + 1
        for _ in range(span * span):
            x, y = divmod(self._next, span)
            self._next = (self._next + 1) % (span * span)
            address = f"127.{self._second}.{FIRST_OCTET + x}.{FIRST_OCTET + y}"
            if address not in self._used and _is_port_free(address, port):
                self._used.add(address)
                return address
        raise OSError(errno.EADDRNOTAVAIL, "no loopback address is left for a pod")

    def close(self) -> None:
        """Leaves the addresses to other kubelets."""
        self._claim.close()

    def release(self, address: str) -> None:
        """The pod that had it is gone."""
        self._used.discard(address)

    def advertised(self, address: str) -> str:
        """How the API shows the address."""
        return f"{self._advertise}.{address.split('.', 1)[1]}" if address else ""


def _claim_network() -> tuple[socket.socket, int]:
    for second in secrets.SystemRandom().sample(SECOND_OCTETS, len(SECOND_OCTETS)):
        claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            claim.bind((f"127.{second}.0.1", CLAIM_PORT))
            claim.listen()
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return claim, second
    raise OSError(errno.EADDRNOTAVAIL, "no loopback network is left for a kubelet")


def _is_port_free(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True
