"""The shipped roles of least privilege, installed on a test's servers as the documentation says."""

import asyncio
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from zdd_tui.testbed.servers import PostgresServer

CONFIG = Path(__file__).parents[2] / "config"


@dataclass(frozen=True, slots=True)
class DatabaseRoles:
    """DSNs of one login for each shipped role, of the application, and the owner of its tables.

    Role names belong to the whole server, so they carry a suffix.
    """

    owner: str
    agent: str
    operator: str
    viewer: str
    app: str
    stranger: str


async def run_psql(server: PostgresServer, dsn: str, file: Path, **variables: str) -> None:
    """Runs a script with psql, as an administrator would."""
    options = [part for name, value in variables.items() for part in ("-v", f"{name}={value}")]
    process = await asyncio.create_subprocess_exec(
        str(server.programs_folder / "psql"), "-X", "-q", *options, "-f", str(file), dsn,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


async def install_database_roles(server: PostgresServer, dsn: str) -> DatabaseRoles:
    """Gives public.users to an owner, runs config/postgres/roles.sql, and creates a login for each role."""
    suffix, password = secrets.token_hex(4), secrets.token_urlsafe(12)
    owner, app = f"shop_owner_{suffix}", f"shop_app_{suffix}"
    groups = {name: f"zdd_{name}_{suffix}" for name in ("agent", "operator", "viewer")}
    admin = await asyncpg.connect(dsn)
    try:
        await admin.execute(f"CREATE ROLE {owner}; CREATE ROLE {app} LOGIN PASSWORD '{password}'")
        await admin.execute(f"ALTER TABLE public.users OWNER TO {owner}")
        await admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON public.users TO {app}")
        await admin.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {app}")
        await admin.execute(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app};"
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE ON SEQUENCES TO {app}"
        )
        for _ in range(2):  # running it again is harmless
            await run_psql(server, dsn, CONFIG / "postgres" / "roles.sql", owner=owner, **groups)
        await admin.execute(f"ALTER ROLE {groups['agent']} PASSWORD '{password}'")
        logins = {"agent": groups["agent"], "app": app, "stranger": f"stranger_{suffix}"}
        for name in ("operator", "viewer"):
            logins[name] = f"{name}_{suffix}"
            await admin.execute(f"CREATE ROLE {logins[name]} LOGIN PASSWORD '{password}' IN ROLE {groups[name]}")
        await admin.execute(f"CREATE ROLE {logins['stranger']} LOGIN PASSWORD '{password}'")
    finally:
        await admin.close()
    parts = urlsplit(dsn)
    dsns = {
        name: parts._replace(netloc=f"{login}:{password}@{parts.hostname}:{parts.port}").geturl()
        for name, login in logins.items()
    }
    return DatabaseRoles(owner, **dsns)


async def remove_database_roles(dsn: str, roles: DatabaseRoles) -> None:
    """Drops the roles, which belong to the whole server."""
    names = [str(urlsplit(each).username) for each in (roles.agent, roles.operator, roles.viewer, roles.app)]
    names += [str(urlsplit(roles.stranger).username), roles.owner]
    suffix = roles.owner.rpartition("_")[2]
    names += [f"zdd_operator_{suffix}", f"zdd_viewer_{suffix}"]
    admin = await asyncpg.connect(dsn)
    try:
        for name in names:
            await admin.execute(f"REASSIGN OWNED BY {name} TO postgres; DROP OWNED BY {name}")
        await admin.execute(f"DROP ROLE {', '.join(names)}")
    finally:
        await admin.close()


def read_redis_users(password: str) -> dict[str, list[str]]:
    """The rules of each user of config/redis/acl, with that password instead of the placeholder."""
    users = {}
    for line in (CONFIG / "redis" / "acl").read_text().splitlines():
        keyword, name, *rules = line.split()
        assert keyword == "user"
        assert rules[1] == "#" + "0" * 64, "the shipped file lets nobody in before a password is set"
        users[name] = [re.sub(r"^#0{64}$", f">{password}", rule) for rule in rules]
    return users


def redis_url_for(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}").geturl()
