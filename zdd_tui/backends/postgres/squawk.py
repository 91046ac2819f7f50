"""squawk, a linter for PostgreSQL migrations: a program in a wheel, which reads standard input."""

import asyncio
import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zdd_tui.model.errors import ZddError

IGNORED_RULES = (
    # The lock ladder sets both timeouts; the step's record makes statements run once; the rest is style.
    "require-lock-timeout",
    "require-statement-timeout",
    "require-timeout-settings",
    "prefer-robust-stmts",
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "prefer-identity",
    "prefer-text-field",
    "prefer-timestamp-tz",
)
SQUAWK_TIMEOUT = 20.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class SquawkViolation:
    """A violation of one of squawk's rules by a statement.

    Attributes:
        statement_number: counted from 1.
        level: `Warning` or `Error` (it cannot be parsed).
    """

    statement_number: int
    rule: str
    level: str
    message: str
    hint: str = ""


async def run_squawk(statements: Iterable[str], *, in_transaction: bool = True) -> list[SquawkViolation]:
    """The violations in statements; rules that the engine itself satisfies are left out.

    Args:
        in_transaction: the statements run in one transaction.

    Raises:
        ZddError: the program is missing or fails.
    """
    lines: list[int] = []  # the statement that each line belongs to
    text = ""
    for number, statement in enumerate(statements, 1):
        piece = f"{statement.strip().rstrip(';')};\n"
        lines += [number] * piece.count("\n")
        text += piece
    output = await _run_process(text, in_transaction)
    try:
        raw = json.loads(output or "[]")
        return [
            SquawkViolation(
                statement_number=lines[min(item["line"], len(lines) - 1)],
                rule=item["rule_name"],
                level=item["level"],
                message=item["message"],
                hint=item["help"] or "",
            )
            for item in raw
        ]
    except (ValueError, KeyError, TypeError, IndexError):
        raise ZddError("the output of squawk is not JSON", "pip install --force-reinstall squawk-cli") from None


async def _run_process(text: str, in_transaction: bool) -> str:
    program = Path(sys.executable).with_name("squawk")
    path = str(program) if program.exists() else shutil.which("squawk")
    if path is None:
        raise ZddError("the program squawk is not installed", "pip install squawk-cli")
    process = await asyncio.create_subprocess_exec(
        *(path, "--reporter", "json", "--no-error-on-unmatched-pattern"),
        *(("--assume-in-transaction",) if in_transaction else ()),
        f"--exclude={','.join(IGNORED_RULES)}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SQUAWK_TIMEOUT):
            output, errors = await process.communicate(text.encode())
    except TimeoutError:
        raise ZddError(f"squawk did not finish within {SQUAWK_TIMEOUT:.0f} s", "run the command again") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode not in (0, 1):
        reason = errors.decode(errors="replace").strip().splitlines()
        raise ZddError(
            f"squawk failed: {reason[-1] if reason else process.returncode}", "pip install --force-reinstall squawk-cli"
        )
    return output.decode()
