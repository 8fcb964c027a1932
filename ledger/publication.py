"""Keeps the public log's files up to date: tiles, entries, heads. Anybody may copy them, and check the log by them alone.

Only what enough witnesses have seen is written, tiles before the head that covers them, so that a reader who has a head
finds everything under it. What a full file says never changes; one that differs from the books is not overwritten but
told, because it may be the only trace of what the log said before.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from ledger import commitments, durable, keys, log, merkle, notes, tiles
from ledger.errors import BehindWitness, OutOfStep
from ledger.models import Leaf, Node

logger = logging.getLogger(__name__)

#: A busy log has many heads a second; each would cost some files and waits for the disk.
EVERY_S = 1.0
#: After a difference was told.
PAUSE_S = 60.0
#: Leaves of one part, 8 bundles: after a long absence neither the loop nor its memory feels how much is missing.
PART = 8 * tiles.WIDTH
FILES_MAX = 16  # of one step, or those of one part
READABLE = 0o644


class Publication:
    """The folder of the files, and how far this process knows it to be complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._size = 0  # Everything full below it is there; the first steps of a process look.
        self._told = 0
        self._due_at = 0.0

    def step(self) -> int:
        """Write what the newest witnessed head covers, or the next part of it. Returns how many files.

        A folder that is not of this log, or was changed, is an error in the log; money does not wait for it.
        """
        if time.monotonic() < self._due_at:
            return 0
        self._due_at = time.monotonic() + EVERY_S
        head = log.head()
        if head.size == self._told:
            return 0
        try:
            written = self._fill(head.size, files_max=FILES_MAX)
            if self._size < head.size - head.size % tiles.WIDTH:
                self._due_at = 0.0
                return written
            return written + self._finish(head)
        except (OutOfStep, OSError) as error:
            logger.error("the files of the public log in %s stand still: %s", self.folder, error)
            self._due_at = time.monotonic() + PAUSE_S
            return 0

    def complete(self) -> int:
        """Write whatever is missing. Returns how many files. Raises OutOfStep if those that are there are wrong."""
        head = log.head()
        self._size = 0
        return self._fill(head.size) + self._finish(head) if head.size else 0

    def rewrite(self, names: Iterable[str]) -> None:
        """Throw files away, and every partial one, to be written again by `complete`."""
        for name in names:
            (self.folder / name).unlink()
        for part in self.folder.glob("tile/**/*.p"):
            shutil.rmtree(part)

    def wrong(self) -> list[str]:
        """Compare every full file with the books. Returns the names of those that say something else."""
        found = (tile for tile in tiles.full(log.head().size) if (self.folder / tile.name).exists())
        return [tile.name for tile in found if (self.folder / tile.name).read_bytes() != _content(tile)]

    def _fill(self, size: int, *, files_max: int | None = None) -> int:
        """Write the full files of a log of `size` leaves that are missing; after `files_max` the rest is for later."""
        written, goal = 0, size - size % tiles.WIDTH
        while self._size < goal and (files_max is None or written < files_max):
            reached = min(self._size + PART, goal)
            new = list(tiles.full(reached, after=self._size))
            written += self._put_missing({tile.name: partial(_content, tile) for tile in new})
            # One head for each bundle, so that the files alone tell the log's past too.
            bundles = range(self._size // tiles.WIDTH, reached // tiles.WIDTH)
            written += self._put_missing({tiles.kept_head(index): partial(_kept_head, index) for index in bundles})
            for tile in new:
                # Who asks for a part of a tile that is whole by now asks for the whole one next.
                shutil.rmtree(self.folder / f"{tile.name}.p", ignore_errors=True)
            self._size = reached
        return written

    def _finish(self, head: log.Head) -> int:
        """Write the last, partial files, and then the head, once the files are seen to give its root."""
        written = self._put_missing({tile.name: partial(_content, tile) for tile in tiles.partial(head.size)})
        hash_at = tiles.hash_source(lambda name: (self.folder / name).read_bytes(), head.size)
        if merkle.root(head.size, hash_at) != head.root:
            raise OutOfStep("they do not give the root that was signed. Run: manage.py tiles")
        path = self.folder / tiles.CHECKPOINT
        shown = path.read_text(encoding="utf-8") if path.exists() else ""
        if shown:
            before = notes.parse_checkpoint(shown)
            # Whoever looked has seen it: a smaller head, or another history, would be this log's word against itself.
            if before.size > head.size or merkle.root(before.size, hash_at) != before.root:
                raise OutOfStep(f"the head that was published, of size {before.size}, is not in these books")
        if shown != head.checkpoint:
            self._put(tiles.CHECKPOINT, head.checkpoint.encode())
            written += 1
        self._told = head.size
        return written

    def _put_missing(self, contents: dict[str, Callable[[], bytes]]) -> int:
        missing = [name for name in contents if not (self.folder / name).exists()]
        for name in missing:
            self._put(name, contents[name]())
        return len(missing)

    def _put(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, content, mode=READABLE)


def check_not_behind_published(folder: Path) -> None:
    """Refuse to start on books that lack the head which was published last, whether a witness answers or not.

    Raises:
        BehindWitness: readers have a head, signed by this log, that is not in these books.
    """
    path = folder / tiles.CHECKPOINT
    if not path.exists():
        return
    before = notes.parse_checkpoint(path.read_text(encoding="utf-8"))
    if not notes.is_signed_by_any(before, keys.log_vkeys()):
        return  # another log's folder: `Publication` tells
    is_kept = before.size <= log.head(quorum=False).size
    if not is_kept or log.root(before.size) != before.root:
        raise BehindWitness(
            f"{path} shows a head of size {before.size} that is not in these books: this database is an old copy, or its log "
            "was changed. Restore the newest copy."
        )


def _kept_head(bundle: int) -> bytes:
    """The first head that covers a whole bundle."""
    return log.first_head((bundle + 1) * tiles.WIDTH).checkpoint.encode()


def _content(tile: tiles.Tile) -> bytes:
    """What the books say that a file holds."""
    first, last = tile.first, tile.first + tile.width
    if tile.level > 0:
        nodes = Node.objects.filter(level=tile.level * tiles.TREE_LEVELS, index__gte=first, index__lt=last)
        hashes = [bytes(digest) for digest in nodes.order_by("index").values_list("hash", flat=True)]
    else:
        leaves = list(Leaf.objects.filter(index__gte=first, index__lt=last).order_by("index"))
        hashes = [bytes(leaf.hash) for leaf in leaves]
        if tile.level < 0:
            entries = [commitments.leaf_bytes(leaf.entry) for leaf in leaves]
            if [merkle.leaf_hash(entry) for entry in entries] != hashes:
                raise OutOfStep(f"an entry from {first} on does not give its hash. Run: manage.py verify")
            return tiles.to_bundle(entries)
    if len(hashes) != tile.width:
        raise OutOfStep(f"{tile.name} has {len(hashes)} hashes in the books. Run: manage.py verify")
    return b"".join(hashes)
