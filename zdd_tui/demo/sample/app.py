"""Sets the application up: storage of this version, routes, lifecycle."""

import itertools
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
from aiohttp import web

from zdd_tui.demo.sample.database import ConnectionPool
from zdd_tui.demo.sample.faults import install_faults
from zdd_tui.demo.sample.settings import Settings
from zdd_tui.demo.sample.users import NewColumnUsers, NewTableUsers, OldUsers, User, UserStore, is_valid_name
from zdd_tui.service.http import attach, serve
from zdd_tui.service.lifecycle import Check, Lifecycle

if TYPE_CHECKING:
    from zdd_tui.demo.sample.version4 import ShadowedReads
    from zdd_tui.service.flags import FlagClient

MAX_ID = 2**63 - 1
LOG_EVERY_REQUESTS = 10
"""One request of this many is logged."""

_request_numbers = itertools.count()
_log = logging.getLogger(__name__)


async def run_app(settings: Settings) -> bool:
    """Serves until drained. Returns whether every request had ended by then."""
    database = ConnectionPool(settings.database_url, settings.pod)
    await database.open()
    # One pod may lose its connection to the database. When all do, the tolerance keeps them in rotation.
    checks = [Check("postgresql", database.check, timeout=2, tolerance=10)]
    flags = None
    dark = None
    store: UserStore
    if settings.version == 2:
        flags, store = _make_dual_users(settings)
    elif settings.version in (1, 4, 5):
        store = OldUsers()
        if settings.version > 1:
            flags, dark = _make_shadowed_reads(settings, database)
    else:
        store = NewTableUsers() if settings.kind == "table" else NewColumnUsers()
    if flags is not None:
        flags.start()
        # Needed once: a pod that has never read each of the flags would write by defaults. After that the last values
        # stay in effect, so an unreachable Redis, or a flag that is deleted, takes no pod out of rotation.
        checks.append(Check("flags", flags.wait_loaded, timeout=0.5, tolerance=math.inf))
    lifecycle = Lifecycle(checks, drain_seconds=settings.drain_seconds)
    app = build_app(settings, database, store, flags, dark.get if dark else None)
    attach(app, lifecycle, *((dark.shadow.render,) if dark else ()))
    install_faults(app, settings, database)
    _log.info("version %d listens on %s:%d", settings.version, settings.host, settings.port)
    try:
        clean = await serve(app, lifecycle, settings.host, settings.port)
        _log.info("drained; %s", "every request had ended" if clean else "requests were aborted")
        return clean
    finally:
        if dark is not None:
            await dark.shadow.stop()
        if flags is not None:
            await flags.stop()
        await database.close()


def _make_dual_users(settings: Settings) -> "tuple[FlagClient, UserStore]":
    # Imported here: versions 1 and 3 start 0.1 s sooner without the Redis client.
    from zdd_tui.demo.sample.version2 import ColumnDualUsers, TableDualUsers, TriggerUsers  # noqa: PLC0415
    from zdd_tui.service.dual_write import DualWrite  # noqa: PLC0415
    from zdd_tui.service.flags import FlagClient  # noqa: PLC0415

    keys = [settings.write_flag, settings.read_flag]
    flags = FlagClient(
        settings.redis_url,
        keys,
        max_staleness=settings.flag_staleness,
        optional=() if settings.requires_flags else keys,
    )
    by_trigger = settings.dual_write == "trigger"
    dual = DualWrite(flags, write_key=None if by_trigger else settings.write_flag, read_key=settings.read_flag)
    new = NewTableUsers() if settings.kind == "table" else NewColumnUsers()
    if by_trigger:
        return flags, TriggerUsers(dual, new)
    return flags, TableDualUsers(dual, new) if isinstance(new, NewTableUsers) else ColumnDualUsers(dual, new)


