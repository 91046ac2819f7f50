"""The six phases of expand/contract."""

from enum import StrEnum


class Phase(StrEnum):
    """In their order."""

    EXPAND = "expand"
    DUAL_WRITE = "dual-write"
    BACKFILL = "backfill"
    CUTOVER = "cutover"
    CONTRACT = "contract"
    CLEANUP = "cleanup"
