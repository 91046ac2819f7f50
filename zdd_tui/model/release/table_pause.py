"""A table whose backfill is paused by itself, while the fills of other tables go on."""

import shlex
from dataclasses import dataclass

from zdd_tui.model.duration import format_duration


@dataclass(frozen=True, slots=True)
class TablePause:
    """The pause of one table, stored with the release until it is resumed, filled or rolled back.

    Attributes:
        table: as :func:`zdd_tui.model.plan.base.short_table_name`.
        by: the actor, as shown.
        since: seconds since the epoch, by the database's clock.
        waits: names of the fill steps of other tables that wait for it, because the order matters.
    """

    table: str
    by: str
    since: float
    waits: tuple[str, ...] = ()

    @property
    def resume_command(self) -> str:
        """The command that ends it, with PLAN for the plan's name."""
        return f"zdd resume PLAN --table {shlex.quote(self.table)}"

    @property
    def title(self) -> str:
        """``table users is paused by ana@bastion``."""
        return f"table {self.table} is paused by {self.by}"

    def describe(self, now: float) -> str:
        """The same, with ``for 3m12s`` behind it.

        Args:
            now: seconds since the epoch, by the database's clock.
        """
        return f"{self.title} for {format_duration(max(0.0, now - self.since))}"