def _make_shadowed_reads(settings: Settings, database: ConnectionPool) -> "tuple[FlagClient, ShadowedReads]":
    from zdd_tui.demo.sample.version4 import ShadowedReads  # noqa: PLC0415  imports the Redis client
    from zdd_tui.service.flags import FlagClient  # noqa: PLC0415

    # The shadow flag is deleted at the end of the release; without it nothing is compared.
    flags = FlagClient(
        settings.redis_url,
        [settings.shadow_flag, settings.dark_flag],
        max_staleness=settings.flag_staleness,
        optional=[settings.shadow_flag],
    )
    return flags, ShadowedReads(flags, database, settings)


def build_app(
    settings: Settings,
    database: ConnectionPool,
    store: UserStore,
    flags: "FlagClient | None",
    get: Callable[[int], Awaitable[User | None]] | None = None,
) -> web.Application:
    """The routes.

    Args:
        get: reads a user in place of the store.
    """

    async def create(request: web.Request) -> web.Response:
        name, email = await _body(request, name_needed=True)
        assert name is not None
        user = await database.write(lambda connection: store.create(connection, name, email))
        return web.json_response(user.as_json(), status=201)

    async def read(request: web.Request) -> web.Response:
        user_id = _user_id(request)
        if get is not None:
            return _user_response(await get(user_id))
        return _user_response(await database.read(lambda connection: store.get(connection, user_id)))

    async def update(request: web.Request) -> web.Response:
        user_id = _user_id(request)
        name, email = await _body(request, name_needed=False)
        return _user_response(await database.write(lambda connection: store.update(connection, user_id, name, email)))

    async def delete(request: web.Request) -> web.Response:
        user_id = _user_id(request)
        if not await database.write(lambda connection: store.delete(connection, user_id)):
            return _error_response(404, "no such user")
        return web.Response(status=204)

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"version": settings.version, "image": settings.image, "pod": settings.pod})

    async def show_flags(_: web.Request) -> web.Response:
        """The flags that this version reads: none in versions 1 and 3."""
        if flags is None:
            return web.json_response({"flags": {}, "age": None})
        snapshot = flags.snapshot()
        states = {key: {"percent": flag.percent, "problem": flag.problem} for key, flag in snapshot.flags.items()}
        return web.json_response({"flags": states, "age": snapshot.age})

    app = web.Application(middlewares=[_error_middleware])
    app.router.add_post("/users", create)
    app.router.add_get("/users/{id}", read)
    app.router.add_put("/users/{id}", update)
    app.router.add_delete("/users/{id}", delete)
    app.router.add_get("/version", version)
    app.router.add_get("/flags", show_flags)
    return app


@web.middleware
async def _error_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turns a database error into a JSON response; its text is only logged, because it can contain data."""
    began = time.monotonic()
    try:
        response = await handler(request)
        if request.path.startswith("/users") and next(_request_numbers) % LOG_EVERY_REQUESTS == 0:
            ms = 1000 * (time.monotonic() - began)
            _log.info("%s %s %d in %.1f ms", request.method, request.path, response.status, ms)
        return response
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        _log.warning("%s %s: database: %r", request.method, request.path, error)
        return _error_response(503, f"database: {type(error).__name__}")
    except asyncpg.PostgresError as error:
        _log.error("%s %s: %r", request.method, request.path, error)
        return _error_response(500, f"database: {type(error).__name__}")


def _error_response(status: int, error: str) -> web.Response:
    return web.json_response({"error": error}, status=status)


def _user_response(user: User | None) -> web.Response:
    return _error_response(404, "no such user") if user is None else web.json_response(user.as_json())


def _user_id(request: web.Request) -> int:
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_ID:
        raise web.HTTPNotFound(text='{"error": "no such user"}', content_type="application/json")
    return int(text)


async def _body(request: web.Request, *, name_needed: bool) -> tuple[str | None, str | None]:
    """Name and e-mail of the request. None, for a missing one or null, leaves the column unchanged."""
    try:
        body: Any = await request.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        name, email = body.get("name"), body.get("email")
        name_ok = is_valid_name(name) or (name is None and not name_needed)
        if name_ok and (email is None or (isinstance(email, str) and "\0" not in email)):
            return name, email
    raise web.HTTPBadRequest(
        text='{"error": "expected {\\"name\\": words with single spaces, \\"email\\": text}"}',
        content_type="application/json",
    )
