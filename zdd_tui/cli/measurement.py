"""How the verbs measure locks."""

import os
import re
from functools import partial

from zdd_tui.checks.locks import LockMeasurement
from zdd_tui.model.errors import ZddError
from zdd_tui.rehearsal.measure_locks import measure_migration

DSN_VARIABLE = re.compile(r"^\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?$")
"""An option's value that names an environment variable."""


def lock_measurement(scratch_dsn: str = "", *, only_opaque: bool = False) -> LockMeasurement:
    """The measurement on a copy of the schema.

    Args:
        scratch_dsn: address of the server for the copy, or ``${NAME}``; empty for the embedded one.
        only_opaque: only for statements that no rule can evaluate.
    """
    address = resolve_dsn(scratch_dsn, "--scratch-dsn")
    return LockMeasurement(partial(measure_migration, scratch_dsn=address), only_opaque)


def resolve_dsn(dsn: str, option: str) -> str:
    """The address, from the environment where a variable is named.

    Raises:
        ZddError: the variable is not set.
    """
    if (match := DSN_VARIABLE.match(dsn)) is None:
        return dsn
    value = os.environ.get(match[1])
    if not value:
        raise ZddError(f"{option}: the environment variable {match[1]} is not set", f"export {match[1]}=…")
    return value
