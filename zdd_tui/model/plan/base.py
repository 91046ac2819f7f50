"""The plan that an operator writes in YAML: the sections that all strategies share, and expand/contract.

Reading a file into a plan, and the errors that name file, line and key, are in :mod:`zdd_tui.model.plan.file`.
"""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    StringConstraints,
    create_model,
    field_validator,
    model_validator,
)

from zdd_tui.model.duration import Duration
from zdd_tui.model.errors import with_hint
from zdd_tui.model.image import is_same_image
from zdd_tui.model.plan.guard import Guard
from zdd_tui.model.plan.section import FlagKey, FlagSection, PartialShares, PlanSection, Strings
from zdd_tui.model.production_lock import UNLOCK_SECONDS, is_production

ReleaseName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""At most 40 characters, so that names derived from it fit into PostgreSQL's 63 bytes."""

RegionName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$")]

_TABLE = re.compile(r'^(?:(?P<schema>"(?:[^"]|"")+"|[^\s."]+)\.)?(?P<name>"(?:[^"]|"")+"|[^\s."]+)$')

_UNQUOTED = re.compile(r"[a-z_][a-z0-9_$]*")


class DualWriteMode(StrEnum):
    """Which of the two writes the old and the new side while both exist."""

    APPLICATION = "application"
    TRIGGER = "trigger"


