"""The lines that every headless report of a release shares."""

from typing import Any


def load_summary(load: dict[str, Any]) -> dict[str, Any]:
    """What a report keeps of the load's account, see :mod:`zdd_tui.demo.load.stats`; times in ms and seconds."""
    return {
        "requests": load["requests"],
        "failures": load["failures"],
        "failure_samples": load["failure_samples"][:5],
        "wrong_answers": load["wrong"],
        "wrong_samples": load["wrong_samples"][:5],
        "p50_ms": load["total"]["p50_ms"],
        "p99_ms": load["total"]["p99_ms"],
        "load_seconds": load["seconds"],
    }


def load_report_lines(report: dict[str, Any]) -> list[str]:
    """What the load saw."""
    return [
        f"  requests       {report['requests']:,}",
        f"  failures       {report['failures']}",
        f"  wrong answers  {report['wrong_answers']}",
        f"  p50 / p99      {report['p50_ms']} / {report['p99_ms']} ms",
    ]


def doctor_report_lines(report: dict[str, Any]) -> list[str]:
    """What the doctor counts, and a line for everything that is not well or could not be seen."""
    doctor = report["doctor"]
    counts = ", ".join(f"{number} {verdict}" for verdict, number in doctor["counts"].items())
    return [f"  doctor         {counts}", *(f"    {line}" for line in doctor["open"])]


def rollback_and_phase_lines(report: dict[str, Any]) -> list[str]:
    """The rehearsed rollback, the phases, and a line for everything that is not as it should be."""
    rehearsal = report["rollback_rehearsal"]
    return [
        f"  rollback       from {rehearsal['from']} in {rehearsal['rollback_seconds']} s,"
        f" {len(rehearsal['differences'])} differences",
        "  phases         " + ", ".join(f"{name} {seconds} s" for name, seconds in report["release"]["phases"].items()),
        *doctor_report_lines(report),
        *(f"  ✗ {line}" for line in rehearsal["differences"]),
        *(f"  ✗ failed: {sample}" for sample in report["failure_samples"]),
        *(f"  ✗ wrong: {sample}" for sample in report["wrong_samples"]),
    ]
