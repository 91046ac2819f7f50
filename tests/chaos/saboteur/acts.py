"""What somebody does to a release, how that can be named in the cause of a stop, and how an operator repairs it."""

import asyncio
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import asyncpg
import redis.asyncio

from tests.chaos.saboteur.ledger import Content, LedgerFile
from tests.chaos.saboteur.production import HAND_ROWS, Production
from tests.chaos.saboteur.script import Moment
from zdd_tui.backends.kubernetes.cluster import STRATEGIC_MERGE_PATCH
from zdd_tui.demo import manifests

CAUSES = {
    "revert-image": r"image|users-api:|\bV[123]\b|\bpods?\b",
    "set-third-image": r"image|users-api:|\bV[123]\b|\bpods?\b",
    "delete-flags": r"flag|ff:",
    "flush-redis": r"flag|ff:",
    "disable-trigger": r"trigger",
    "drop-trigger": r"trigger",
    "write-by-hand": r"intern",
    "drop-index": r"index|full_name_idx",
    "rename-column": r"full_name|first_name|last_name",
    "scale": r"replicas|surge|available",
    "end-sessions": r"session|connection|terminat|PostgreSQL|database",
    "kill-agent": r"\blease\b|no agent",
    "kill-postgres": r"PostgreSQL|database|connection|recovery|starting up",
    "kill-redis": r"Redis|flag|ff:",
    "freeze-kubernetes": r"Kubernetes|API|timeout|deadline|timed out",
}
"""By act: a pattern for the text of a stop that the act may have caused."""

NOT_A_CAUSE = re.compile(r"; by whom is unknown.*|; restored by the agent")
"""Parts of a text that name no cause."""
ROWS_DIFFER = r"differ|mismatch|only one side|agree"
"""Rows that differ are a right cause for acts that let clients write one side only."""
ONE_SIDED = (
    "revert-image",
    "set-third-image",
    "delete-flags",
    "flush-redis",
    "disable-trigger",
    "drop-trigger",
    "kill-redis",
)
CASCADE = {"rename-column": r"trigger|differ|mismatch|column", "drop-index": r"missing|not valid"}


INSTEAD = ("disable-trigger", "delete-flags", "write-by-hand", "kill-agent")
"""What is done in place of an act that is not possible at its moment; the first that is possible."""


class NotPossible(Exception):
    """The act makes no sense at this moment, such as a trigger that does not exist."""


@dataclass
class DoneAct:
    """An act that was done.

    Attributes:
        at: seconds since the epoch.
        repair: what the owner of the thing does once the release says that it is wrong; None where nothing is left.
    """

    name: str
    at: float
    phase: str
    text: str
    repair: Callable[[], Awaitable[str]] | None = None
    is_repaired: bool = False

    def may_have_caused(self, text: str) -> bool:
        text = NOT_A_CAUSE.sub("", text)
        patterns = [CAUSES[self.name], *([CASCADE[self.name]] if self.name in CASCADE else [])]
        if self.name in ONE_SIDED:
            patterns.append(ROWS_DIFFER)
        return any(re.search(pattern, text) for pattern in patterns)


@dataclass
class Position:
    """Where the release is, as the operator sees it; times are monotonic."""

    phase: str = ""
    phase_since: float = 0.0
    steps_ended: float | None = None
    rollback_since: float | None = None
    has_ended: bool = False