class TableName(PlanSection):
    """A table, split and unquoted."""

    schema_: str = "public"
    name: str

    def __str__(self) -> str:
        return f"{self.schema_}.{self.name}"

    @property
    def short_name(self) -> str:
        """As people write it: ``users``, ``shop.users``, ``"Odd Table"``. Parsed again, it is the same table."""
        parts = [self.name] if self.schema_ == "public" else [self.schema_, self.name]
        return ".".join(part if _UNQUOTED.fullmatch(part) else '"' + part.replace('"', '""') + '"' for part in parts)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses ``users``, ``public.users`` or ``"Odd Schema"."users"``; the default schema is ``public``.

        Raises:
            ValueError: not a table name.
        """
        match = _TABLE.match(text.strip())
        if match is None:
            raise ValueError(f"expected a table such as users or public.users, got {text!r}")
        return cls(schema_=_unquote(match["schema"] or "public"), name=_unquote(match["name"]))


def _unquote(part: str) -> str:
    # PostgreSQL folds unquoted names to lower case.
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.lower()


def short_table_name(text: str) -> str:
    """One name for every way to write a table, as :attr:`TableName.short_name`; any other text unchanged."""
    try:
        return TableName.parse(text).short_name
    except ValueError:
        return text


class Database(PlanSection):
    """The PostgreSQL database that the release changes; it also holds the `zdd` schema."""

    dsn: SecretStr = Field(description="postgresql:// address; take it from the environment: ${DATABASE_URL}")
    lock_timeout: Duration = Field(0.2, description="lock_timeout of the first attempt of DDL")
    lock_timeout_max: Duration = Field(
        0.8, description="lock_timeout of the last attempts; below the server's deadlock_timeout"
    )
    lock_tries: int = Field(40, ge=1, le=1000, description="how often DDL tries to get its lock before the step fails")
    connect_timeout: Duration = Field(5.0, description="how long a connection may take")


class Images(PlanSection):
    """The images of the two new versions; the image that runs at the start is V1."""

    v2: str = Field(min_length=1, description="writes both sides behind the write flag, reads by the read flag")
    v3: str = Field(min_length=1, description="knows only the new side")

    @model_validator(mode="after")
    def _require_distinct(self) -> Self:
        if self.v2 == self.v3:
            raise ValueError("v2 and v3 are the same image: their rollouts could not be distinguished")
        return self


class Workload(PlanSection):
    """The Deployment that serves the application."""

    kubeconfig: str | None = Field(None, description="path; default: KUBECONFIG, ~/.kube/config or in-cluster")
    context: str | None = Field(None, description="context of the kubeconfig; default: the current one")
    namespace: str = Field("default", min_length=1)
    deployment: str = Field(min_length=1)
    container: str = Field("app", min_length=1, description="the container whose image changes")
    service: str | None = Field(
        None, description="Service whose EndpointSlices list the serving pods; default: the deployment's name"
    )
    rollout_timeout: Duration = Field(600.0, description="how long one rollout may take before its step fails")
    drain: Duration | None = Field(
        None, description="how long the application serves after SIGTERM; default: its DRAIN_SECONDS, if it has one"
    )


class Kubernetes(Workload):
    """The Deployment, and the two images that expand/contract rolls out."""

    images: Images


class SingleImageWorkload(Workload):
    """The Deployment, and the one image that the release rolls out."""

    image: str = Field(min_length=1, description="the new image; the image that runs at the start is the old one")


class Flags(FlagSection):
    """The two feature flags of expand/contract."""

    write: FlagKey = Field(description="while this is on, V2 writes the new side too")
    read: FlagKey = Field(description="while this is on, V2 reads the new side")

    @model_validator(mode="after")
    def _require_distinct(self) -> Self:
        if self.write == self.read:
            raise ValueError("write and read must be two flags: reads may only switch after the backfill")
        return self


class Change(PlanSection):
    """The change of the schema: columns beside the old ones, or a table beside the old one (`into`)."""

    table: TableName = Field(description="the changed table")
    into: TableName | None = Field(None, description="the new table, where it replaces the old one")
    key: Strings = Field((), description="columns of the key, the same in both tables; default: the primary key")
    expand: str = Field(min_length=1, description="additive DDL, one or more statements; indexes belong to `indexes`")
    indexes: Strings = Field((), description="CREATE INDEX CONCURRENTLY statements, one each")
    constrain: Strings = Field(
        (),
        description="what the new side may have only when no older version runs, one statement each: SET NOT NULL, SET"
        " DEFAULT, VALIDATE CONSTRAINT, ADD CONSTRAINT; run in contract, before the old side is archived",
    )
    up: dict[str, str] = Field(min_length=1, description="new column: SQL expression over the old columns")
    down: dict[str, str] = Field(min_length=1, description="old column: SQL expression over the new columns")
    dual_write: DualWriteMode = Field(
        DualWriteMode.APPLICATION, description="what keeps both sides equal until cutover"
    )
    witness: bool = Field(
        True,
        description="with dual_write: application, a trigger records who writes only one side; off for a hot table: "
        "then the whole table is compared again before V3 and before contract",
    )

    @field_validator("table", "into", mode="before")
    @classmethod
    def _parse_table_name(cls, value: object) -> object:
        return TableName.parse(value) if isinstance(value, str) else value

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

    @property
    def has_witness(self) -> bool:
        """Whether a trigger records who writes only one side. A sync trigger leaves no writer that could."""
        return self.witness and self.dual_write is DualWriteMode.APPLICATION


class AcceptedLoss(PlanSection):
    """Something that a check names as lost, and that this release may lose."""

    what: str = Field(min_length=1, max_length=300, description="as `zdd check` prints it, such as: default last_name")
    reason: str = Field(min_length=1, max_length=500, description="why that is right; shown in check and in the gates")

    @field_validator("what")
    @classmethod
    def _normalize_spaces(cls, what: str) -> str:
        return " ".join(what.split())


class Backfill(PlanSection):
    """How fast old rows are copied; every limit can be changed while the backfill runs."""

    speed: int = Field(100, ge=10, le=100, description="duty cycle: percent of the time that the other limits allow")
    workers: int = Field(1, ge=1, le=4, description="number of parallel batches, each in its own range")
    batch_rows: int = Field(1000, ge=1, le=100_000, description="rows of the first batch")
    batch_rows_max: int = Field(5000, ge=1, le=100_000, description="the most rows of a batch")
    batch_budget: Duration = Field(
        0.15, ge=0.001, le=10, description="after a batch that takes longer, the next one is smaller"
    )
    max_rows_per_second: int | None = Field(None, ge=1, description="rate limit; default: none")
    max_replica_lag: Duration = Field(5.0, description="pause while a standby lags more than this")
    max_lock_wait: Duration = Field(
        1.0, description="pause while a session has waited longer than this for a lock on the table"
    )
    max_snapshot_age: Duration = Field(
        1800.0, description="pause while a transaction is older than this: it blocks vacuum"
    )
    max_wal_mb_per_second: int | None = Field(
        256, ge=1, description="pause while the server writes more WAL than this; none: no limit"
    )
    max_vacuum_wait: Duration = Field(
        30.0, description="pause while a vacuum of the table runs, but no longer than this; 0: never"
    )
    max_guard_latency: int = Field(
        90, ge=1, le=1000, description="pause while a latency rule of the guard is above this percent of its limit"
    )
    max_failed_rows: int = Field(0, ge=0, description="failed rows that the gate tolerates")
    max_statement_rows: int = Field(
        10_000, ge=0, description="UPDATE and DELETE that no batches can do run as one statement on so small a table"
    )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.batch_rows > self.batch_rows_max:
            raise ValueError("batch_rows is larger than batch_rows_max")
        return self


_OF_THE_RELEASE = ("max_failed_rows", "max_statement_rows")


class _TableLimits(PlanSection):
    """Limits of one table, beside those of the release: the stricter one is in effect."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        rows, most = getattr(self, "batch_rows", None), getattr(self, "batch_rows_max", None)
        if rows is not None and most is not None and rows > most:
            raise ValueError("batch_rows is larger than batch_rows_max")
        return self


