"""Which databases belong to the fleet: the user's config.toml, and addresses from the command line.

Pure: the caller reads the file and the environment.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, StringConstraints, ValidationError, field_validator

from zdd_tui.model.errors import ZddError, with_hint
from zdd_tui.model.masking import is_readable_address
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.file import fill_placeholders
from zdd_tui.model.plan.section import PlanSection

MAX_DATABASES = 200
"""Databases of a fleet. Each has one session while the fleet is on screen."""

MAX_VARIABLES = 50
"""Variables of one database."""

EXAMPLE_CONFIG = """\
[[database]]
name = "shop-eu"
dsn = "${SHOP_EU_DATABASE_URL}"
group = "shop"                       # optional, like the lines below
environment = "production"

[colours]
production = "red"
"""
"""A complete configuration, as the error for a missing file shows it."""

Colour = Literal["red", "yellow", "green", "blue", "grey"]

ShortName = Annotated[str, StringConstraints(min_length=1, max_length=40, strip_whitespace=True)]


class FleetConfigError(ZddError):
    """The configuration of the fleet cannot be used."""


@dataclass(frozen=True, slots=True)
class FleetDatabase:
    """A database of the fleet.

    Attributes:
        name: shown; unique in the fleet.
        dsn: with its password; empty where it is not known.
        group: of databases that belong together; may be empty.
        environment: for a database without a release; a release shows that of its plan.
        variables: values for ``${NAME}`` in the plans that are stored there.
        error: why the address is not known; empty if it is.
        hint: what to do about the error.
    """

    name: str
    dsn: str = field(repr=False)
    group: str = ""
    environment: str = ""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """The databases, and the colour of each environment, by its name in lower case."""

    databases: tuple[FleetDatabase, ...] = ()
    colours: Mapping[str, Colour] = field(default_factory=dict)


class _DatabaseEntry(PlanSection):
    name: ShortName
    dsn: str = Field(min_length=1, max_length=2000)
    group: str = Field("", max_length=40)
    environment: str = Field("", max_length=40)
    variables: dict[str, Annotated[str, StringConstraints(max_length=2000)]] = Field(
        default_factory=dict, max_length=MAX_VARIABLES
    )


class _ConfigFile(PlanSection):
    theme: str | None = Field(None, min_length=1, max_length=100)
    database: tuple[_DatabaseEntry, ...] = Field((), max_length=MAX_DATABASES)
    colours: dict[ShortName, Colour] = Field(default_factory=dict, max_length=MAX_VARIABLES)

    @field_validator("database")
    @classmethod
    def _check_unique_names(cls, entries: tuple[_DatabaseEntry, ...]) -> tuple[_DatabaseEntry, ...]:
        seen: set[str] = set()
        for entry in entries:
            if entry.name in seen:
                raise ValueError(f"two databases have the name {entry.name}")
            seen.add(entry.name)
        return entries


def parse_theme(text: str) -> str:
    """The ``theme`` of a configuration; empty without one, and where the text is no TOML, which the fleet tells."""
    try:
        theme = tomllib.loads(text).get("theme")
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return ""
    return theme if isinstance(theme, str) else ""


def parse_fleet_config(text: str, *, source: str, environment: Mapping[str, str]) -> FleetSettings:
    """Parses and validates a configuration.

    A variable that is not set is an error of that database alone.

    Args:
        source: the file's name, for messages.
        environment: the values of ``${NAME}``.

    Raises:
        FleetConfigError: names every invalid key; never a value, which may be a password.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FleetConfigError(
            f"{source}: not valid TOML: {_position(error)}", "quote texts, and close [[...]]"
        ) from None
    except (RecursionError, ValueError):
        raise FleetConfigError(
            f"{source}: not valid TOML: a value is nested too deep, or too long", "write it as in docs/guide.md"
        ) from None
    try:
        parsed = _ConfigFile.model_validate(document)
    except ValidationError as error:
        texts = [
            _describe_problem(source, detail["loc"], detail["type"], detail["msg"]) for detail in error.errors()[:10]
        ]
        raise FleetConfigError("\n".join(texts)) from None
    databases = tuple(_fill_entry(entry, source, environment) for entry in parsed.database)
    return FleetSettings(databases, {name.lower(): colour for name, colour in parsed.colours.items()})


def _position(error: tomllib.TOMLDecodeError) -> str:
    """Where, without the text there: it may be a password."""
    head, marker, place = str(error).rpartition(" (at ")
    return f"at {place.rstrip(')')}" if marker and head else "the document ends too early"