@dataclass
class Saboteur:
    """Does the acts of a script, each at its moment."""

    production: Production
    moments: tuple[Moment, ...]
    ledger: LedgerFile
    position: Position
    say: Callable[[str], None]
    done: list[DoneAct] = field(default_factory=list)
    pending: list[Moment] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """Statements of a client that failed because of the release."""
    _hand: dict[int, Content | None] = field(default_factory=dict)
    _writes: int = 0

    def __post_init__(self) -> None:
        self.pending = list(self.moments)
        self._hand = {n: self.production.seeded[n] for n in range(1, HAND_ROWS + 1)}

    def has_act_before_leaving(self, phase: str) -> bool:
        """The operator waits for an act in this phase. One after the phase's steps does not come before they end."""
        can_come = [each for each in self.pending if not each.after_steps or self.position.steps_ended is not None]
        return any(each.phase == phase and each.is_awaited for each in can_come)

    async def run(self) -> None:
        """Until every act is done, or the release has ended."""
        while self.pending and not self.position.has_ended:
            now = time.monotonic()
            for moment in [each for each in self.pending if (due := self._due(each)) is not None and due <= now]:
                self.pending.remove(moment)
                await self._do(moment)
            await asyncio.sleep(0.02)

    def _due(self, moment: Moment) -> float | None:
        """None while the moment has not come; 0 for one that never comes."""
        position = self.position
        if moment.phase == "rollback":
            return None if position.rollback_since is None else position.rollback_since + moment.delay
        if position.rollback_since is not None:
            self.pending.remove(moment)
            return None
        if moment.phase != position.phase:
            return None
        if not moment.after_steps:
            return position.phase_since + moment.delay
        return None if position.steps_ended is None else position.steps_ended + moment.delay

    async def _do(self, moment: Moment) -> None:
        """Does the act, or another where it makes no sense at this moment."""
        others = [act for act in INSTEAD if act != moment.act]
        for name in (moment.act, *others):
            try:
                await self._try(name, moment)
            except NotPossible as error:
                self.say(f"saboteur: {name} makes no sense now: {error}")
                continue
            return

    async def _try(self, name: str, moment: Moment) -> None:
        act = getattr(self, "_" + name.replace("-", "_"))
        begun = DoneAct(name, time.time(), moment.phase, "under way")
        self.done.append(begun)  # the release may stop before the act has ended
        try:
            begun.text, begun.repair = await act(moment.draw)
        except NotPossible:
            self.done.remove(begun)
            raise
        except Exception as error:  # such as a lock that the release holds, or a server that is being restarted
            begun.text = f"{name} failed: {type(error).__name__}: {error}"
        self.say(f"saboteur: {begun.text}")

    # --- Kubernetes

    async def set_image(self, image: str, manager: str) -> None:
        containers = [{"name": manifests.CONTAINER, "image": image}]
        await self.production.request(
            "PATCH",
            f"deployments/{manifests.NAME}",
            params={"fieldManager": manager},
            body={"spec": {"template": {"spec": {"containers": containers}}}},
            content_type=STRATEGIC_MERGE_PATCH,
        )

    async def read_image(self) -> str:
        raw = await self.production.request("GET", f"deployments/{manifests.NAME}")
        return str(raw["spec"]["template"]["spec"]["containers"][0]["image"])

    async def _revert_image(self, _draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        before, old = await self.read_image(), manifests.image_name(1)
        if before == old:
            raise NotPossible("the image is V1")
        await self.set_image(old, "argocd-controller")
        return f"image {before} -> {old}", self._image_repair(before)

    async def _set_third_image(self, _draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        before, other = await self.read_image(), manifests.image_name(4)
        await self.set_image(other, "helm")
        return f"image {before} -> {other}", self._image_repair(before)

    def _image_repair(self, before: str) -> Callable[[], Awaitable[str]]:
        async def repair() -> str:
            await self.set_image(before, "argocd-controller")
            return f"image set to {before} again"

        return repair

    async def _scale(self, draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        replicas = 1 + int(draw * 3)
        await self.production.request(
            "PATCH",
            f"deployments/{manifests.NAME}",
            params={"fieldManager": "kubectl-scale"},
            body={"spec": {"replicas": replicas}},
            content_type=STRATEGIC_MERGE_PATCH,
        )
        return f"{replicas} replicas", None

    async def _freeze_kubernetes(self, draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        pid = self.production.env.processes["cluster"].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(0.5 + 3 * draw)
        finally:
            os.kill(pid, signal.SIGCONT)
        return f"the API server was frozen for {0.5 + 3 * draw:.1f} s", None

    # --- Redis

    async def _delete_flags(self, draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        client = redis.asyncio.Redis.from_url(self.production.env.redis.url, decode_responses=True)
        try:
            keys = sorted(await client.keys("ff:*"))
            if not keys:
                raise NotPossible("there are no flags")
            chosen = keys if draw < 0.4 else [keys[int(draw * 97) % len(keys)]]
            await client.delete(*chosen)
        finally:
            await client.aclose()
        return f"DEL {' '.join(chosen)}", None

    async def _flush_redis(self, _draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        client = redis.asyncio.Redis.from_url(self.production.env.redis.url)
        try:
            await client.flushall()
        finally:
            await client.aclose()
        return "FLUSHALL", None

    async def _kill_redis(self, draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        await self.production.env.redis.kill()
        await asyncio.sleep(draw)
        await self.production.env.redis.restart()
        return "Redis was killed and lost its data", None

    # --- PostgreSQL

    async def _find_trigger(self, connection: asyncpg.Connection, draw: float) -> tuple[str, str, str, str]:
        rows = await connection.fetch(
            """SELECT tgname, tgrelid::regclass::text AS relation, pg_get_triggerdef(oid) AS definition,
              CASE tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END AS enabled FROM pg_trigger
            WHERE NOT tgisinternal AND tgrelid IN (to_regclass('users'), to_regclass('people')) ORDER BY 1, 2"""
        )
        if not rows:
            raise NotPossible("there is no trigger")
        row = rows[int(draw * len(rows))]
        enable = f'ALTER TABLE {row["relation"]} {row["enabled"]} TRIGGER "{row["tgname"]}"'
        return row["tgname"], row["relation"], enable, row["definition"]

    async def _disable_trigger(self, draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        async with self.production.connect("psql") as connection:
            name, relation, enable, _ = await self._find_trigger(connection, draw)
            await connection.execute(f'ALTER TABLE {relation} DISABLE TRIGGER "{name}"', timeout=5)

        async def repair() -> str:
            async with self.production.connect("psql") as connection:
                await connection.execute(enable, timeout=5)
            return f"trigger {name} enabled again"

        return f"DISABLE TRIGGER {name} on {relation}", repair

    async def _drop_trigger(self, draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        async with self.production.connect("psql") as connection:
            name, relation, enable, definition = await self._find_trigger(connection, draw)
            await connection.execute(f'DROP TRIGGER "{name}" ON {relation}', timeout=5)

        async def repair() -> str:
            async with self.production.connect("psql") as connection:
                await connection.execute(definition, timeout=5)
                await connection.execute(enable, timeout=5)
            return f"trigger {name} created again"

        return f"DROP TRIGGER {name} on {relation}", repair

    async def _drop_index(self, draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        async with self.production.connect("psql") as connection:
            rows = await connection.fetch(
                """SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
                WHERE indexrelid::regclass::text LIKE '%full_name_idx' AND indisvalid"""
            )
            if not rows:
                raise NotPossible("there is no index of the release")
            row = rows[int(draw * len(rows))]
            await connection.execute(f"DROP INDEX {row['name']}", timeout=5)

        async def repair() -> str:
            async with self.production.connect("psql") as connection:
                await connection.execute(row["definition"], timeout=10)
            return f"index {row['name']} created again"

        return f"DROP INDEX {row['name']}", repair

    async def _rename_column(self, draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        async with self.production.connect("psql") as connection:
            rows = await connection.fetch(
                """SELECT attrelid::regclass::text AS relation, attname AS name FROM pg_attribute
                WHERE attrelid IN (to_regclass('users'), to_regclass('people'))
                  AND attname IN ('full_name', 'full_name', 'last_name') AND NOT attisdropped ORDER BY 1, 2"""
            )
            if not rows:
                raise NotPossible("no column of the release exists")
            row = rows[int(draw * len(rows))]
            relation, name = row["relation"], row["name"]
            await connection.execute(f"ALTER TABLE {relation} RENAME COLUMN {name} TO {name}_x", timeout=5)

        async def repair() -> str:
            async with self.production.connect("psql") as connection:
                await connection.execute(f"ALTER TABLE {relation} RENAME COLUMN {name}_x TO {name}", timeout=5)
            return f"column {name}_x renamed to {name} again"

        return f"column {name} of {relation} renamed to {name}_x", repair

    async def _end_sessions(self, draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        only = "zdd%" if draw < 0.5 else "users-api%" if draw < 0.7 else "%"
        async with self.production.connect("psql") as connection:
            count = await connection.fetchval(
                """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name LIKE $1""",
                only,
            )
        return f"{count} sessions of {only} ended", None

    async def _kill_postgres(self, draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        if draw < 0.3:
            await self.production.env.postgres.restart()
            return "PostgreSQL was restarted", None
        await self.production.env.postgres.kill()
        await asyncio.sleep(draw)
        await self.production.env.postgres.start()
        return "PostgreSQL was killed and started again", None

    async def _write_by_hand(self, draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        """Three statements on the old columns, by a role of its own, each acknowledged or not."""
        counts = {"done": 0, "refused": 0}
        async with self.production.connect_as_intern() as connection:
            for number in range(3):
                op = ("update", "insert", "delete")[(number + int(draw * 3)) % 3]
                if draw < 0.3:
                    op = "update"
                counts[await self._write_one(connection, op)] += 1
        if not counts["done"]:
            raise NotPossible("no statement on the old columns is possible")
        return f"intern wrote {counts['done']} rows of the old columns by hand", None

    async def _write_one(self, connection: asyncpg.Connection, op: str) -> str:
        self._writes += 1
        content = (f"Hand {self._writes}", f"hand.{self._writes}@example.com")
        present = [row_id for row_id, each in self._hand.items() if each is not None]
        row_id: int | None = present[(7 * self._writes) % len(present)]
        try:
            if op == "insert":
                row_id = None
                row_id = await connection.fetchval(
                    "INSERT INTO public.users (first_name, last_name, email) VALUES ('Hand', $1, $2) RETURNING id",
                    str(self._writes),
                    content[1],
                )
            elif op == "update":
                await connection.execute(
                    "UPDATE public.users SET first_name = 'Hand', last_name = $1, email = $2 WHERE id = $3",
                    str(self._writes),
                    content[1],
                    row_id,
                )
            else:
                await connection.execute("DELETE FROM public.users WHERE id = $1", row_id)
        except (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError, asyncpg.UndefinedObjectError):
            return "refused"
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
            self.ledger.write("intern", op, row_id, None if op == "delete" else content, "unknown")
            if row_id is not None:
                self._hand.pop(row_id, None)
            raise
        except asyncpg.PostgresError as error:
            self.complaints.append(f"{op} by intern failed: {type(error).__name__}: {error}")
            return "refused"
        assert row_id is not None
        after = None if op == "delete" else content
        self.ledger.write("intern", op, row_id, after, "done")
        self._hand[row_id] = after
        return "done"

    # --- the agent

    async def _kill_agent(self, draw: float) -> tuple[str, Callable[[], Awaitable[str]] | None]:
        env = self.production.env
        if "agent" not in env.processes:
            raise NotPossible("no agent runs")
        await env.stop("agent", signal.SIGKILL)
        await asyncio.sleep(draw / 2)
        env.start_agent()
        return "the agent was killed, another continues", None
