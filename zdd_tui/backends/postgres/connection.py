"""Connections to PostgreSQL, and a message with a hint for every way in which they fail.

Messages name the server as :func:`describe_dsn` does, ``user@host:port/db``; they never contain a password.
"""

import getpass
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from socket import gaierror
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from zdd_tui.model.errors import DatabaseError, DatabaseUnavailable
from zdd_tui.model.masking import mask_error

T = TypeVar("T")

Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy
"""A connection of its own, or one of a pool."""

Pool: TypeAlias = asyncpg.Pool

Row: TypeAlias = asyncpg.Record | Mapping[str, Any]
"""A row of a result, or the same from JSON."""

CONNECTION_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Raised by asyncpg for a server that is unreachable or refuses; TimeoutError is an OSError."""

UNPARSABLE_DSN_TEXT = "the configured dsn"
_HOST = re.compile(r"^(\[[0-9A-Fa-f:.%]+\]|[\w.-]*)(:\d+)?$")

SESSION_LOST_ERRORS: Final = (
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,  # asyncpg expects no message right before the server closes the connection
    ConnectionError,
)
"""The session has ended. An InterfaceError says so only in its text: see :func:`is_session_lost`."""


def describe_dsn(dsn: str) -> str:
    """``user@host:port/db``, safe for screens; an ambiguous DSN is not quoted at all."""
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return UNPARSABLE_DSN_TEXT
    if parts.scheme not in ("postgresql", "postgres") or parts.fragment or "@" in parts.path + parts.query:
        return UNPARSABLE_DSN_TEXT
    login, _, hosts = parts.netloc.rpartition("@")
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    hosts = unquote(hosts) or query.get("host") or os.environ.get("PGHOST") or "localhost"
    if not hosts.startswith("/"):
        if not all(_HOST.match(host) for host in hosts.split(",")):
            return UNPARSABLE_DSN_TEXT
        port = query.get("port") or os.environ.get("PGPORT") or "5432"
        hosts = ",".join(host if re.search(r":\d+$", host) else f"{host}:{port}" for host in hosts.split(","))
    user = unquote(login.partition(":")[0]) or query.get("user") or os.environ.get("PGUSER") or getpass.getuser()
    database = unquote(parts.path.lstrip("/")) or query.get("dbname") or query.get("database")
    return f"{user}@{hosts}/{database or os.environ.get('PGDATABASE') or user}"


async def connect(
    dsn: str, *, application_name: str, timeout: float = 5.0, statement_cache_size: int = 100, **settings: str
) -> asyncpg.Connection:
    """Opens a connection; ``settings`` are server settings such as ``lock_timeout="200ms"``.

    Args:
        timeout: seconds for the whole attempt.

    Raises:
        DatabaseError: unreachable, wrong password, unknown database, too many connections, TLS, timeout, bad DSN.
    """
    return await _connect_with_timeout(
        dsn,
        timeout,
        lambda: asyncpg.connect(
            dsn,
            timeout=timeout,
            statement_cache_size=statement_cache_size,
            server_settings={"application_name": application_name, **settings},
        ),
    )


async def create_pool(
    dsn: str,
    application_name: str,
    max_size: int = 4,
    idle_in_transaction_ms: int | None = None,
    *,
    timeout: float = 5.0,
    command_timeout: float | None = None,
    init: Callable[[Connection], Awaitable[None]] | None = None,
    keep_session: bool = False,
    **settings: str,
) -> Pool:
    """Opens a pool whose sessions all have ``application_name`` and ``settings``.

    Args:
        idle_in_transaction_ms: the server ends a session that idles in a transaction for longer.
        timeout: seconds to connect.
        command_timeout: seconds for one statement, where all statements are short.
        init: called with each new connection; whoever acquires that connection gets its errors.
        keep_session: skip the reset between two users of a connection (one round trip);
            only where no user changes session state.

    Raises:
        DatabaseError: as for :func:`connect`.
    """
    if idle_in_transaction_ms is not None:
        settings["idle_in_transaction_session_timeout"] = str(idle_in_transaction_ms)

    async def start() -> Pool:
        pool: Pool = await asyncpg.create_pool(
            dsn,
            # asyncpg keeps a minimum open in the background, and logs to the terminal when it cannot.
            min_size=0,
            max_size=max_size,
            timeout=timeout,
            command_timeout=command_timeout,
            init=init,  # type: ignore[arg-type]  # the stubs want a parameter named con
            reset=_no_reset if keep_session else None,
            server_settings={"application_name": application_name, **settings},
        )
        try:
            async with pool.acquire():
                return pool
        except BaseException:
            pool.terminate()
            raise

    return await _connect_with_timeout(dsn, timeout, start)


async def _no_reset(_connection: object) -> None:
    pass


async def _connect_with_timeout(dsn: str, timeout: float, connect: Callable[[], Awaitable[T]]) -> T:
    try:
        return await connect()
    except (*CONNECTION_ERRORS, ValueError, OverflowError) as error:  # OverflowError: a port beyond 65535
        failure = translate_error(error, dsn, timeout=timeout)
    # Raised outside of the handler, so that the original, which may quote the DSN, is not its context.
    raise failure


@contextmanager
def translate_errors(dsn: str) -> Iterator[None]:
    """Turns asyncpg's errors into a DatabaseError that names the server."""
    try:
        yield
    except CONNECTION_ERRORS as error:
        raise translate_error(error, dsn) from None


