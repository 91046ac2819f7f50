"""The plan: what a release is to do, as an operator writes it in YAML.

Reading a file into a plan, and the errors that name file, line and key, are in :mod:`zdd_tui.model.plan.file`.
"""

import re
from datetime import date
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from zdd_tui.model.duration import Duration
from zdd_tui.model.environment import is_production
from zdd_tui.model.plan.guard import Guard, PlanSection
from zdd_tui.model.plan.regions import Regions
from zdd_tui.model.production_lock import UNLOCK_SECONDS

FlagKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
ReleaseName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""At most 40 characters, so that names derived from it stay under PostgreSQL's 63 bytes."""

_TABLE = re.compile(r'^(?:(?P<schema>"(?:[^"]|"")+"|[^\s."]+)\.)?(?P<name>"(?:[^"]|"")+"|[^\s."]+)$')


class DualWriteMode(StrEnum):
    """Who writes the old and the new side while both exist."""

    APPLICATION = "application"
    TRIGGER = "trigger"


class TableName(PlanSection):
    """A table, split and unquoted."""

    schema_: str = "public"
    name: str

    def __str__(self) -> str:
        return f"{self.schema_}.{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``users``, ``public.users`` or ``"Odd Schema"."users"``; no schema means ``public``.

        Raises:
            ValueError: not a table name.
        """
        match = _TABLE.match(text.strip())
        if match is None:
            raise ValueError(f"expected a table such as users or public.users, got {text!r}")
        return cls(schema_=_unquote(match["schema"] or "public"), name=_unquote(match["name"]))


def _unquote(part: str) -> str:
    # PostgreSQL folds what is not quoted to lower case.
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.lower()


class Database(PlanSection):
    """The PostgreSQL database that the release changes; the `zdd` schema lives in it too."""

    dsn: SecretStr = Field(description="postgresql:// address; take it from the environment: ${DATABASE_URL}")
    lock_timeout: Duration = Field(0.2, description="first rung of the lock_timeout ladder for DDL")
    lock_timeout_max: Duration = Field(
        0.8, description="last rung of the ladder; below the server's deadlock_timeout, so that it is we who give way"
    )
    lock_tries: int = Field(40, ge=1, le=1000, description="how often DDL asks for its lock before the step fails")
    connect_timeout: Duration = Field(5.0, description="how long a connection may take")


class Images(PlanSection):
    """The images of the two new versions; the one that runs at the start is V1."""

    v2: str = Field(min_length=1, description="writes both sides behind the write flag, reads by the read flag")
    v3: str = Field(min_length=1, description="knows only the new side")

    @model_validator(mode="after")
    def _require_distinct(self) -> Self:
        if self.v2 == self.v3:
            raise ValueError("v2 and v3 are the same image: a rollout could not be told from its end")
        return self


class Workload(PlanSection):
    """The Deployment that serves the application."""

    kubeconfig: str | None = Field(None, description="path; default: KUBECONFIG, ~/.kube/config or in-cluster")
    context: str | None = Field(None, description="context of the kubeconfig; default: the current one")
    namespace: str = Field("default", min_length=1)
    deployment: str = Field(min_length=1)
    container: str = Field("app", min_length=1, description="the container whose image changes")
    service: str | None = Field(
        None, description="Service whose EndpointSlices tell what serves; default: the deployment"
    )
    rollout_timeout: Duration = Field(600.0, description="how long one rollout may take before its step fails")
    drain: Duration | None = Field(
        None, description="how long the application serves on after SIGTERM; default: its DRAIN_SECONDS, if it has one"
    )


class Kubernetes(Workload):
    """The Deployment, and the two images that expand/contract rolls out."""

    images: Images


class SingleImageWorkload(Workload):
    """The Deployment, and the one image that the release brings."""

    image: str = Field(min_length=1, description="the new image; what runs at the start is the old one")


class Flags(PlanSection):
    """The feature flags in Redis, `ff:<key>` each."""

    url: SecretStr = Field(description="redis:// address; take it from the environment: ${REDIS_URL}")
    write: FlagKey = Field(description="V2 writes the new side too while this is on")
    read: FlagKey = Field(description="V2 reads the new side while this is on")
    max_staleness: Duration = Field(1.0, description="how long a pod may act on a value that was changed")
    owner: str | None = Field(None, min_length=1, description="who answers for the flags: a person or a team")
    expires: date | None = Field(None, description="the day on which they should be gone, such as 2027-01-31")

    @model_validator(mode="after")
    def _require_distinct(self) -> Self:
        if self.write == self.read:
            raise ValueError("write and read must be two flags: reads may only switch after the backfill")
        return self


class Change(PlanSection):
    """What becomes of the schema: columns beside the old ones, or a table beside the old one (`into`)."""

    table: TableName = Field(description="the table that is changed")
    into: TableName | None = Field(None, description="the new table, when the old one is to be replaced by it")
    key: tuple[str, ...] = Field(
        (), description="columns of the key, the same in both tables; default: the primary key"
    )
    expand: str = Field(min_length=1, description="additive DDL, one or more statements; indexes belong to `indexes`")
    indexes: tuple[str, ...] = Field((), description="CREATE INDEX CONCURRENTLY statements, one each")
    up: dict[str, str] = Field(min_length=1, description="new column: SQL expression over the old columns")
    down: dict[str, str] = Field(min_length=1, description="old column: SQL expression over the new columns")
    dual_write: DualWriteMode = Field(
        DualWriteMode.APPLICATION, description="who keeps both sides in step until cutover"
    )

    @field_validator("table", "into", mode="before")
    @classmethod
    def _parse_table_name(cls, value: object) -> object:
        return TableName.parse(value) if isinstance(value, str) else value

    @field_validator("key", "indexes", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_consistent(self) -> Self:
        if self.into is not None and str(self.into) == str(self.table):
            raise ValueError("into names the same table as table: leave it out to add columns to that table")
        if self.into is None and (both := sorted(set(self.up) & set(self.down))):
            raise ValueError(f"{both[0]} is in up and in down: a column is either new or old")
        return self

    @property
    def target_table(self) -> TableName:
        """The table that holds the new columns."""
        return self.into or self.table

    @property
    def kind(self) -> Literal["column", "table"]:
        return "table" if self.into else "column"


class Backfill(PlanSection):
    """How fast old rows are moved; every limit here can be changed while it runs."""

    speed: int = Field(
        100, ge=10, le=100, description="percent of what the other limits allow; the rest of the time it rests"
    )
    workers: int = Field(1, ge=1, le=4, description="how many batches run at a time, each in a range of its own")
    batch_rows: int = Field(1000, ge=1, le=100_000, description="rows in the first batch")
    batch_rows_max: int = Field(5000, ge=1, le=100_000, description="a batch never grows beyond this")
    batch_budget: Duration = Field(
        0.15, ge=0.001, le=10, description="a batch that takes longer is followed by a smaller one"
    )
    max_rows_per_second: int | None = Field(None, ge=1, description="a ceiling; default: none")
    max_replica_lag: Duration = Field(5.0, description="wait while a standby replays later than this")
    max_lock_wait: Duration = Field(
        1.0, description="wait while somebody has waited longer than this for a lock on the table"
    )
    max_snapshot_age: Duration = Field(
        1800.0, description="wait while a transaction is older than this: it keeps dead rows from being cleaned up"
    )
    max_wal_mb_per_second: int | None = Field(
        256, ge=1, description="wait while the server writes more WAL than this; none: no limit"
    )
    max_vacuum_wait: Duration = Field(
        30.0, description="let a vacuum of the table work alone, but for no longer than this; 0: never wait"
    )
    max_guard_latency: int = Field(
        90, ge=1, le=1000, description="wait while a latency rule of the guard is above this percent of its limit"
    )
    max_failed_rows: int = Field(0, ge=0, description="rows in the ledger of failures that the gate forgives")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.batch_rows > self.batch_rows_max:
            raise ValueError("batch_rows is larger than batch_rows_max")
        return self


class Cutover(PlanSection):
    """How reads move to the new side: at once, or by a ramp like a canary."""

    ramp: tuple[int, ...] = Field((), description="percent of reads before all of them, growing, such as [10, 50]")
    hold: Duration = Field(30.0, description="how long each share of the ramp is kept before the next")

    @field_validator("ramp")
    @classmethod
    def _check_growing(cls, ramp: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 0 < share < 100 for share in ramp):
            raise ValueError("a share of the ramp lies between 1 and 99 percent; all reads follow by themselves")
        if any(higher <= lower for lower, higher in pairwise(ramp)):
            raise ValueError("the shares of the ramp must grow")
        return ramp


class Gates(PlanSection):
    """How gates judge."""

    max_age: Duration = Field(10.0, description="a reading older than this is unknown, and unknown opens nothing")
    sample_rows: int = Field(500, ge=1, le=100_000, description="recent rows that are compared after dual-write began")
    min_recent_rows: int = Field(1, ge=0, description="fewer recent rows than this are inconclusive")
    soak: Duration = Field(30.0, description="how long a soak lasts: before V3 is rolled out, or at each weight")
    owner: str | None = Field(None, min_length=1, description="who advances the release: a person or a team")
    wait_limit: Duration | None = Field(
        None,
        description="how long it may wait for its owner, or a gate be undecided, before that is audited",
    )


class ReasonCommand(StrEnum):
    """Commands that a reason can be asked for."""

    ADVANCE = "advance"
    PAUSE = "pause"
    RESUME = "resume"
    TUNE = "tune"
    ROLLBACK = "rollback"


class ConfirmSection(PlanSection):
    """What is asked of whoever gives a command."""

    reason: tuple[ReasonCommand, ...] = Field(
        (),
        description="commands that want a reason, such as [advance]; rollback asks for one, and goes without it too",
    )
    unlock: Duration = Field(
        UNLOCK_SECONDS,
        gt=0,
        description="how long an unlock of production lasts in the dashboard before it locks again",
    )

    def needs_reason(self, kind: str, reason: str) -> bool:
        """A command is refused for want of a reason. Rollback never is: the way back waits for no words."""
        return kind in self.reason and kind != ReasonCommand.ROLLBACK and not reason.strip()


class BasePlan(PlanSection):
    """What every release has, whatever its strategy."""

    name: ReleaseName = Field(description="also what the operator types to confirm the last steps")
    strategy: str
    environment: str = Field("production", min_length=1, max_length=40, description="shown on every screen")
    production: bool | None = Field(
        None, description="whether this is production: locked screens, rehearsal required; default: guessed by name"
    )
    database: Database
    kubernetes: Workload
    gates: Gates = Gates()
    guard: Guard | None = Field(None, description="rules that judge in every phase, and roll back by themselves")
    confirm: ConfirmSection = Field(ConfirmSection(), description="how commands are confirmed")
    dns: tuple[str, ...] = Field((), description="public names that are switched by DNS; none: traffic is not")
    regions: Regions | None = Field(None, description="several clusters and databases, one after the other")

    _region: str = PrivateAttr("")
    _full_plan: "BasePlan | None" = PrivateAttr(None)

    @property
    def is_production(self) -> bool:
        return is_production(self.environment, self.production)

    @property
    def region(self) -> str:
        """Which region this plan is for; empty for the whole plan, and for one without regions."""
        return self._region

    @property
    def earlier_regions(self) -> tuple[str, ...]:
        """The regions that go before this one, in order."""
        names = self.regions.names if self.regions else ()
        return names[: names.index(self._region)] if self._region else ()

    def for_region(self, name: str) -> Self:
        """The plan of one region: what the region does not name is as in the whole plan.

        Raises:
            KeyError: there is no such region.
        """
        whole = self._full_plan or self
        region = next((each for each in (whole.regions.order if whole.regions else ()) if each.name == name), None)
        if region is None:
            raise KeyError(name)
        own = whole if region.flags is None else whole.with_redis(region.flags.url)
        changes: dict[str, object] = {}
        if region.database is not None:
            changes["database"] = own.database.model_copy(update={"dsn": region.database.dsn})
        if region.kubernetes is not None:
            changes["kubernetes"] = own.kubernetes.model_copy(update=region.kubernetes.overrides)
        own = own.model_copy(update=changes)
        own._region, own._full_plan = name, whole
        return own  # type: ignore[return-value]  # a copy of a plan has its class

    def without_regions(self) -> Self:
        """A copy that waits for no other region: for a rehearsal, which is of one."""
        alone = self.model_copy(update={"regions": None})
        alone._region, alone._full_plan = "", None
        return alone

    def with_redis(self, url: SecretStr) -> Self:
        """A copy whose flags are there.

        Raises:
            ValueError: the release has no flags.
        """
        raise ValueError(f"a {self.strategy} plan has no flags: nothing to override")

    @property
    def service(self) -> str:
        return self.kubernetes.service or self.kubernetes.deployment

    @property
    def redis_url(self) -> SecretStr | None:
        """Where the release's flags are; None when it has none."""
        return None

    @property
    def flag_roles(self) -> dict[str, str]:
        """Keys of the release's flags, with what each decides."""
        return {}

    @property
    def flag_staleness(self) -> float:
        """Seconds that a pod may act on a flag's value that was changed."""
        return 0.0

    @property
    def workloads(self) -> tuple[str, ...]:
        """The Deployments whose pods serve the application at some time of the release; the first is always there."""
        return (self.kubernetes.deployment,)

    @property
    def services(self) -> tuple[str, ...]:
        """The Services by which requests reach them; the first is always there."""
        return (self.service,)

    @property
    def versions(self) -> tuple[str, ...]:
        """What :meth:`version_of` can say, the oldest first."""
        return ("old", "new")

    def version_of(self, image: str) -> str:
        """Which version a container image is, in one short word."""
        raise NotImplementedError


class Plan(BasePlan):
    """Expand/contract: the schema changes under the running application."""

    strategy: Literal["expand-contract"] = "expand-contract"
    kubernetes: Kubernetes
    flags: Flags
    change: Change
    backfill: Backfill = Backfill()
    cutover: Cutover = Cutover()

    @property
    def redis_url(self) -> SecretStr | None:
        return self.flags.url

    def with_redis(self, url: SecretStr) -> Self:
        return self.model_copy(update={"flags": self.flags.model_copy(update={"url": url})})

    @property
    def flag_roles(self) -> dict[str, str]:
        return {self.flags.write: "write", self.flags.read: "read"}

    @property
    def flag_staleness(self) -> float:
        return self.flags.max_staleness

    @property
    def versions(self) -> tuple[str, ...]:
        return ("v1", "v2", "v3")

    def version_of(self, image: str) -> str:
        """``v2``, ``v3``, or ``v1`` for whatever ran before."""
        if image == self.kubernetes.images.v3:
            return "v3"
        return "v2" if image == self.kubernetes.images.v2 else "v1"