def _describe_problem(source: str, location: tuple[int | str, ...], kind: str, message: str) -> str:
    key = ""
    for part in location:
        key += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if key else part
    place = f"{source}: {key[:80]}"
    models: dict[bool, Iterable[str]] = {
        True: _ConfigFile.model_fields,
        False: _DatabaseEntry.model_fields,
    }
    known = list(models[len(location) == 1])
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        return with_hint(f"{place}: unknown key", f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")
    if kind == "missing":
        return with_hint(f"{place}: missing", 'each [[database]] has a name and a dsn, such as dsn = "${DATABASE_URL}"')
    text = message.removeprefix("Value error, ").replace("Input should be", "expected")
    text = text.replace("Tuple should have", "expected").replace(" after validation", "")
    return with_hint(f"{place}: {text}", "write it as in docs/guide.md")


def _fill_entry(entry: _DatabaseEntry, source: str, environment: Mapping[str, str]) -> FleetDatabase:
    dsn, unset = fill_placeholders(entry.dsn, environment)
    variables = {}
    for name, value in entry.variables.items():
        filled, missing = fill_placeholders(value, environment)
        if not missing:  # what is not set here is told when a release needs it
            variables[name] = filled
    error, hint = _unset_variable(unset, source)
    return FleetDatabase(
        entry.name, "" if unset else dsn, entry.group, entry.environment, variables, error=error, hint=hint
    )


def _unset_variable(names: Sequence[str], source: str) -> tuple[str, str]:
    if not names:
        return "", ""
    return f"the environment variable {names[0]} is not set ({source})", f"export {names[0]}=..."


def database_from_dsn(dsn: str, environment: Mapping[str, str]) -> FleetDatabase:
    """A database from the command line: an address, or ``${NAME}`` from the environment."""
    filled, unset = fill_placeholders(dsn, environment)
    if unset:
        error, hint = _unset_variable(unset, "--dsn")
        return FleetDatabase(dsn[:40], "", error=error, hint=hint)
    return FleetDatabase(short_address(filled), filled)


def join_databases(*sources: Iterable[FleetDatabase]) -> tuple[FleetDatabase, ...]:
    """The databases of several sources, each address once; the earlier source names it. Equal names get a number."""
    kept: list[FleetDatabase] = []
    places: set[tuple[str, int, str]] = set()
    names: set[str] = set()
    for database in (each for source in sources for each in source):
        place = database_place(database.dsn)
        if place is not None and place in places:
            continue
        if place is not None:
            places.add(place)
        name, number = database.name, 2
        while name in names:
            name, number = f"{database.name} ({number})", number + 1
        names.add(name)
        kept.append(database if name == database.name else _renamed(database, name))
    return tuple(kept[:MAX_DATABASES])


def _renamed(database: FleetDatabase, name: str) -> FleetDatabase:
    return FleetDatabase(
        name,
        database.dsn,
        database.group,
        database.environment,
        database.variables,
        error=database.error,
        hint=database.hint,
    )


def database_place(dsn: str) -> tuple[str, int, str] | None:
    """Host, port and database of an address; None where they cannot be told for sure."""
    if not dsn or not is_readable_address(dsn):
        return None
    parts = urlsplit(dsn)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    host = parts.hostname or query.get("host", "")
    name = unquote(parts.path.lstrip("/")) or query.get("dbname") or query.get("database") or ""
    try:
        port = parts.port or int(query.get("port", "5432"))
    except ValueError:
        return None
    return (host.lower(), port, name) if host and name and "," not in parts.netloc else None


def is_same_database(one: str, other: str) -> bool:
    """Whether two addresses certainly lead to one database; False where it cannot be told."""
    place = database_place(one)
    return place is not None and place == database_place(other)


def short_address(dsn: str) -> str:
    """``shop@db.eu:5433``, without user and password; the port where it is not the usual one."""
    place = database_place(dsn)
    if place is None:
        return "(database)"
    host, port, name = place
    return f"{name}@{host}{f':{port}' if port != 5432 else ''}"


def plan_databases(plans: Iterable[BasePlan]) -> tuple[FleetDatabase, ...]:
    """The databases of a plan's regions, or the one of a plan without regions. What is not filled in is left out."""
    found = []
    for plan in plans:
        dsn = plan.database.dsn.get_secret_value()
        if "${" not in dsn:
            found.append(FleetDatabase(plan.region or short_address(dsn), dsn, environment=plan.environment))
    return tuple(found)
