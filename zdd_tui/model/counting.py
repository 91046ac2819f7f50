"""Numbers with their nouns, and lists of which a part is shown, for texts."""

from collections.abc import Sequence


def count_noun(number: int, noun: str, plural: str = "") -> str:
    """``1 row``, ``1,200 rows``.

    Args:
        plural: where it is not the noun with an ``s``.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def count_up_to(number: int, limit: int, noun: str) -> str:
    """As :func:`count_noun`; ``1,000 rows or more`` where the counting stopped at ``limit``."""
    more = " or more" if number >= limit else ""
    return count_noun(number, f"{noun}{more}", f"{noun}s{more}")


def format_list(items: Sequence[object], max_shown: int = 3) -> str:
    """The first few items, and how many more there are."""
    text = "; ".join(str(item) for item in items[:max_shown])
    return text + (f"; and {len(items) - max_shown} more" if len(items) > max_shown else "")
