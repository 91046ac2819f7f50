"""Whether an environment is production, where the rules are strictest and the screen stays locked until unlocked."""

import re

_PRODUCTION_WORDS = frozenset({"prod", "production", "prd", "live"})
_NEGATING_PREFIXES = frozenset({"pre", "non", "not", "no", "pseudo"})
_NEGATING_SUFFIXES = frozenset({"like", "copy", "clone"})
_SPLIT = re.compile(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])")


def is_production(name: str, declared: bool | None = None) -> bool:
    """Whether an environment is production: what the plan declares; its name decides only where the plan is silent."""
    return is_production_name(name) if declared is None else declared


def is_production_name(name: str) -> bool:
    """Whether a name suggests production: ``prod``, ``production``, ``prd`` or ``live`` as a word of
    it, in any case, such as ``prod-eu`` or ``shop_Production2``; but not ``preprod``, ``non-prod`` or ``prod-like``.
    """
    words = [word.lower() for word in _SPLIT.split(name) if word]
    for at, word in enumerate(words):
        before = words[at - 1] if at else ""
        after = words[at + 1] if at + 1 < len(words) else ""
        if word in _PRODUCTION_WORDS and before not in _NEGATING_PREFIXES and after not in _NEGATING_SUFFIXES:
            return True
    return False
