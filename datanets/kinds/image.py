"""Images: one picture is one record. It is always drawn anew: metadata, hidden payloads and odd encodings do not pass.

Body: {"width", "height", "mode", "pixels", "label", "name"}; pixels is the SHA-256 of the stored picture's decoded pixels.
Media: PNG, or JPEG for what came as JPEG.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import rfc8785
from PIL import Image, ImageOps

from datanets.kinds import archives, content, rows
from datanets.kinds.shapes import MEBIBYTE, Limits, Parsed, Problem, Refused

ACCEPTS = (".png", ".jpg", ".webp", ".zip")
FIELDS = {"width": "integer", "height": "integer", "label": "category", "name": "text"}

_LABELS = "labels.csv"
_JPEG_QUALITY = 95


def parse(path: str | Path, *, schema: dict, limits: Limits, name: str = "") -> Iterator[Parsed | Problem]:
    """The picture, or the pictures of a zip with an optional labels.csv (file,label). Run it in the sandbox only.

    Raises:
        Refused: the file as a whole is not acceptable.
    """
    name = name or Path(path).name
    extension = content.require_accepted(name, ACCEPTS)
    with open(path, "rb") as file:
        content.require_content(file, extension=extension, limits=limits)
        if extension == ".zip":
            yield from _members(archives.Archive(file, limits=limits), limits=limits)
        else:
            yield _picture(file.read(), name=content.clean_name(name), label=None, limits=limits)


def canonical(body: dict) -> bytes:
    """The bytes that define equality: size, pixels and label as RFC 8785 JSON. A file name does not count."""
    return rfc8785.dumps({key: body.get(key) for key in ("width", "height", "mode", "pixels", "label")})


def preview(body: dict) -> dict:
    """What a list shows beside the thumbnail."""
    return {key: body.get(key) for key in ("width", "height", "label", "name")}


def pixels_of(media: bytes) -> Image.Image:
    """Open a stored picture (which this module has drawn) and load its pixels."""
    picture = Image.open(io.BytesIO(media), formats=("PNG", "JPEG"))
    picture.load()
    return picture


def _members(archive: archives.Archive, *, limits: Limits) -> Iterator[Parsed | Problem]:
    members = archive.members()
    listed = [member for member in members if content.clean_name(member.filename).lower() == _LABELS]
    pictures = [member for member in members if member not in listed]
    if not pictures:
        raise Refused("empty", "empty.archive")
    labels: dict[str, str] = {}
    if listed:
        names = {member.filename for member in pictures} | {_last(member.filename) for member in pictures}
        for event in _labels(archive.read(listed[0]), names=names, limits=limits):
            if isinstance(event, Problem):
                yield event
            else:
                labels[event[0]] = event[1]
    for member in pictures:
        yield _member(archive, member, labels=labels, limits=limits)


def _member(
    archive: archives.Archive, member: zipfile.ZipInfo, *, labels: dict[str, str], limits: Limits
) -> Parsed | Problem:
    name = content.clean_name(member.filename)
    data = archive.read(member)
    archives.refuse_nested(member.filename, data, accepted=ACCEPTS)
    try:
        extension = content.require_accepted(name, ACCEPTS[:-1])
        content.require_content(io.BytesIO(data), extension=extension, limits=limits)
        label = labels.get(member.filename, labels.get(_last(member.filename)))
        return _picture(data, name=name, label=label, limits=limits)
    except Refused as refused:
        if refused.code in ("malware", "archive"):
            raise
        return refused.as_problem(name=name)


def _labels(data: bytes, *, names: set[str], limits: Limits) -> Iterator[tuple[str, str] | Problem]:
    stream = io.BytesIO(data)
    content.require_content(stream, extension=".csv", limits=limits)
    header, events = rows.csv_rows(stream, limits=limits, cell_chars_max=500)
    if not {"file", "label"} <= {column.casefold() for column in header}:
        raise Refused("schema", "schema.columns_missing", {"columns": "file, label"}, line=1)
    seen: dict[str, str] = {}
    for event in events:
        if isinstance(event, Problem):
            yield event
            continue
        values = {column.casefold(): value.strip() for column, value in event.values.items()}
        file, label = values["file"], values["label"]
        if file not in names:
            yield Problem(event.line, "schema", "schema.label_file", {"name": file[:80]}, column="file", name=_LABELS)
        elif seen.get(file, label) != label:
            yield Problem(event.line, "schema", "schema.label_twice", {"name": file[:80]}, column="label", name=_LABELS)
        elif label:
            seen[file] = label
            yield file, label


def _picture(data: bytes, *, name: str, label: str | None, limits: Limits) -> Parsed:
    _require_declared_size(data, limits=limits)
    Image.MAX_IMAGE_PIXELS = limits.pixels_max
    try:
        picture: Image.Image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
        if picture.width * picture.height > limits.pixels_max:
            raise _too_many(picture.width, picture.height, limits)
        if getattr(picture, "is_animated", False):
            raise Refused("content", "content.animated")
        as_jpeg = picture.format == "JPEG"
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        picture = _plain(picture)  # the one before is let go: 40 million pixels fit into the memory three times
    except (Refused, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise Refused("pixels", "pixels.too_many", {"width": "?", "height": "?", "limit": limits.pixels_max}) from error
    except Exception as error:  # decoders fail on hostile files in many ways; each of them means the same
        raise Refused("content", "content.broken", {"detail": type(error).__name__}) from error
    width, height, mode = *picture.size, picture.mode
    media, media_type = _draw(picture, as_jpeg=as_jpeg)
    if media_type == "image/jpeg":
        del picture
        picture = pixels_of(media)  # what is stored, which is not quite what came
    pixels = _hash_of_pixels(picture)
    body = {"width": width, "height": height, "mode": mode, "pixels": pixels, "label": label, "name": name}
    return Parsed(None, name, body, media, media_type)


def _require_declared_size(data: bytes, *, limits: Limits) -> None:
    """Judge a PNG by its header alone, before a decoder sees it; and that its packed data could hold its pixels."""
    if not data.startswith(b"\x89PNG"):
        return
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise Refused("content", "content.broken", {"detail": "IHDR"})
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour)
    if not width or not height or channels is None:
        raise Refused("content", "content.broken", {"detail": "IHDR"})
    if width * height > limits.pixels_max:
        raise _too_many(width, height, limits)
    expected = _png_bytes(width, height, bits=channels * depth, interlaced=data[28] == 1)
    if expected > 1_100 * len(data) or not _packs_at_least(data, expected):  # deflate packs at most 1032 : 1
        raise Refused("pixels", "pixels.lies", {"width": width, "height": height})


def _png_bytes(width: int, height: int, *, bits: int, interlaced: bool) -> int:
    """How many bytes the pixels of a PNG unpack to: each row has one more, its filter; interlaced, in seven passes."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    total = 0
    for left, top, across, down in passes if interlaced else [(0, 0, 1, 1)]:
        columns, lines = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and lines > 0:
            total += lines * (1 + (columns * bits + 7) // 8)
    return total


def _packs_at_least(data: bytes, expected: int) -> bool:
    """Unpack the IDAT chunks of a PNG, keeping nothing, until the expected bytes are there."""
    unpacker, found, at = zlib.decompressobj(), 0, 8
    try:
        while at + 12 <= len(data) and found < expected:
            size = int.from_bytes(data[at : at + 4], "big")
            packed = data[at + 8 : at + 8 + size] if data[at + 4 : at + 8] == b"IDAT" else b""
            at += 12 + size
            while packed and found < expected:
                found += len(unpacker.decompress(packed, MEBIBYTE))
                packed = unpacker.unconsumed_tail
    except zlib.error:
        return True  # damaged, not lying: the decoder says so
    return found >= expected or at > len(data)


def _too_many(width: int, height: int, limits: Limits) -> Refused:
    return Refused("pixels", "pixels.too_many", {"width": width, "height": height, "limit": limits.pixels_max})


def _plain(picture: Image.Image) -> Image.Image:
    """Pixels only, in one of L, RGB, RGBA. No palette, profile or metadata stays."""
    if picture.mode in ("I;16", "I;16B", "I;16L", "I"):
        picture = picture.point(lambda value: value / 256).convert("L")
    has_alpha = "A" in picture.getbands() or "transparency" in picture.info
    mode = "RGBA" if has_alpha else "L" if picture.mode in ("1", "L") else "RGB"
    plain = picture if picture.mode == mode else picture.convert(mode)
    if mode == "RGBA" and plain.getchannel("A").getextrema()[0] == 255:
        plain = plain.convert("RGB")
    plain.info = {}
    return plain


def _hash_of_pixels(picture: Image.Image) -> str:
    """SHA-256 of the rows of pixels, from the top, without a second copy of the whole."""
    digest = hashlib.sha256()
    for top in range(0, picture.height, 256):
        digest.update(picture.crop((0, top, picture.width, min(top + 256, picture.height))).tobytes())
    return digest.hexdigest()


def _draw(picture: Image.Image, *, as_jpeg: bool) -> tuple[bytes, str]:
    out = io.BytesIO()
    if as_jpeg and picture.mode != "RGBA":
        picture.save(out, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        return out.getvalue(), "image/jpeg"
    picture.save(out, "PNG", compress_level=6)
    return out.getvalue(), "image/png"


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]
