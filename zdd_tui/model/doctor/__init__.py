"""The doctor: seven pitfalls and eight points of a release checklist, judged by collected facts. Pure.

:mod:`.facts` says what is collected, :mod:`.pitfalls` and :mod:`.checklist` are the two tables of rules,
:mod:`.workload` and :mod:`.queries` read what Kubernetes and PostgreSQL answered.
"""

from zdd_tui.model.doctor.checklist import POINTS, check_points
from zdd_tui.model.doctor.facts import Facts, Finding, Look, Observation, Report
from zdd_tui.model.doctor.pitfalls import PITFALLS, look_for_pitfalls

__all__ = ["PITFALLS", "POINTS", "Facts", "Finding", "Look", "Observation", "Report", "examine_facts"]


def examine_facts(facts: Facts) -> Report:
    """Judges what was collected."""
    return Report(facts.plan.name, facts.plan_hash, facts.now, look_for_pitfalls(facts), check_points(facts))
