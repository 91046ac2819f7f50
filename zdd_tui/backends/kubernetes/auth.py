"""Access to a cluster: kubeconfig, context, service account, exec plugins, TLS.

kubernetes_asyncio does the work; this module explains its errors. It imports that library on the first connection, in
a thread.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zdd_tui.backends.kubernetes.client_import import import_client
from zdd_tui.model.errors import ClusterError

if TYPE_CHECKING:
    import aiohttp

DEFAULT_KUBECONFIG = "~/.kube/config"


class ApiSession:
    """An open session to one API server, with credentials that can be renewed.

    `source` names the origin of the credentials, `context` the active context.
    """

    def __init__(
        self, configuration: Any, rest: Any, source: str, context: str, reload: Callable[[Any], Awaitable[None]]
    ) -> None:
        self._configuration = configuration
        self._rest = rest
        self._reload = reload
        self._renewal_lock = asyncio.Lock()
        self._renewals = 0
        self.source = source
        self.context = context
        self.server: str = configuration.host.rstrip("/")

    @property
    def session(self) -> "aiohttp.ClientSession":
        """The aiohttp session of the library, with TLS and pooling configured."""
        session: aiohttp.ClientSession = self._rest.pool_manager
        return session

    async def request_options(self) -> dict[str, Any]:
        """Returns the keyword arguments of every request: credentials, proxy, TLS server name."""
        configuration, rest = self._configuration, self._rest
        headers = {"User-Agent": "zdd-tui"}
        token = await configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        options: dict[str, Any] = {"headers": headers}
        if rest.proxy:
            options["proxy"] = rest.proxy
        if rest.server_hostname:
            options["server_hostname"] = rest.server_hostname
        return options

    @property
    def renewal_count(self) -> int:
        """How often the credentials were renewed. Pass it to `renew_credentials`: many refused requests then renew
        once."""
        return self._renewals

    async def renew_credentials(self, known_renewals: int) -> None:
        """Read the credentials again, for example when the token of an exec plugin has expired."""
        async with self._renewal_lock:
            if self._renewals == known_renewals:
                await self._reload(self._configuration)
                self._renewals += 1

    async def close(self) -> None:
        """Close every connection."""
        await self._rest.close()
        # aiohttp leaves closed TLS transports to the loop: one iteration releases them.
        await asyncio.sleep(0)


async def open_api_session(kubeconfig: str | None, context: str | None) -> ApiSession:
    """Find the cluster and prepare a session. Nothing is sent yet.

    Args:
        kubeconfig: path; None takes $KUBECONFIG, then ~/.kube/config, then the pod's service account.
        context: None takes the file's current context.

    Raises:
        ClusterError: no such file or context, or invalid credentials.
    """
    client = await asyncio.to_thread(import_client)
    config, configuration = client.config, client.configuration()
    # Python 3.13 rejects certificate authorities without optional extensions; kubectl accepts them, and so does zdd.
    # Chain and host name are still verified.
    configuration.disable_strict_ssl_verification = True
    source = kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    exists = _has_kubeconfig(source)
    if not exists and kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        source = "the pod's service account"

        async def load(target: Any) -> str:
            config.load_incluster_config(client_configuration=target)
            return "in-cluster"
    elif not exists:
        raise ClusterError(
            f"no kubeconfig at {source}", "set kubernetes.kubeconfig or KUBECONFIG, or run inside the cluster"
        )
    else:

        async def load(target: Any) -> str:
            # Like kubectl, it writes a refreshed OIDC token back: the old refresh token may be invalid afterwards.
            loader = await config.load_kube_config(source, context=context, client_configuration=target)
            return str(loader.current_context["name"])

    current_context = await _load_credentials(load, configuration, source, context, config.ConfigException)
    try:
        rest = client.rest(configuration)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ClusterError(f"cannot use the certificates named in {source}", str(error)) from error

    async def reload(target: Any) -> None:
        await _load_credentials(load, target, source, context, config.ConfigException)

    return ApiSession(configuration, rest, source, current_context, reload)


def _has_kubeconfig(source: str) -> bool:
    return any(Path(part).expanduser().is_file() for part in source.split(os.pathsep) if part)


def _missing_file_error(source: str, name: str, reason: str) -> ClusterError:
    """The error for a certificate or an exec plugin that `source` names and that cannot be used."""
    if os.sep in name:
        return ClusterError(f"{source} names {name}: {reason}", "install or correct it; check with: kubectl version")
    return ClusterError(
        f"the credential plugin {name} that {source} names is not installed",
        f"install {name} or put it on PATH; check with: kubectl version",
    )


async def _load_credentials(
    load: Callable[[Any], Awaitable[str]],
    configuration: Any,
    source: str,
    context: str | None,
    config_exception: type[Exception],
) -> str:
    try:
        return await load(configuration)
    except config_exception as error:
        if context and "contexts" in str(error):
            title = f"no context {context!r} in {source}"
            raise ClusterError(title, "list them with: kubectl config get-contexts") from error
        if "current-context" in str(error):
            raise ClusterError(f"{source} has no current context", "set kubernetes.context in the plan") from error
        if "exec:" in str(error):  # the library quotes the output of the plugin, which may be a token
            title = f"the credential plugin named in {source} failed"
            raise ClusterError(title, "run it with: kubectl version") from None
        raise ClusterError(f"cannot use {source}: {error}", "check it with: kubectl config view") from error
    except OSError as error:
        if error.filename is None:
            raise ClusterError(f"cannot use {source}: {error.strerror}", "check it with: kubectl version") from None
        raise _missing_file_error(source, str(error.filename), error.strerror or "cannot be used") from None
    except Exception as error:  # plugins, YAML and base64 raise errors of many types
        # The text of such an error may quote credentials: show only its type.
        raise ClusterError(
            f"cannot use {source}: {type(error).__name__} while reading the credentials",
            "check it with: kubectl version",
        ) from None
