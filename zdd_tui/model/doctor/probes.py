"""Probes and shutdown of a pod: what its Deployment declares, and what was tried."""

from collections.abc import Iterator

from zdd_tui.model.doctor.evidence import list_images
from zdd_tui.model.doctor.facts import (
    DoctorFacts,
    Evidence,
    Observation,
    WorkloadFacts,
    fail_observation,
    inconclusive_observation,
    pass_observation,
)
from zdd_tui.model.duration import format_duration
from zdd_tui.model.release.gate import Verdict

READINESS_TRIAL = "readiness"
"""Id of the trial: a process was probed with its database away."""

SHUTDOWN_TRIAL = "shutdown"
"""Id of the trial: a process was sent SIGTERM."""


def check_probes(facts: DoctorFacts) -> Iterator[Observation]:
    """Pitfall 3."""
    workload = facts.workload.value
    if workload is None:
        yield facts.workload.as_unknown
        return
    yield from check_declared_probes(workload)
    yield from check_trials(facts, READINESS_TRIAL, "readiness with its database away")
    yield from check_shutdown(workload)


def check_declared_probes(workload: WorkloadFacts) -> Iterator[Observation]:
    if not workload.readiness:
        yield fail_observation(
            "no readinessProbe: a pod gets requests before it can serve them", "add one that calls /ready"
        )
    if not workload.liveness:
        yield fail_observation(
            "no livenessProbe: a process that hangs is not restarted", "add one that calls /health, and no dependency"
        )
    if workload.readiness and workload.liveness:
        if workload.readiness == workload.liveness:
            yield fail_observation(
                f"readiness and liveness are the same, {workload.readiness}: a dependency that is away restarts pods",
                "let readiness call /ready, which checks dependencies, and liveness /health, which checks none",
            )
        else:
            yield pass_observation(f"readiness calls {workload.readiness}, liveness {workload.liveness}")
    if workload.startup:
        yield pass_observation(f"startup calls {workload.startup}")
    else:
        yield fail_observation(
            "no startupProbe: a slow start is killed by liveness, or liveness must be slack for ever", "add one"
        )


def check_shutdown(workload: WorkloadFacts) -> Iterator[Observation]:
    """preStop, drain and the grace period that must hold them."""
    hook, grace = workload.pre_stop, format_duration(workload.grace)
    if hook is None:
        yield fail_observation(
            "no preStop: the pod stops before endpoints are updated",
            "add lifecycle.preStop.sleep of a few seconds",
        )
        before: float | None = 0.0
    else:
        yield pass_observation(f"preStop: {hook.action}")
        before = hook.seconds
    if before is None:
        yield inconclusive_observation(
            f"the duration of preStop is unknown; the grace period is {grace}", "use preStop.sleep"
        )
        return
    if workload.drain is None:
        if before >= workload.grace:
            yield fail_observation(f"preStop takes {before:g} s, the grace period is {grace}", "raise the grace period")
            return
        yield inconclusive_observation(
            f"the drain time of the application is unknown; after preStop it has {workload.grace - before:g} s",
            "set kubernetes.drain in the plan",
        )
        return
    text = f"preStop {before:g} s and drain {workload.drain:g} s in a grace period of {workload.grace:g} s"
    if before + workload.drain < workload.grace:
        yield pass_observation(text)
    else:
        yield fail_observation(f"{text}: the last requests are cut off", "raise terminationGracePeriodSeconds")


def check_trials(facts: DoctorFacts, item_id: str, description: str) -> Iterator[Observation]:
    """The newest trial of each image; only a trial proves what a process does."""
    history = facts.history.value
    trials: dict[str, Evidence] = {}
    for evidence in history.evidence if history else ():
        if evidence.source == "trial" and evidence.item_id == item_id:
            trials[evidence.subject] = max(evidence, trials.get(evidence.subject, evidence), key=lambda each: each.at)
    untried: list[str] = []
    for _, image in list_images(facts.plan, facts.workload.value):
        if image not in trials:
            untried.append(image)
            continue
        trial = trials[image]
        text = f"{description}, tried with {image}: {trial.text}"
        if trial.verdict == Verdict.PASS:
            yield pass_observation(text)
        else:
            yield fail_observation(text, "fix the application; zdd_tui.service does this part")
    if untried:
        yield inconclusive_observation(
            f"{description} was not tried with {', '.join(untried)}", "try it in a test environment"
        )
