"""The artifacts of the models that are called: checked once, mapped into memory, let go once a newer version answers."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from attribution import bundles
from attribution.bundles import Bundle

from .errors import ApiError

logger = logging.getLogger("marketplace.gateway")

KEPT_MAX = 24
REFUSED_S = 30.0  # so long a model whose files are damaged is refused without reading them again


class Refused(Exception):
    """The files of an artifact are missing, or do not have the hash they are stored under."""

    def __init__(self) -> None:
        super().__init__("The model's files are missing or damaged.")
        self.until_s = time.monotonic() + REFUSED_S


class Artifacts:
    """A thread that reads artifacts, and those that it read. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="artifacts")
        self._lock = threading.Lock()
        self._reads: OrderedDict[str, Future[Bundle]] = OrderedDict()

    def stop(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def read(self, sha256: str) -> Future[Bundle]:
        """The bundle of an artifact, soon or already. Its exception is Refused."""
        with self._lock:
            found = self._reads.get(sha256)
            if found is None or _may_be_tried_again(found):
                found = self._reads[sha256] = self._thread.submit(_read, sha256)
                if len(self._reads) > KEPT_MAX:
                    self._reads.popitem(last=False)
            self._reads.move_to_end(sha256)
        return found

    def has(self, sha256: str) -> bool:
        """Whether a bundle is read, or being read: its model is called here."""
        with self._lock:
            return sha256 in self._reads

    def let_go(self, sha256: str) -> None:
        """Forget a bundle. Calls that it answers keep it until they end; then its files are unmapped."""
        with self._lock:
            self._reads.pop(sha256, None)

    async def bundle(self, sha256: str) -> Bundle:
        """The bundle of an artifact. Raises ApiError 503."""
        found = self.read(sha256)
        try:
            return found.result() if found.done() else await asyncio.shield(asyncio.wrap_future(found))
        except Refused as refused:
            raise ApiError(503, f"{refused} Nothing was charged.", code="model_unavailable") from refused


def _read(sha256: str) -> Bundle:
    try:
        return bundles.read(sha256)
    except (OSError, ValueError, LookupError) as error:
        logger.error("artifact %s is refused: %s", sha256, error)
        raise Refused from error


def _may_be_tried_again(found: Future[Bundle]) -> bool:
    failed = found.exception() if found.done() else None
    return failed is not None and not (isinstance(failed, Refused) and failed.until_s > time.monotonic())
