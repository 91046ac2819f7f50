"""The configuration of the fleet: bounded, validated, never showing a password."""

import pytest

from zdd_tui.model.fleet.config import (
    EXAMPLE_CONFIG,
    MAX_DATABASES,
    FleetConfigError,
    FleetDatabase,
    database_from_dsn,
    is_same_database,
    join_databases,
    parse_fleet_config,
    short_address,
)

EU = "postgresql://ana:s3cret@db.eu/shop"
ENVIRONMENT = {"SHOP_EU_DATABASE_URL": EU, "REDIS": "redis://:pw@cache/0"}


def parse(text: str):  # type: ignore[no-untyped-def]
    return parse_fleet_config(text, source="config.toml", environment=ENVIRONMENT)


def test_the_example_is_a_configuration() -> None:
    settings = parse(EXAMPLE_CONFIG)
    assert [(each.name, each.dsn, each.group, each.environment) for each in settings.databases] == [
        ("shop-eu", EU, "shop", "production")
    ]
    assert settings.colours == {"production": "red"}


def test_a_variable_that_is_not_set_is_an_error_of_its_database_alone() -> None:
    unset, other = parse(
        '[[database]]\nname = "a"\ndsn = "${NOT_SET}"\n[[database]]\nname = "b"\ndsn = "${SHOP_EU_DATABASE_URL}"'
    ).databases
    assert (unset.dsn, unset.hint) == ("", "export NOT_SET=...")
    assert "NOT_SET is not set" in unset.error
    assert (other.dsn, other.error) == (EU, "")


def test_variables_of_a_database_are_filled_and_those_that_are_not_set_are_left_out() -> None:
    (database,) = parse(
        '[[database]]\nname = "a"\ndsn = "${SHOP_EU_DATABASE_URL}"\n'
        '[database.variables]\nREDIS_URL = "${REDIS}"\nKUBECONFIG = "${NOT_SET}"'
    ).databases
    assert database.variables == {"REDIS_URL": "redis://:pw@cache/0"}
    assert "s3cret" not in repr(database)
    assert "pw@" not in repr(database)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('[[database]]\nname = "a"', "config.toml: database[1].dsn: missing", "each [[database]] has a name and a dsn"),
        ('[[database]]\nname = "a"\ndns = "x"\ndsn = "y"', "database[1].dns: unknown key", "did you mean dsn?"),
        ('[[databases]]\nname = "a"', "config.toml: databases: unknown key", "did you mean database?"),
        ('[colours]\nproduction = "mauve"', "colours.production: expected 'red', 'yellow'", "docs/guide.md"),
        ('[[database]]\nname = "a"\ndsn = p:s3cret@x', "not valid TOML: at line 3", "quote texts"),
        ('[[database]]\nname = "a"\ndsn = 5', "database[1].dsn: expected a valid string", "docs/guide.md"),
        (2 * '[[database]]\nname = "a"\ndsn = "x"\n', "two databases have the name a", ""),
        ("a = " + 3000 * "[" + 3000 * "]", "nested too deep", ""),
        (
            "".join(f'[[database]]\nname = "{number}"\ndsn = "x"\n' for number in range(MAX_DATABASES + 1)),
            f"at most {MAX_DATABASES}",
            "",
        ),
    ],
)
def test_an_error_names_the_key_and_a_fix_and_no_value(text: str, message: str, hint: str) -> None:
    with pytest.raises(FleetConfigError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert hint in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_database_of_the_command_line() -> None:
    assert database_from_dsn("${SHOP_EU_DATABASE_URL}", ENVIRONMENT) == FleetDatabase("shop@db.eu", EU)
    assert database_from_dsn("${NOPE}", ENVIRONMENT).error.startswith("the environment variable NOPE is not set")


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://ana:pw@db:5433/shop", "shop@db:5433"),
        ("postgresql://ana:p/w@db/shop", "(database)"),  # an unescaped slash: host and path are parts of the password
        ("postgresql://ana:pw#x@db/shop", "(database)"),
        ("not an address", "(database)"),
    ],
)
def test_a_short_address_holds_no_part_of_a_password(dsn: str, shown: str) -> None:
    assert short_address(dsn) == shown


def test_the_same_address_is_one_database_and_equal_names_get_a_number() -> None:
    one, same = FleetDatabase("a", EU), FleetDatabase("b", "postgresql://other@DB.EU:5432/shop")
    joined = join_databases([one], [same, FleetDatabase("a", "postgresql://x@db.us/shop")])
    assert [each.name for each in joined] == ["a", "a (2)"]
    assert is_same_database(one.dsn, same.dsn)
    assert not is_same_database("", "")
    assert not is_same_database("${DATABASE_URL}", "${DATABASE_URL}")
