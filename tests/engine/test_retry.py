"""Which errors are repeated, and which of them for as long as they last."""

import pytest

from zdd_tui.backends.kubernetes.errors import ApiUnreachable, KubeApiError
from zdd_tui.engine.retry import is_outage, is_permanent
from zdd_tui.model.errors import BackendError, ClusterError, FlagStoreError, FlagStoreUnavailable


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((KubeApiError("refused", status=status), True) for status in (400, 403, 404, 405, 409, 422)),
        *((KubeApiError("busy", status=status), False) for status in (401, 429, 500, 502, 503, 504)),
        (ApiUnreachable("no route to host"), False),
        (FlagStoreError("failover"), False),
    ],
)
def test_only_what_a_retry_may_change_is_repeated(error: BackendError, expected: bool) -> None:
    assert is_permanent(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((KubeApiError("refused", status=status), False) for status in (400, 401, 403, 404, 409, 422)),
        *((KubeApiError("busy", status=status), True) for status in (429, 500, 502, 503, 504)),
        (ApiUnreachable("no route to host"), True),
        (ClusterError("the certificate is not trusted"), False),
        (FlagStoreUnavailable("does not respond in time"), True),
        (FlagStoreError("refuses the login"), False),
    ],
)
def test_only_an_outage_is_waited_out_without_a_limit(error: BackendError, expected: bool) -> None:
    assert is_outage(error) is expected
