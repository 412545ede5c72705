"""Slots as Deployments of Kubernetes: ``python -m recloop.delivery.kubernetes`` rolls out the challenger.

The same release as everywhere, but the challenger's slot is the Deployment ``slot-blue`` or ``slot-green``,
which gets the image of its Bento. The API server is asked as the pod's service account.
"""

import json
import os
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recloop.delivery.processes import ProcessError
from recloop.delivery.release import WORK, Nothing, policy_of, release
from recloop.delivery.rollout import Conflict
from recloop.delivery.routing import Target
from recloop.registry import Registered
from recloop.settings import load_params, places

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOOK = 1.0  # seconds between looks at a Deployment


@dataclass(frozen=True)
class Cluster:
    """The API server, and where slots are.

    Attributes:
        server: its base URL.
        account: folder with the service account's ``token``, ``namespace`` and ``ca.crt``.
        images: where the Bentos' images are, such as ``registry.example.com/recloop``.
        slot_url: where the gateways reach a slot; ``{colour}`` stands for blue or green.
        seconds: how long a slot may take until all of its pods are ready.
    """

    server: str
    account: Path = ACCOUNT
    images: str = ""
    slot_url: str = "http://slot-{colour}:3001"
    seconds: float = 600.0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Cluster":
        """As a pod's environment names it.

        Raises:
            ProcessError: this is no pod, or nobody said where the images are.
        """
        try:
            host, port = environment["KUBERNETES_SERVICE_HOST"], environment["KUBERNETES_SERVICE_PORT"]
            images = environment["RECLOOP_SLOT_IMAGES"]
        except KeyError as error:
            raise ProcessError(
                f"{error.args[0]} is not set: run this in a pod, and say in RECLOOP_SLOT_IMAGES where the"
                " images of `bentoml containerize` are"
            ) from error
        url = environment.get("RECLOOP_SLOT_URL", cls.slot_url)
        host = f"[{host}]" if ":" in host else host
        return cls(f"https://{host}:{port}", images=images.rstrip("/"), slot_url=url)

    def start(self, colour: str, challenger: Registered) -> Target:
        """Give the slot the challenger's image, and wait until all of its pods have it and are ready.

        Raises:
            ProcessError: the API server refuses, or the pods are not ready in time.
        """
        target = Target(self.slot_url.format(colour=colour), policy_of(challenger).manifest.name)
        image = f"{self.images}/{challenger.bento}"
        container = {"name": "slot", "image": image}
        change = {"spec": {"template": {"spec": {"containers": [container]}}}}
        wanted = self._ask("PATCH", colour, change)["metadata"]["generation"]
        end = time.monotonic() + self.seconds
        while state := unready(self._ask("GET", colour), wanted):
            if time.monotonic() > end:
                break
            time.sleep(LOOK)
        else:
            return target
        raise ProcessError(
            f"slot-{colour} with {image} is not ready after {self.seconds:.0f} s: {state}."
            f" See `kubectl describe deployment slot-{colour}`"
        )

    def _ask(self, method: str, colour: str, change: dict | None = None) -> dict[str, Any]:
        namespace = (self.account / "namespace").read_text().strip()
        request = urllib.request.Request(
            f"{self.server}/apis/apps/v1/namespaces/{namespace}/deployments/slot-{colour}",
            None if change is None else json.dumps(change).encode(),
            {
                "authorization": f"Bearer {(self.account / 'token').read_text().strip()}",
                "content-type": "application/strategic-merge-patch+json",
            },
            method=method,
        )
        authority = self.account / "ca.crt"
        context = ssl.create_default_context(cafile=str(authority)) if authority.exists() else None
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ProcessError(
                f"Kubernetes refuses to {method} deployment slot-{colour}: {error.code}"
                f" {error.read().decode(errors='replace')[:300]}"
            ) from error
        except OSError as error:
            raise ProcessError(f"the API server at {self.server} does not answer: {error}") from error


def unready(deployment: Mapping[str, Any], generation: int) -> str:
    """What a Deployment waits for; empty where all pods are of this generation and ready."""
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    if wanted == 0:
        return "it is scaled to 0 replicas"
    if status.get("observedGeneration", 0) < generation:
        return "its change is not seen yet"
    counts = {name: status.get(name, 0) for name in ("updatedReplicas", "availableReplicas", "replicas")}
    if set(counts.values()) == {wanted}:
        return ""
    failing = [c for c in status.get("conditions", []) if c["status"] == "False" and "message" in c]
    why = "".join(f"; {condition['message']}" for condition in failing)
    return f"{counts['availableReplicas']} of {wanted} pods are ready{why}"


def main() -> None:
    """Roll out what is to be rolled out; exit status 1 where that cannot be."""

    def say(text: str) -> None:
        print(text, flush=True)

    try:
        work = replace(WORK, start=Cluster.of(os.environ).start)
        verdicts = release(places(), load_params(), f"kubernetes ({socket.gethostname()})", work, say)
    except Nothing as nothing:
        say(str(nothing))
    except (ProcessError, Conflict) as error:
        sys.exit(str(error))
    else:
        for verdict in verdicts:
            say(f"{verdict.name}: {verdict.outcome}. {verdict.told}")


if __name__ == "__main__":
    main()