_table_fields: dict[str, Any] = {
    key: (Annotated[field.annotation, *field.metadata] | None, Field(None, description=field.description))
    for key, field in Backfill.model_fields.items()
    if key not in _OF_THE_RELEASE
}
TableLimits = create_model("TableLimits", __base__=_TableLimits, **_table_fields)
"""The limits that can be changed while the backfill runs, with the types and checks of :class:`Backfill`; None is no
limit of the table's own."""


class BackfillOfTables(Backfill):
    """How fast the rows of several tables, one after the other, get values in batches."""

    tables: dict[str, TableLimits] = Field(
        {},
        description="table: limits of its own, such as users: {speed: 50}; they only make it gentler, because the"
        " stricter one of the table's and the release's is in effect",
    )

    @field_validator("tables")
    @classmethod
    def _use_short_names(cls, tables: dict[str, TableLimits]) -> dict[str, TableLimits]:
        found: dict[str, TableLimits] = {}
        for written, limits in tables.items():
            name = TableName.parse(written).short_name
            if not name.isprintable():
                raise ValueError(f"the table {name!r} has characters that cannot be shown")
            if name in found:
                raise ValueError(f"the table {name} is there twice")
            found[name] = limits
        return found


class Cutover(PlanSection):
    """How reads switch to the new side: at once, or in growing shares like a canary."""

    ramp: PartialShares = Field((), description="percent of reads before 100, growing, such as [10, 50]")
    hold: Duration = Field(30.0, description="how long each share of the ramp lasts")


class Gates(PlanSection):
    """Settings of the gates."""

    max_age: Duration = Field(
        10.0, description="a reading older than this is unknown, and an unknown gate stays closed"
    )
    sample_rows: int = Field(
        500, ge=1, le=100_000, description="recent rows that are compared after dual-write has started"
    )
    min_recent_rows: int = Field(1, ge=0, description="with fewer recent rows than this the gate is inconclusive")
    soak: Duration = Field(30.0, description="duration of a soak: before the rollout of V3, or at each weight")
    owner: str | None = Field(None, min_length=1, description="who advances the release: a person or a team")
    wait_limit: Duration | None = Field(None, description="how long the release may wait before that is audited")


class ReasonCommand(StrEnum):
    """Commands that a plan can require a reason for."""

    ADVANCE = "advance"
    PAUSE = "pause"
    RESUME = "resume"
    TUNE = "tune"
    ROLLBACK = "rollback"


class ConfirmSection(PlanSection):
    """What an operator must give with a command."""

    reason: tuple[ReasonCommand, ...] = Field(
        (), description="commands that require a reason, such as [advance]; for rollback it stays optional"
    )
    unlock: Duration = Field(UNLOCK_SECONDS, gt=0, description="how long production stays unlocked in the dashboard")

    def needs_reason(self, kind: str, reason: str) -> bool:
        """Whether a command is refused because it has no reason. Rollback never is."""
        return kind in self.reason and kind != ReasonCommand.ROLLBACK and not reason.strip()


# --- regions: in order, each with its differences from the rest of the plan


