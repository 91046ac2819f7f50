"""Servers that freeze: they run, and answer nothing."""

import signal

import psutil


def freeze_processes(pid: int | None, how: signal.Signals = signal.SIGSTOP) -> None:
    """Stops a process and everything that it has started; SIGCONT continues them."""
    assert pid is not None, "the server does not run"
    parent = psutil.Process(pid)
    for process in (parent, *parent.children(recursive=True)):
        process.send_signal(how)
