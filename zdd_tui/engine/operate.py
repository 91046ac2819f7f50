"""An operator's command from the shell: show what will run, ask, send, and say what came of it."""

import sys

from zdd_tui.backends.store import Store
from zdd_tui.engine.actor import this_actor
from zdd_tui.model.action import Danger, action
from zdd_tui.model.errors import Refused, ZddError
from zdd_tui.model.plan_file import LoadedPlan
from zdd_tui.model.preview import preview
from zdd_tui.model.records import ReleaseRecord
from zdd_tui.model.release import CommandKind, Expected

EXIT_TIMEOUT = 4


async def find_release(store: Store, loaded: LoadedPlan) -> int:
    """The newest release of the plan's name.

    Raises:
        ZddError: there is none yet.
    """
    found = await store.find(loaded.plan.name) if await store.schema_version() else None
    if found is None:
        raise ZddError(
            f"{store.place} has no release {loaded.plan.name}",
            f"start it with `zdd open {loaded.source}` or `zdd agent {loaded.source}`",
        )
    return found


def expected_of(record: ReleaseRecord) -> Expected:
    """What the operator sees now, to be rechecked when the agent takes the command."""
    return Expected(record.release.plan_hash, record.release.state, record.release.phase)


async def operate(loaded: LoadedPlan, verb: str, *, reason: str, typed: str | None, yes: bool, timeout: float) -> int:
    """Sends one command and waits for the agent's answer.

    Returns:
        0 done, 1 refused, 4 no answer within ``timeout`` seconds.
    """
    kind = CommandKind(verb)
    async with await Store.open(loaded.plan.database.dsn.get_secret_value()) as store:
        release_id = await find_release(store, loaded)
        record = await store.read(release_id)
        if record.release.plan_hash != loaded.hash:
            raise Refused(
                f"{loaded.source} is not the plan that release {record.release.name} runs",
                "use the file it was started with, or roll back and start the new one",
            )
        lines = preview(loaded.plan, record.release, kind)
        if action(verb).danger is not Danger.PLAIN and not yes:
            _confirm(lines)
        command_id = await store.send(
            release_id,
            kind,
            actor=this_actor(),
            reason=reason,
            expected=expected_of(record),
            typed=typed,
            targets={"preview": list(lines)},
        )
        answer = await store.wait_command(command_id, timeout)
    if answer.status == "queued":
        told = f"no answer within {timeout:.0f} s; {_agent_state(record)}; the command stays queued"
        sys.stderr.write(f"zdd: {told}\n")
        return EXIT_TIMEOUT
    if answer.status == "refused":
        sys.stderr.write(f"zdd: refused: {answer.outcome}\n")
        return 1
    sys.stdout.write(f"{verb}: {answer.outcome}\n")
    return 0


def _agent_state(record: ReleaseRecord) -> str:
    lease = record.lease
    if lease is None or not lease.live:
        return "no agent holds the lease"
    return f"agent {lease.holder}@{lease.host} (pid {lease.pid}) holds the lease"


def _confirm(lines: tuple[str, ...]) -> None:
    sys.stdout.write("This will run:\n" + "".join(f"  {line}\n" for line in lines))
    if not sys.stdin.isatty():
        raise ZddError("nobody is there to confirm it", "add --yes")
    if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Refused("not confirmed; nothing was done")
