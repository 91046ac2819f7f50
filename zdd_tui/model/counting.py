"""Numbers with their nouns, for texts."""


def count_noun(number: int, noun: str, plural: str = "") -> str:
    """``1 row``, ``1,200 rows``.

    Args:
        plural: where it is not the noun with an ``s``.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