class RegionDatabase(PlanSection):
    """The region's own PostgreSQL."""

    dsn: SecretStr = Field(description="postgresql:// address; take it from the environment: ${EU_DATABASE_URL}")


class RegionKubernetes(PlanSection):
    """Location of the region's Deployment; its name is the same everywhere."""

    kubeconfig: str | None = Field(None, min_length=1, description="path; default: that of the plan")
    context: str | None = Field(None, min_length=1, description="context of the kubeconfig; default: that of the plan")
    namespace: str | None = Field(None, min_length=1, description="default: that of the plan")

    @model_validator(mode="after")
    def _require_override(self) -> Self:
        if not self.overrides:
            raise ValueError("it overrides nothing: set kubeconfig, context or namespace, or leave it out")
        return self

    @property
    def overrides(self) -> dict[str, str]:
        return {name: value for name, value in self.model_dump().items() if value is not None}


class RegionFlags(PlanSection):
    """The region's own Redis."""

    url: SecretStr = Field(description="redis:// address; take it from the environment: ${EU_REDIS_URL}")


class Region(PlanSection):
    """One region: keys that it does not set are those of the rest of the plan."""

    name: RegionName = Field(description="such as eu-1; used with --region")
    database: RegionDatabase | None = Field(None, description="the region's own database")
    kubernetes: RegionKubernetes | None = Field(None, description="the region's own cluster, or namespace")
    flags: RegionFlags | None = Field(None, description="the region's own Redis, where the strategy has flags")


class Regions(PlanSection):
    """The regions are released one after the other: each starts when the one before it is done and has soaked."""

    soak: Duration = Field(300.0, description="how long a region must have been done before the next one starts")
    order: tuple[Region, ...] = Field(min_length=2, description="the regions, in the order of the release")

    @field_validator("order")
    @classmethod
    def _check_unique_names(cls, order: tuple[Region, ...]) -> tuple[Region, ...]:
        names = [region.name for region in order]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two regions have the name {name}")
        return order

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(region.name for region in self.order)


# --- plans


class BasePlan(PlanSection):
    """The sections of every plan, whatever its strategy."""

    name: ReleaseName = Field(description="unique; the operator types it to confirm irreversible steps")
    strategy: str
    environment: str = Field("production", min_length=1, max_length=40, description="shown on every screen")
    production: bool | None = Field(
        None, description="whether this is production: locked screens, rehearsal required; default: guessed by name"
    )
    database: Database
    gates: Gates = Gates()
    guard: Guard | None = Field(
        None, description="rules that are evaluated in every phase, and can roll back automatically"
    )
    confirm: ConfirmSection = Field(ConfirmSection(), description="confirmation of commands")
    dns: tuple[str, ...] = Field((), description="public names, where traffic is switched by DNS")
    regions: Regions | None = Field(None, description="several clusters and databases, one after the other")

    _region: str = PrivateAttr("")
    _full_plan: "BasePlan | None" = PrivateAttr(None)

    @property
    def is_production(self) -> bool:
        return is_production(self.environment, self.production)

    @property
    def region(self) -> str:
        """The region of this plan; empty for the whole plan, and for a plan without regions."""
        return self._region

    @property
    def earlier_regions(self) -> tuple[str, ...]:
        """The regions before this one, in order."""
        names = self.regions.names if self.regions else ()
        return names[: names.index(self._region)] if self._region else ()

    def for_region(self, name: str) -> Self:
        """The plan of one region; keys that the region does not set are those of the whole plan.

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
        if region.kubernetes is not None and isinstance(own, WorkloadPlan):
            changes["kubernetes"] = own.kubernetes.model_copy(update=region.kubernetes.overrides)
        own = own.model_copy(update=changes)
        own._region, own._full_plan = name, whole
        return own  # type: ignore[return-value]  # a copy of a plan has its class

    def without_regions(self) -> Self:
        """A copy that waits for no other region, for a rehearsal."""
        alone = self.model_copy(update={"regions": None})
        alone._region, alone._full_plan = "", None
        return alone

    def with_redis(self, url: SecretStr) -> Self:
        """A copy whose flags are in that Redis.

        Raises:
            ValueError: the release has no flags.
        """
        raise ValueError(f"a {self.strategy} plan has no flags to override")

    @property
    def flag_section(self) -> FlagSection | None:
        """The section with the release's flags; None where it has no flags."""
        return None

    @property
    def redis_url(self) -> SecretStr | None:
        return self.flag_section.url if self.flag_section else None

    @property
    def flag_staleness(self) -> float:
        """Seconds that a pod may use a flag's value after it was changed."""
        return self.flag_section.max_staleness if self.flag_section else 0.0

    @property
    def flag_roles(self) -> dict[str, str]:
        """Keys of the release's flags, with the role of each."""
        return {}

    @property
    def workloads(self) -> tuple[str, ...]:
        """The Deployments whose pods serve the application during the release, the first one first; may be empty."""
        return ()

    @property
    def services(self) -> tuple[str, ...]:
        """The Services through which requests reach them; as many as there are, or fewer."""
        return ()

    @property
    def versions(self) -> tuple[str, ...]:
        """Every result of :meth:`WorkloadPlan.version_of`, the oldest first."""
        return ("old", "new")


