"""Every error that a user of zdd can see."""

from collections.abc import Sequence

HINT_PREFIX = "  Fix: "
"""Begins the line that a hint has below its error on screen and on stderr."""


def with_hint(title: str, hint: str) -> str:
    """An error's text: its title, and its hint on a line of its own where there is one."""
    return f"{title}\n{HINT_PREFIX}{hint}" if hint else title


class ZddError(Exception):
    """An error with a hint.

    Args:
        title: what failed, and where, in one line, without secrets.
        hint: what to do about it, with a command, option or key that exists; empty where there is nothing to do.
    """

    exit_code = 2

    def __init__(self, title: str, hint: str = "") -> None:
        super().__init__(title)
        self.title = title
        self.hint = hint

    def __str__(self) -> str:
        return with_hint(self.title, self.hint)


class PlanError(ZddError):
    """The plan file cannot be used as it is.

    Attributes:
        parts: the errors that were joined in it; itself where it is one.
    """

    def __init__(self, title: str, hint: str = "") -> None:
        super().__init__(title, hint)
        self.parts: tuple[PlanError, ...] = (self,)

    @classmethod
    def join(cls, errors: Sequence["PlanError"]) -> "PlanError":
        """One error of one or several."""
        if len(errors) == 1:
            return errors[0]
        joined = PlanError("\n".join(map(str, errors)))
        joined.parts = tuple(errors)
        return joined


class BackendError(ZddError):
    """A system is unreachable, refuses a request, or is unsuitable."""


class DatabaseError(BackendError):
    """PostgreSQL."""


class DatabaseUnavailable(DatabaseError):
    """PostgreSQL is unreachable, or has ended the session; a retry may succeed."""


class CommandNotSent(DatabaseError):
    """A command that the database has not confirmed; it is given up and has no effect later."""


class ClusterError(BackendError):
    """Kubernetes."""


class FlagStoreError(BackendError):
    """Redis."""


class FlagStoreUnavailable(FlagStoreError):
    """Redis did not respond, or the connection broke; a retry may succeed."""


class MetricsError(BackendError):
    """A source of the guard's numbers: a pod's metrics, a Prometheus server, a probe."""


class StaleEpoch(ZddError):
    """A write carried the epoch of a lease that another agent has acquired since."""

    exit_code = 3


class Refused(ZddError):
    """A command that the rules do not allow in the release's present state."""

    exit_code = 1


class StepFailed(ZddError):
    """A step failed. The release keeps its state: retry or roll back."""

    exit_code = 1


class StepSuspended(Exception):
    """A step has stopped where it can continue later, because its table is paused. Nothing has failed."""