def is_session_lost(error: BaseException) -> bool:
    """Whether the session was ended by the server, by the network or by us."""
    if isinstance(error, asyncpg.InterfaceError):
        # A pool takes a connection back as soon as it is closed; its user is told that it was released.
        return (
            not isinstance(error, asyncpg.ClientConfigurationError)
            and re.search("clos|released back to the pool", str(error)) is not None
        )
    return isinstance(error, SESSION_LOST_ERRORS)


# --- one sentence and one hint for each failure ----------------------------------------------------------------

POOLER_ERROR = (
    "is reached through a pooler in transaction mode, which loses LISTEN, leases and session settings",
    "point dsn at the server itself or at a session-mode pool",
)

_ERROR_TEXTS: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((ssl.SSLError,), "does not agree on TLS: {error}", "check sslmode and sslrootcert in the dsn"),
    ((TimeoutError,), "does not respond within {timeout:g} s", "check host, port and firewall"),
    ((gaierror,), "has a host name that does not resolve", "check the host in the dsn"),
    ((ConnectionRefusedError,), "refuses connections", "check host and port, and that the server runs"),
    (
        (asyncpg.InvalidPasswordError,),
        "does not accept the password of role {user}",
        "check the secret that fills the dsn",
    ),
    ((asyncpg.InvalidAuthorizationSpecificationError,), "refuses the login: {error}", "check role and pg_hba.conf"),
    ((asyncpg.InvalidCatalogNameError,), "is a database that does not exist", "check the database name in the dsn"),
    (
        (asyncpg.TooManyConnectionsError,),
        "has no free connection",
        "close sessions, or raise max_connections or the role's CONNECTION LIMIT",
    ),
    ((asyncpg.CannotConnectNowError,), "is starting or stopping: {error}", "wait a moment, then retry"),
    (
        (asyncpg.ReadOnlySQLTransactionError,),
        "is read-only (a standby, or set so): it accepts no writes",
        "point dsn at the primary",
    ),
    (
        (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError),
        "has no complete zdd schema: {error}",
        "start the release with `zdd agent PLAN`, which creates the schema",
    ),
    (
        (asyncpg.InsufficientPrivilegeError,),
        "refuses role {user}: {error}",
        "use the role that owns the zdd schema, or grant its rights to this role; see config/postgres/roles.sql",
    ),
    ((asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError), *POOLER_ERROR),
    (
        (asyncpg.IdleInTransactionSessionTimeoutError,),
        "ended zdd's session because it was idle in a transaction",
        "no action needed: the agent was suspended; it continues if it still holds the lease",
    ),
    (
        (asyncpg.AdminShutdownError, asyncpg.CrashShutdownError),
        "ended zdd's session: {error}",
        "another agent has taken over, or the server restarts: retry",
    ),
)


