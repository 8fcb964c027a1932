"""The public log as files: whoever has them and nothing else rebuilds every root; nothing private is in them."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client

from ledger import database, ids, merkle, notes, publication, sequencer, tiles
from ledger import services as ledger
from ledger.publication import Publication
from tests.ledger.builders import ALICE, DAN, charge_entry, payment
from tests.ledger.test_log import forget_after

CANARY_NANO = 123_456_789_123


def folder() -> Path:
    return Path(settings.LOG_DIR)


def rules(count: int) -> None:
    for _ in range(count):
        id = ids.new_id()
        ledger.record_fact(
            id=id, reference=f"rule:{id}", entry=ledger.Entry("rule.adopted", {"rule": "a", "parts": []})
        )


def published(books, count: int) -> None:
    rules(count)
    books.log()
    Publication(folder()).step()


class Stranger:
    """Reads the files with nothing of ours: RFC 6962 by its definition, C2SP tiles by their names."""

    def __init__(self, copied: Path) -> None:
        self.copied = copied

    def head(self, name: str = "checkpoint") -> tuple[int, bytes]:
        note = (self.copied / name).read_text()
        notes.check_log_signature(notes.parse_checkpoint(note), ledger.log_vkey())
        _origin, size, root = note.split("\n")[:3]
        return int(size), base64.b64decode(root)

    def entries(self, size: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < size:
            data = self.tile("entries", len(found) // 256, min(256, size - len(found)))
            while data:
                length = int.from_bytes(data[:2], "big")
                found.append(data[2 : 2 + length])
                data = data[2 + length :]
        return found

    def tile(self, level: object, index: int, width: int) -> bytes:
        assert index < 1000
        name = f"tile/{level}/{index:03}"
        return (self.copied / (name if width == 256 else f"{name}.p/{width}")).read_bytes()

    def root(self, hashes: list[bytes]) -> bytes:
        if len(hashes) == 1:
            return hashes[0]
        half = 1 << ((len(hashes) - 1).bit_length() - 1)
        return hashlib.sha256(b"\1" + self.root(hashes[:half]) + self.root(hashes[half:])).digest()


def test_a_stranger_with_only_the_files_rebuilds_every_root(books, tmp_path):
    # Given a log that grew by pieces, among them what people would not want to see published
    books.deposit(DAN, CANARY_NANO)
    ledger.post_many([payment(DAN, ALICE, CANARY_NANO - 24), payment(DAN, ALICE, 24, entry=charge_entry(24))])
    for count in (3, 250, 1, 40, 300):
        published(books, count)

    # When somebody copies the folder
    stranger = Stranger(shutil.copytree(folder(), tmp_path / "copied"))
    size, root = stranger.head()
    entries = stranger.entries(size)
    leaves = [hashlib.sha256(b"\0" + entry).digest() for entry in entries]

    # Then the entries give the hashes, the hashes every tile, and these every head that is kept
    assert size == ledger.log_size() == 597
    assert stranger.root(leaves) == root
    kept = [stranger.head(f"checkpoints/{bundle:03}") for bundle in range(2)]
    assert [size for size, _root in kept] == [256, 597]
    assert [stranger.root(leaves[:size]) for size, _root in kept] == [root for _size, root in kept]
    for index in range(3):
        assert stranger.tile(0, index, min(256, size - 256 * index)) == b"".join(
            leaves[256 * index : 256 * index + 256]
        )
    assert stranger.tile(1, 0, 2) == stranger.root(leaves[:256]) + stranger.root(leaves[256:512])
    assert {json.loads(entry)["type"] for entry in entries[:3]} == {"posting.made", "access.charged"}

    # And no file says who paid whom how much
    for file in (tmp_path / "copied").rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not any(word in content for word in (b"wallet:", b"pending:", b"123456789", b"user:4"))
    assert not (tmp_path / "copied/tile/0/000.p").exists(), "what a whole tile says is not kept in parts"


def test_only_what_enough_witnesses_have_seen_is_published(books, monkeypatch):
    published(books, 3)
    monkeypatch.setattr(settings, "WITNESS_QUORUM", 1)

    published(books, 5)

    assert Stranger(folder()).head()[0] == 3
    assert not (folder() / "tile/0/000.p/8").exists()


def test_missing_files_come_back_and_wrong_ones_are_told_and_kept(books, caplog):
    published(books, 600)
    tile, bundle = folder() / "tile/0/001", folder() / "tile/entries/000"
    before = {path: path.read_bytes() for path in (tile, bundle, folder() / "checkpoints/001")}

    # Given files that are gone: a sequencer that starts writes them again
    for path in before:
        path.unlink()
    published(books, 1)
    assert {path: path.read_bytes() for path in before} == before

    # Given files that were changed: the head stands still until somebody has looked
    part = folder() / "tile/1/000.p/2"
    changed = before[tile][:-1] + bytes([before[tile][-1] ^ 1])
    tile.write_bytes(changed)
    part.write_bytes(part.read_bytes()[::-1])
    head = Stranger(folder()).head()
    published(books, 1)
    assert Stranger(folder()).head() == head
    assert "do not give the root that was signed" in caplog.text
    with pytest.raises(CommandError, match="1 wrong files"):
        call_command("tiles")
    assert tile.read_bytes() == changed
    tile.write_bytes(before[tile])
    with pytest.raises(CommandError, match="do not give the root that was signed"):
        call_command("tiles")
    tile.write_bytes(changed)
    call_command("tiles", "--rewrite")
    assert tile.read_bytes() == before[tile]
    assert Stranger(folder()).head()[0] == 602

    # Given an entry that was changed in the books: it is not published under its old hash
    with closing(books.connect("DATABASE_SUPERUSER_URL")) as session, session, session.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("""UPDATE ledger_leaf SET body = body || '{"rule": "b"}' WHERE index = 601""")
    shutil.rmtree(folder())
    with pytest.raises(CommandError, match=r"does not give its hash\. Run: manage.py verify"):
        call_command("tiles")


def test_an_old_copy_of_the_books_does_not_take_back_what_was_published(books, caplog):
    published(books, 3)
    published(books, 2)
    head = (folder() / "checkpoint").read_text()

    # Given a database from before the last head, and no witness that could tell
    forget_after(books, 3)
    Publication(folder()).step()
    assert (folder() / "checkpoint").read_text() == head
    assert "the head that was published, of size 5, is not in these books" in caplog.text

    # When it grows beyond what it has forgotten, then that is another history
    published(books, 4)
    assert (folder() / "checkpoint").read_text() == head
    with pytest.raises(CommandError, match="is not in these books"):
        call_command("tiles")


def test_a_log_that_nobody_kept_for_hours_is_caught_up_in_parts(books, monkeypatch):
    # Given 20,000 postings that no sequencer has seen
    books.deposit(DAN, 20_000)
    for _ in range(20):
        ledger.post_many([payment(DAN, ALICE, 1) for _ in range(1000)])
    assert sequencer.lag()["log_rows"] == 20_001

    # When one starts, then no round takes more than its part
    logged = []
    while done := sequencer.log():
        logged.append(done)
    assert logged == [1000] * 20 + [1]
    sequencer.sign_and_witness()
    written, catching_up = [], Publication(folder())
    while done := catching_up.step():
        written.append(done)
    assert len(written) == 10 and max(written) <= 3 * publication.PART // tiles.WIDTH
    assert sequencer.lag()["log_rows"] == 0

    # And the files give the root, by the tiles of two levels
    size, root = Stranger(folder()).head()
    source = tiles.hash_source(lambda name: (folder() / name).read_bytes(), size)
    assert (size, merkle.root(size, source)) == (20_001, root)
    assert database.value("SELECT count(*) FROM ledger_leaf") == 20_001


def test_the_files_are_served_to_be_kept_for_ever_and_the_head_to_be_asked_for(books):
    published(books, 300)

    for name in ("tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "checkpoints/000"):
        answer = Client().get(f"/log/{name}")
        assert b"".join(answer.streaming_content) == (folder() / name).read_bytes()
        assert answer["Cache-Control"] == "public, max-age=31536000, immutable"
    answer = Client().get("/log/checkpoint")
    assert answer.getvalue().decode() == ledger.head().checkpoint
    assert answer["Cache-Control"] == "no-cache"
    (folder() / "secret").write_text("x")
    (folder() / "tile/0/secret").write_text("x")
    for name in (
        "secret",
        "tile/0/secret",
        "tile",
        "tile/0/../0/000",
        "../log/checkpoint",
        "tile/0/002",
        "tile/64/000",
    ):
        assert Client().get(f"/log/{name}").status_code == 404, name


# --- Without a database


def test_tiles_of_every_level_give_the_roots_of_the_tree():
    hashes = [merkle.leaf_hash(b"%d" % number) for number in range(66_000)]
    nodes = {(level, index): digest for level, index, digest in merkle.positions(merkle.new_nodes(0, hashes, None))}

    def read(name: str) -> bytes:
        tile = names[name]
        return b"".join(nodes[8 * tile.level, tile.first + offset] for offset in range(tile.width))

    for size in (1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 66_000):
        all_tiles = [*tiles.full(size), *tiles.partial(size)]
        names = {tile.name: tile for tile in all_tiles}
        assert len(names) == len(all_tiles)
        assert all(tiles.NAME.fullmatch(name) for name in names)
        root = merkle.root(size, tiles.hash_source(read, size))
        assert root == merkle.root(size, lambda level, index: nodes[level, index])
        assert sum(tile.width for tile in all_tiles if tile.level == -1) == size
        for before in (0, 1, 256, size // 2, size):
            new = set(tiles.full(size, after=before))
            assert new == set(tiles.full(size)) - set(tiles.full(before))
    assert tiles.Tile(0, 1_234_067, 3).name == "tile/0/x001/x234/067.p/3"


@pytest.mark.parametrize("lengths", [[], [0], [1, 65_534, 2], [65_535], [3, 65_536, 70_000, 0]])
def test_a_bundle_gives_back_its_entries_however_long(lengths):
    entries = [bytes([number + 1]) * length for number, length in enumerate(lengths)]
    data = tiles.to_bundle(entries)

    assert tiles.of_bundle(data) == entries
    if any(lengths):
        with pytest.raises(ValueError):
            tiles.of_bundle(data[:-1])


def test_a_tile_that_is_too_short_is_not_read():
    with pytest.raises(ValueError):
        merkle.root(3, tiles.hash_source(lambda name: bytes(64), 3))
