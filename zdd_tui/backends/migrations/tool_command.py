"""Runs a migration tool's own command: without a shell, with a limit of time and of output."""

import asyncio
import contextlib
import os
import shlex
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence

from zdd_tui.model.errors import ZddError
from zdd_tui.model.masking import mask_text

TOOL_TIMEOUT = 120.0
"""Seconds for one command."""
MAX_OUTPUT_BYTES = 8 * 1_048_576
_MAX_ERROR_BYTES = 65_536
_END_SECONDS = 5.0


def split_command(text: str) -> tuple[str, ...]:
    """The words of ``--tool-command``. A program with a path is looked up from where the operator is.

    Raises:
        ZddError: a quotation mark is not closed, or there is no word.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ZddError(f"--tool-command: {error}", "write it as in a shell: 'python manage.py'") from None
    if not words:
        raise ZddError("--tool-command is empty", "write the program: 'python manage.py'")
    if os.sep in words[0]:
        words[0] = os.path.abspath(words[0])
    return tuple(words)


async def run_tool_command(
    command: Sequence[str],
    folder: str,
    *,
    timeout: float = TOOL_TIMEOUT,
    max_bytes: int = MAX_OUTPUT_BYTES,
) -> str:
    """What a command prints to its standard output.

    Args:
        folder: where it runs.
        timeout: seconds.

    Raises:
        ZddError: it cannot be started, fails, prints too much or takes too long; it is ended then, with its children.
    """
    shown = mask_text(shlex.join(command))
    try:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
    except OSError as error:
        raise ZddError(f"{command[0]} cannot be started: {error.strerror}", "check --tool-command") from None
    reads = (
        asyncio.create_task(_read(process.stdout, max_bytes)),
        asyncio.create_task(_read_tail(process.stderr)),
    )
    try:
        async with asyncio.timeout(timeout):
            output, errors = await asyncio.gather(*reads)
            code = await process.wait()
    except TimeoutError:
        raise ZddError(
            f"{shown} did not finish within {timeout:g} s", "run it yourself to see what it waits for"
        ) from None
    except _TooLong:
        raise ZddError(f"{shown} printed more than {max_bytes // 1024:,} kB", "check --tool-command") from None
    finally:
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        await _end(process)
    if code:
        lines = [mask_text(line).strip() for line in errors.decode(errors="replace").splitlines()]
        reason = next((line for line in reversed(lines) if line), f"exit code {code}")
        raise ZddError(f"{shown} failed: {reason}", "run it yourself to see all that it prints")
    try:
        return output.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ZddError(f"{shown} printed no UTF-8 text (byte {error.start})", "set PYTHONUTF8=1") from None


class _TooLong(Exception):
    pass


async def _read(stream: asyncio.StreamReader | None, max_bytes: int) -> bytes:
    assert stream is not None
    content = b""
    while chunk := await stream.read(65_536):
        content += chunk
        if len(content) > max_bytes:
            raise _TooLong
    return content


async def _read_tail(stream: asyncio.StreamReader | None) -> bytes:
    """The last part of what it prints, however much that is."""
    assert stream is not None
    content = b""
    while chunk := await stream.read(65_536):
        content = (content + chunk)[-_MAX_ERROR_BYTES:]
    return content


async def _end(process: Process) -> None:
    """Ends it with its children, where it still runs.

    asyncio reports the end of a process once its pipes have ended, and a pipe that nobody reads does not end. One that
    a process outside of the session holds open is left.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            await asyncio.gather(_read_tail(process.stdout), _read_tail(process.stderr))
            await process.wait()
