"""The settings of a pod, from its environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from zdd_tui.demo.plan import FLAG_STALENESS, ChangeKind, DualWriteMode
from zdd_tui.model.duration import parse_duration
from zdd_tui.model.errors import ZddError


@dataclass(frozen=True, slots=True)
class Settings:
    """The names of the variables are in :meth:`from_env`.

    Attributes:
        version: 1 to 5, the tag of the image.
        shadow_flag, dark_flag: of versions 4 and 5: share of requests compared, share of users on the new path.
        drain_seconds: how long requests are still served after SIGTERM.
        flag_staleness: seconds that a flag's value may be used after it was changed.
        requires_flags: version 2 is not ready while a flag is missing: its release changes the schema. Else it does
            what version 1 does while its flags are unset.
    """

    version: int
    kind: ChangeKind
    dual_write: DualWriteMode
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    write_flag: str
    read_flag: str
    shadow_flag: str
    dark_flag: str
    host: str
    port: int
    pod: str
    image: str
    drain_seconds: float
    flag_staleness: float = 1.0
    requires_flags: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """
        Raises:
            ZddError: a variable is missing or has an unknown value.
        """
        image = _required(env, "IMAGE")
        return cls(
            version=int(_one_of("the tag of IMAGE", image.rpartition(":")[2], *"12345")),
            kind=cast(ChangeKind, _one_of("CHANGE_KIND", env.get("CHANGE_KIND", "column"), "column", "table")),
            dual_write=cast(
                DualWriteMode, _one_of("DUAL_WRITE", env.get("DUAL_WRITE", "application"), "application", "trigger")
            ),
            database_url=_required(env, "DATABASE_URL"),
            redis_url=_required(env, "REDIS_URL"),
            write_flag=env.get("ZDD_FLAG_WRITE", "users_full_name_write"),
            read_flag=env.get("ZDD_FLAG_READ", "users_full_name_read"),
            shadow_flag=env.get("ZDD_FLAG_SHADOW", "users_sql_name_shadow"),
            dark_flag=env.get("ZDD_FLAG_DARK", "users_sql_name_read"),
            host=env.get("POD_IP", "127.0.0.1"),
            port=int(env.get("PORT", "8080")),
            pod=env.get("POD_NAME", "users-api"),
            image=image,
            drain_seconds=float(env.get("DRAIN_SECONDS", "2")),
            flag_staleness=parse_duration(env.get("FLAG_STALENESS", FLAG_STALENESS)),
            requires_flags=env.get("ZDD_FLAGS_REQUIRED", "") == "1",
        )


def _required(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        raise ZddError(f"the sample application needs the environment variable {name}", "set it in the pod's env")
    return env[name]


def _one_of(label: str, value: str, *allowed: str) -> str:
    if value not in allowed:
        raise ZddError(f"{label} is {value!r}", f"use one of {', '.join(allowed)}")
    return value
