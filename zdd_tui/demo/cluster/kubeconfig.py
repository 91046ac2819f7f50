"""Writes the kubeconfig that kubectl and every client of the local cluster use."""

import base64
import os
from pathlib import Path

import yaml

CONTEXT = "zdd-demo"


def write(path: Path, server: str, certificate: bytes, token: str) -> None:
    """Write a kubeconfig that only its owner can read; it replaces an older one at once."""
    authority = base64.b64encode(certificate).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": CONTEXT, "user": {"token": token}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": "default"}}],
        "current-context": CONTEXT,
    }
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump(config, file)
    temporary.replace(path)
