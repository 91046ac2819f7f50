"""The plan of a migration: the SQL that a team wrote, and the rollout of the version that needs it.

:mod:`zdd_tui.model.operations` reads the SQL.
"""

from typing import Any, Literal

from pydantic import Field, field_validator

from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.section import PlanSection, Strings
from zdd_tui.model.plan.strategies import SingleImagePlan


class OperationSection(PlanSection):
    """One or several SQL statements; a plan may write them without a mapping."""

    sql: str = Field(min_length=1, description="the statements, as in a migration file")
    undo: Strings | None = Field(
        None, description="statements that take it back, where zdd cannot derive them; [] says that nothing has to be"
    )
    phase: Phase = Field(Phase.EXPAND, description="where a statement with an undo of its own runs")
    down: str | dict[str, str] = Field(
        "",
        description="what a rollback writes into a removed NOT NULL column of rows that the new version wrote: an"
        " expression over the row, or one by column",
    )

    # Statements are read once for each plan: the sections are keys of a cache.
    def __hash__(self) -> int:
        return hash((self.sql, self.undo, self.phase, self.down_by_column))

    @property
    def down_by_column(self) -> tuple[tuple[str, str], ...]:
        """The expressions; the name is empty for any column."""
        given = self.down if isinstance(self.down, dict) else {"": self.down}
        return tuple((column, expression) for column, expression in given.items() if expression)


class OperationsPlan(SingleImagePlan):
    """Expand/contract by operations: each statement runs in its online form, in the phase where it harms nobody.

    V1 is the image that runs at the start. V2, the plan's image, is rolled out in cutover.
    """

    strategy: Literal["expand-contract"] = "expand-contract"
    operations: tuple[OperationSection, ...] = Field(min_length=1, description="the migration, statement by statement")

    @field_validator("operations", mode="before")
    @classmethod
    def _parse_operations(cls, value: Any) -> Any:
        items = [value] if isinstance(value, str | dict) else value
        return (
            [{"sql": each} if isinstance(each, str) else each for each in items] if isinstance(items, list) else items
        )
