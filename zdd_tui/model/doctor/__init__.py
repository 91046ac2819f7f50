"""The doctor: seven pitfalls and eight points of a release checklist, evaluated by collected facts. Pure.

:mod:`.facts` holds what is collected, :mod:`.pitfalls` and :mod:`.checklist` are the two tables of rules,
:mod:`.workload` reads what Kubernetes answered.
"""

from zdd_tui.model.doctor.checklist import CHECKLIST, check_checklist
from zdd_tui.model.doctor.facts import DoctorFacts, Fact, Finding, Observation, Report
from zdd_tui.model.doctor.pitfalls import PITFALLS, check_pitfalls

__all__ = ["CHECKLIST", "PITFALLS", "DoctorFacts", "Fact", "Finding", "Observation", "Report", "examine_facts"]


def examine_facts(facts: DoctorFacts) -> Report:
    """Evaluates what was collected."""
    return Report(facts.plan.name, facts.plan_hash, facts.now, check_pitfalls(facts), check_checklist(facts))
