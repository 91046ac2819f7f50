"""Which environments are production: where the rules are strictest, and the screen is read-only until unlocked."""

import re

_WORDS = frozenset({"prod", "production", "prd", "live"})
_BEFORE = frozenset({"pre", "non", "not", "no", "pseudo"})
_AFTER = frozenset({"like", "copy", "clone"})
_SPLIT = re.compile(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])")


def is_production(name: str) -> bool:
    """Whether an environment of this name is production: ``prod``, ``production``, ``prd`` or ``live`` as a word of
    it, in any case, such as ``prod-eu`` or ``shop_Production2``; but not ``preprod``, ``non-prod`` or ``prod-like``.
    """
    words = [word.lower() for word in _SPLIT.split(name) if word]
    for at, word in enumerate(words):
        before = words[at - 1] if at else ""
        after = words[at + 1] if at + 1 < len(words) else ""
        if word in _WORDS and before not in _BEFORE and after not in _AFTER:
            return True
    return False
