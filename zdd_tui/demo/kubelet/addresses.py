"""A loopback address for each pod: on Linux the whole of 127.0.0.0/8 is this machine.

The real API server refuses loopback addresses in EndpointSlices. With `advertise` the kubelet therefore reports
another first octet (10.x.y.z for 127.x.y.z), while the process listens on loopback.
"""

import errno
import secrets
import socket

FIRST, LAST = 1, 254


class Addresses:
    """Hands out 127.R.x.y, each once before any comes again. R is random, so that two kubelets of one
    machine rarely meet; where they do, the port is found taken."""

    def __init__(self, advertise: int = 127) -> None:
        self._second = 16 + secrets.randbelow(224)
        self._next = 0
        self._used: set[str] = set()
        self._advertise = advertise

    def take(self, port: int) -> str:
        """An address on which `port` is free.

        Raises:
            OSError: no address is left, or the port may not be bound at all.
        """
        span = LAST - FIRST + 1
        for _ in range(span * span):
            x, y = divmod(self._next, span)
            self._next = (self._next + 1) % (span * span)
            address = f"127.{self._second}.{FIRST + x}.{FIRST + y}"
            if address not in self._used and _free(address, port):
                self._used.add(address)
                return address
        raise OSError(errno.EADDRNOTAVAIL, "no loopback address is left for a pod")

    def give_back(self, address: str) -> None:
        """The pod that had it is gone."""
        self._used.discard(address)

    def reported(self, address: str) -> str:
        """How the API shows the address."""
        return f"{self._advertise}.{address.split('.', 1)[1]}" if address else ""


def _free(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True
