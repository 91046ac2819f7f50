"""Which errors of the Kubernetes API are repeated."""

import pytest

from zdd_tui.backends.kubernetes.errors import ApiUnreachable, KubeApiError
from zdd_tui.engine.retry import is_permanent
from zdd_tui.model.errors import BackendError, FlagStoreError


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
