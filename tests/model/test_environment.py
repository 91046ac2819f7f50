"""Which names suggest production."""

import pytest

from zdd_tui.model.environment import is_production


@pytest.mark.parametrize(
    "name",
    [
        *("production", "prod", "prd", "live", "PRODUCTION", "Prod", " prod "),
        *("prod-eu", "eu-production", "prod_eu_1", "eu.prod", "shop/prod", "prod2", "Production2", "prd1-eu", "EuProd"),
        *("live-eu", "go-live", "prod-staging"),
    ],
)
def test_production(name: str) -> None:
    assert is_production(name)


@pytest.mark.parametrize(
    "name",
    [
        *("preprod", "pre-production", "pre-prod", "pre_prod", "PreProd", "PREPROD", "non-prod", "nonprod", "NonProd"),
        *("non_production", "not-production", "eu-non-prod", "prod-like", "prod-copy"),
        *("staging", "stage", "test", "dev", "demo", "qa", ""),
        *("product", "products", "reproduction", "olive", "delivery"),
    ],
)
def test_no_production(name: str) -> None:
    assert not is_production(name)
