"""What an operator confirmed is what a command touches: the Deployments are still the ones that were on screen."""

from zdd_tui.backends.kube_errors import KubeApiError
from zdd_tui.backends.kubernetes import Cluster
from zdd_tui.model.errors import BackendError, Refused
from zdd_tui.model.records import StoredCommand
from zdd_tui.model.release import CommandKind

_NOT_FOUND = 404


async def recheck_objects(cluster: Cluster, stored: StoredCommand) -> None:
    """Holds the uids that the command froze against the cluster (design, invariant 10).

    A rollback goes on where the cluster cannot be asked, or has lost a Deployment: it undoes what it can.

    Raises:
        Refused: another object stands under a confirmed name now, or an advance cannot be rechecked.
    """
    expected = stored.asked.expected
    back = stored.kind is CommandKind.ROLLBACK
    for name, uid in expected.objects if expected else ():
        try:
            view = await cluster.get_deployment(name)
        except BackendError as error:
            if back:
                continue
            if isinstance(error, KubeApiError) and error.status == _NOT_FOUND:
                raise Refused(f"Deployment {name} was deleted since it was confirmed", "look again") from None
            raise Refused(
                f"what was confirmed cannot be rechecked: {error.title}", "repeat it when it is back"
            ) from None
        if view.uid != uid:
            raise Refused(
                f"Deployment {name} was deleted and made anew since it was confirmed (uid {uid} is {view.uid} now)",
                "look at it, then repeat the command",
            )