class AcceptingPlan(BasePlan):
    """The plan of a release that may lose something by name."""

    accept: tuple[AcceptedLoss, ...] = Field((), description="losses that `zdd check` names and that are accepted")

    @field_validator("accept")
    @classmethod
    def _check_distinct_losses(cls, accept: tuple[AcceptedLoss, ...]) -> tuple[AcceptedLoss, ...]:
        names = [loss.what for loss in accept]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is accepted twice")
        return accept

    @property
    def accepted_reasons(self) -> dict[str, str]:
        """The reason of every accepted loss, by its name."""
        return {loss.what: loss.reason for loss in self.accept}


class WorkloadPlan(BasePlan):
    """The plan of a release that rolls out an image on a Deployment."""

    kubernetes: Workload

    _admitted: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def service(self) -> str:
        return self.kubernetes.service or self.kubernetes.deployment

    @property
    def workloads(self) -> tuple[str, ...]:
        """The Deployments whose pods serve the application during the release; the first one always exists."""
        return (self.kubernetes.deployment,)

    @property
    def services(self) -> tuple[str, ...]:
        """The Services through which requests reach them; the first one always exists."""
        return (self.service,)

    def version_of(self, image: str) -> str:
        """The version of a container image, as one short word."""
        raise NotImplementedError

    def is_image(self, planned: str, found: str) -> bool:
        """Whether an image found in the cluster is the expected one, also as an admission webhook has changed it."""
        return is_same_image(self._admitted.get(planned, planned), self._admitted.get(found, found))

    def learn_image(self, planned: str, admitted: str) -> None:
        """Remembers what the API server made of a planned image that was set."""
        self._admitted[admitted] = self._admitted.get(planned, planned)


class Plan(WorkloadPlan, AcceptingPlan):
    """Expand/contract: the schema changes under the running application."""

    strategy: Literal["expand-contract"] = "expand-contract"
    kubernetes: Kubernetes
    flags: Flags
    change: Change
    backfill: Backfill = Backfill()
    cutover: Cutover = Cutover()

    @field_validator("backfill", mode="before")
    @classmethod
    def _refuse_limits_of_tables(cls, section: object) -> object:
        if isinstance(section, dict) and "tables" in section:
            raise ValueError(
                with_hint(
                    "tables: a plan with `change:` fills one table",
                    "write the limits into `backfill:` itself; limits for each table belong to a plan of `operations:`",
                )
            )
        return section

    @property
    def flag_section(self) -> FlagSection:
        return self.flags

    def with_redis(self, url: SecretStr) -> Self:
        return self.model_copy(update={"flags": self.flags.model_copy(update={"url": url})})

    @property
    def flag_roles(self) -> dict[str, str]:
        return {self.flags.write: "write", self.flags.read: "read"}

    @property
    def versions(self) -> tuple[str, ...]:
        return ("v1", "v2", "v3")

    def version_of(self, image: str) -> str:
        """``v2``, ``v3``, or ``v1`` for whatever ran before."""
        if self.is_image(self.kubernetes.images.v3, image):
            return "v3"
        return "v2" if self.is_image(self.kubernetes.images.v2, image) else "v1"
