"""Is the new version worse than the old one, or is that chance? The Mann-Whitney U test, by scipy.

scipy is large, and only a rule with ``rank_test`` needs it: it comes with the extra ``analysis`` and is imported when
the first such rule is judged.
"""

import importlib
import importlib.util
import math
from collections.abc import Sequence

from zdd_tui.model.errors import PlanError


def require_scipy(rule: str) -> None:
    """
    Raises:
        PlanError: scipy is not installed; names the mend.
    """
    if importlib.util.find_spec("scipy") is None:
        raise PlanError(
            f"guard.rules: rule {rule}: rank_test needs scipy, and it is not installed",
            "pip install 'zdd-tui[analysis]', or compare by ratio or difference",
        )


def chance(new: Sequence[float], old: Sequence[float]) -> float:
    """How probable it is that values so much higher as `new` come about by chance; one-sided, 0 to 1.

    Both need at least one value. Where all values are the same, it is 1.
    """
    if len({*new, *old}) == 1:
        return 1.0
    test = importlib.import_module("scipy.stats").mannwhitneyu(list(new), list(old), alternative="greater")
    found = float(test.pvalue)
    return 1.0 if math.isnan(found) else found


def least_chance(new: int, old: int) -> float:
    """The smallest that :func:`chance` can be for so many values: every new one above every old one."""
    return 1 / math.comb(new + old, new)
