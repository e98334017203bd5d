"""Save the emulator's state soon after each change, so that kill -9 loses no table and no item.

ministack writes S3 objects as they are put, but everything else only when it shuts down in good order.
"""

import logging
import queue
import re
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ministack.core import persistence

from local.aws_emulator import IDENTITY_PATH
from local.gatekeeper import Message, Receive, Send

logger = logging.getLogger("local.state_saver")

SAVE_DELAY_SECONDS = 0.3
# A large DynamoDB table takes long to write; saving may take one part in so many of the time.
IDLE_PER_SAVE_TIME = 5
COPY_ATTEMPTS = 20
# Queries count as reading: their history is not kept, and Trino itself calls Glue for what they make.
READING_ACTIONS = ("Get", "List", "Describe", "BatchGet", "Query", "Scan", "Search", "StartQuery", "StopQuery")
# The service's name in a signature: Credential=KEY/20260131/us-east-1/glue/aws4_request
CREDENTIAL_SERVICE = re.compile(rb"Credential=[^/]+/\d+/[^/]+/([^/]+)/")
# Services whose calls change nothing but themselves; a call to another one, such as CloudFormation, may change any.
SELF_CONTAINED = ("s3", "glue", "athena", "dynamodb")
EVERYTHING = "everything"


class StateSaver:
    """An ASGI application around ministack's. It notes what each request may have changed, and saves that."""

    def __init__(self, app_module: ModuleType, identity: str) -> None:
        self.app_module = app_module
        self.inner = app_module.app
        self.identity = identity.encode()
        self.changes: queue.SimpleQueue[str] = queue.SimpleQueue()
        # ministack tells of every file it saves, which would be most of the log.
        logging.getLogger("persistence").setLevel(logging.WARNING)
        threading.Thread(target=self._save_forever, name="state-saver", daemon=True).start()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == IDENTITY_PATH:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": self.identity})
            return
        await self.inner(scope, receive, send)
        if scope["type"] == "http":
            service = changed_service(scope["method"], scope["path"], dict(scope["headers"]))
            if service:
                self.note_change(service)

    def note_change(self, service: str) -> None:
        """Note that a service's state has changed. It is saved a moment later, once for all changes until then."""
        self.changes.put(service)

    def _save_forever(self) -> None:
        while True:
            changed = {self.changes.get()}
            time.sleep(SAVE_DELAY_SECONDS)
            while not self.changes.empty():
                changed.add(self.changes.get())
            began = time.monotonic()
            for name, get_state in self.app_module._build_persistence_save_dict().items():
                if name in changed or EVERYTHING in changed:
                    _save(name, get_state)
            time.sleep((time.monotonic() - began) * IDLE_PER_SAVE_TIME)


def changed_service(method: str, path: str, headers: dict[bytes, bytes]) -> str | None:
    """Return the service whose state a request may have changed; None if it only read, or put an object."""
    if method in ("GET", "HEAD", "OPTIONS") or path.startswith("/_"):
        return None
    found = CREDENTIAL_SERVICE.search(headers.get(b"authorization", b""))
    service = found.group(1).decode() if found else ""
    if service in ("s3", "") and "/" in path.strip("/"):
        return None
    action = headers.get(b"x-amz-target", b"").decode().rpartition(".")[2]
    if service == "sts" or action.startswith(READING_ACTIONS):
        return None
    return service if service in SELF_CONTAINED else EVERYTHING


def _save(name: str, get_state: Callable[[], Any]) -> None:
    for _ in range(COPY_ATTEMPTS):
        try:
            state = get_state()
        except RuntimeError:  # a dictionary changed while it was being copied; a moment later it is still
            time.sleep(0.01)
            continue
        if state is not None:
            persistence.save_state(name, state)
        return
    logger.error("state of %s not saved: it changed all the time", name)
