"""The plan of a migration: the SQL that a team wrote, with or without the rollout of the version that needs it.

:mod:`zdd_tui.model.operations` reads the SQL.
"""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from zdd_tui.model.errors import with_hint
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.base import AcceptingPlan, BackfillOfTables
from zdd_tui.model.plan.guard import Source
from zdd_tui.model.plan.section import PlanSection, Strings
from zdd_tui.model.plan.strategies import SingleImagePlan


class PartitionSection(PlanSection):
    """A table that becomes a partitioned one. Nothing but its rows moves: it keeps its name."""

    table: str = Field(min_length=1, description="the table, such as public.events")
    by: str = Field(min_length=1, description="the partition key, as after PARTITION BY: RANGE (created_at)")
    partitions: dict[str, str] = Field(
        min_length=1, description="name: bound, as after FOR VALUES, such as FROM (0) TO (100); or DEFAULT"
    )
    key: Strings = Field((), description="columns of the new primary key; default: that of the table")

    def __hash__(self) -> int:
        return hash((self.table, self.by, tuple(self.partitions.items()), self.key))

    @property
    def statements(self) -> str:
        """SQL that defines the same partitions."""
        bounds = {
            name: bound if bound.strip().upper().startswith(("FOR ", "DEFAULT")) else f"FOR VALUES {bound}"
            for name, bound in self.partitions.items()
        }
        parts = (f"CREATE TABLE {name} PARTITION OF partitioned {bound};" for name, bound in bounds.items())
        return f"CREATE TABLE partitioned (LIKE {self.table}) PARTITION BY {self.by}; {' '.join(parts)}"


class OperationSection(PlanSection):
    """One or several SQL statements; a plan may write them without a mapping."""

    sql: str = Field("", min_length=1, description="the statements, as in a migration file")
    partition: PartitionSection | None = Field(None, description="instead of sql: a table that becomes partitioned")
    undo: Strings | None = Field(
        None, description="statements that take it back, where zdd cannot derive them; [] says that nothing has to be"
    )
    down: str | dict[str, str] = Field(
        "",
        description="for a rollback, an SQL expression over the row, or one by column: of DROP COLUMN and DROP NOT NULL"
        " what NULL becomes in a column that was NOT NULL; of ALTER COLUMN … TYPE the old value; default: assignment",
    )
    phase: Phase | None = Field(
        None,
        description="where a statement with an undo of its own runs, as one; default: expand, or batches; contract also"
        " makes statements of views and functions, with rights and comments, wait for the end of the older version",
    )
    repair: dict[str, str] = Field(
        {}, description="column: SQL expression of its value in rows that the statement's constraint would refuse"
    )

    # Statements are read once for each plan: the sections are keys of a cache.
    def __hash__(self) -> int:
        return hash((self.sql, self.partition, self.undo, self.down_by_column, self.phase, tuple(self.repair.items())))

    @model_validator(mode="after")
    def _require_one_form(self) -> Self:
        if bool(self.sql) == (self.partition is not None):
            raise ValueError("an operation has sql or partition")
        if self.partition is not None and (self.undo is not None or self.down or self.phase or self.repair):
            raise ValueError("an operation with partition has no other key: zdd knows its phases and its undo")
        return self

    @property
    def statements(self) -> str:
        """The SQL that names what the operation changes."""
        return self.partition.statements if self.partition is not None else self.sql

    @property
    def down_by_column(self) -> tuple[tuple[str, str], ...]:
        """The expressions; the name is empty for any column."""
        given = self.down if isinstance(self.down, dict) else {"": self.down}
        return tuple((column, expression) for column, expression in given.items() if expression)


class BaseOperationsPlan(AcceptingPlan):
    """Expand/contract by operations: each statement runs in its online form, in the phase where it harms nobody."""

    strategy: Literal["expand-contract"] = "expand-contract"
    operations: tuple[OperationSection, ...] = Field(min_length=1, description="the migration, statement by statement")
    backfill: BackfillOfTables = Field(BackfillOfTables(), description="how fast rows get values in batches")

    @field_validator("operations", mode="before")
    @classmethod
    def _parse_operations(cls, value: Any) -> Any:
        items = [value] if isinstance(value, str | dict) else value
        return (
            [{"sql": each} if isinstance(each, str) else each for each in items] if isinstance(items, list) else items
        )


class OperationsPlan(BaseOperationsPlan, SingleImagePlan):
    """A migration and the rollout of the version that needs it.

    V1 is the image that runs at the start. V2, the plan's image, is rolled out in cutover.
    """

    strategy: Literal["expand-contract"] = "expand-contract"


class SchemaPlan(BaseOperationsPlan):
    """A migration without a rollout: the application that runs is the only version, and zdd sees none of its pods."""

    strategy: Literal["expand-contract"] = "expand-contract"

    @model_validator(mode="after")
    def _check_guard_sources(self) -> Self:
        sources = self.guard.sources if self.guard is not None else None
        for rule in self.guard.rules if self.guard is not None else ():
            is_url = sources is not None and sources.probe is not None and sources.probe.url is not None
            if not (rule.effective_source is Source.PROMETHEUS or (rule.effective_source is Source.PROBE and is_url)):
                raise ValueError(
                    with_hint(
                        f"guard rule {rule.name} measures pods, and a plan without `kubernetes` has none",
                        "use metric: query, or a probe with a url",
                    )
                )
        return self
