"""The registry of all tools, in the order in which a directory is compared with them."""

from collections.abc import Sequence

from zdd_tui.model.errors import PlanError
from zdd_tui.model.migrations.alembic import Alembic
from zdd_tui.model.migrations.base import MigrationTool
from zdd_tui.model.migrations.dbmate import Dbmate
from zdd_tui.model.migrations.django import Django
from zdd_tui.model.migrations.flyway import Flyway
from zdd_tui.model.migrations.golang_migrate import GolangMigrate
from zdd_tui.model.migrations.goose import Goose
from zdd_tui.model.migrations.plain import Plain
from zdd_tui.model.migrations.prisma import Prisma
from zdd_tui.model.migrations.rails import Rails
from zdd_tui.model.migrations.sqlx import Sqlx

TOOLS: Sequence[MigrationTool] = (
    Prisma(),
    Alembic(),
    Django(),
    Rails(),
    Flyway(),
    Goose(),
    Dbmate(),
    GolangMigrate(),
    Sqlx(),
    Plain(),
)


def find_tool(name: str) -> MigrationTool:
    """
    Raises:
        PlanError: there is no such tool.
    """
    for tool in TOOLS:
        if tool.name == name:
            return tool
    raise PlanError(f"zdd knows no tool {name!r}", f"one of: {', '.join(tool.name for tool in TOOLS)}")


def describe_searched() -> str:
    """What is looked for, tool by tool."""
    return "; ".join(f"{tool.name}: {tool.looks_for}" for tool in TOOLS)
