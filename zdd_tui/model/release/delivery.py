"""Delivery of a command to the database: sending until the database has confirmed it, retried for a bounded time.

sending ──stored──▶ queued
   │  ▲
failure │ next attempt        given up after RETRY_SECONDS
   ▼  │                                │
retrying ──────────────────────────────▶ not sent
"""

from dataclasses import dataclass, replace
from enum import StrEnum

RETRY_SECONDS = 30.0
"""Seconds for which a command is retried; the operator sees each of them."""

ATTEMPT_SECONDS = 2.5
"""Seconds that one attempt may take. Below three, so that an outage is on the screen within three."""

VALID_SECONDS = 5.0
"""Seconds after its start in which an attempt may be stored; the database refuses it later. More than an attempt takes,
because the sender extrapolates the database's clock."""


class DeliveryStatus(StrEnum):
    """Where a command is; :attr:`QUEUED` alone means that the database has it."""

    SENDING = "sending"
    RETRYING = "retrying"
    QUEUED = "queued"
    NOT_SENT = "not sent"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The delivery of one command.

    Attributes:
        request_id: the same in every attempt; see :class:`zdd_tui.model.release.records.CommandRequest`.
        started_at: monotonic seconds.
        error: why the last attempt was not confirmed.
    """

    request_id: str
    started_at: float
    status: DeliveryStatus = DeliveryStatus.SENDING
    error: str = ""
    hint: str = ""

    @property
    def is_open(self) -> bool:
        """Neither stored nor given up."""
        return self.status in (DeliveryStatus.SENDING, DeliveryStatus.RETRYING)

    def attempt_failed(self, error: str, hint: str = "") -> "Delivery":
        return replace(self, status=DeliveryStatus.RETRYING, error=error, hint=hint)

    def stored(self) -> "Delivery":
        return replace(self, status=DeliveryStatus.QUEUED, error="", hint="")

    def given_up(self, error: str, hint: str = "") -> "Delivery":
        return replace(self, status=DeliveryStatus.NOT_SENT, error=error, hint=hint)