def translate_error(error: BaseException, dsn: str, *, timeout: float = 10.0) -> DatabaseError:
    """The DatabaseError for what asyncpg or the operating system raised."""
    place = describe_dsn(dsn)
    if isinstance(error, ValueError) and "certificate" in str(error):
        return DatabaseError(
            f"{place}: the TLS settings name a certificate or key that cannot be used",
            "check sslmode, sslrootcert, sslcert and sslkey in the dsn",
        )
    if isinstance(error, ValueError | OverflowError):
        # The original text may quote parts of the DSN.
        return DatabaseError(
            f"{place} is not a usable dsn", "write postgresql://user:password@host:port/database, escaped as a URL"
        )
    text = _mask_dsn(str(error).splitlines()[0] if str(error) else type(error).__name__, dsn)
    if "unsupported startup parameter" in text or "statement pooling mode" in text:
        return pooler_error(dsn)
    if "SSL upgrade" in text:
        return DatabaseError(f"{place} does not offer TLS", "set sslmode=prefer, or enable ssl on the server")
    user = place.rpartition("@")[0] or "?"
    is_unavailable = is_session_lost(error) or isinstance(
        error, (OSError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError)
    )
    kind = DatabaseUnavailable if is_unavailable and not isinstance(error, (ssl.SSLError, gaierror)) else DatabaseError
    for kinds, sentence, hint in _ERROR_TEXTS:
        if isinstance(error, kinds):
            return kind(f"{place} {sentence.format(error=text, user=user, timeout=timeout)}", hint)
    if is_session_lost(error):
        detail = "" if isinstance(error, asyncpg.InterfaceError) else f" ({text})"  # it names a call, not a cause
        return kind(f"{place}: the connection is lost{detail}", "check the network; zdd retries")
    if isinstance(error, OSError):
        return kind(f"{place} cannot be reached: {text}", "check host, port and network")
    return kind(f"{place}: {text}")


def pooler_error(dsn: str) -> DatabaseError:
    return DatabaseError(f"{describe_dsn(dsn)} {POOLER_ERROR[0]}", POOLER_ERROR[1])


def _mask_dsn(text: str, dsn: str) -> str:
    try:
        urlsplit(dsn)
    except ValueError:
        return "details withheld: the dsn cannot be read"
    if from_environment := os.environ.get("PGPASSWORD"):
        text = re.sub(rf"(?<!\w){re.escape(from_environment)}(?!\w)", "***", text)
    return mask_error(text, dsn)


# --- poolers ---------------------------------------------------------------------------------------------------

_BACKEND_IDENTITY = "SELECT pid || ' ' || backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_ROUNDS = 3
_ROUNDS_BEHIND_POOLER = 25


async def refuse_pooler(connection: Connection, dsn: str, *, timeout: float = 5.0) -> None:
    """Checks that this session owns its backend.

    A second session competes for it: it opens transactions while the first one reads the id of its backend. A direct
    session keeps one backend that no other session has. A transaction-mode pooler breaks one of the two rules in the
    first round when it is idle (it assigns the backend used last), and by chance in each round when it is busy. So the
    rounds are many wherever the server named another process at the login than the one that answers, as behind every
    pooler: also one in session mode, which passes.

    Raises:
        DatabaseError: the connection goes through a transaction-mode (or statement-mode) pooler.
    """
    rival = await connect(dsn, application_name="zdd probe", timeout=timeout, statement_cache_size=0)
    try:
        with translate_errors(dsn):
            first = await _read_backend_identity(connection, timeout)
            ours, theirs = {first}, set[str]()
            is_as_announced = first.split()[0] == str(connection.get_server_pid())
            for _ in range(_ROUNDS if is_as_announced else _ROUNDS_BEHIND_POOLER):
                async with rival.transaction():
                    theirs.add(await _read_backend_identity(rival, timeout))
                    # In this order a pool with one backend is detected before we would wait for that backend.
                    if not ours & theirs:
                        ours.add(await _read_backend_identity(connection, timeout))
                if len(ours) > 1 or len(theirs) > 1 or ours & theirs:
                    raise pooler_error(dsn)
    finally:
        rival.terminate()


async def _read_backend_identity(connection: Connection, timeout: float) -> str:
    return str(await connection.fetchval(_BACKEND_IDENTITY, timeout=timeout))
