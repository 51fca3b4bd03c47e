"""What the first bytes of a container say about what is in it.

Zip, OLE, ISO media, Matroska, Ogg, RIFF and gzip files begin alike, whatever they hold. Some name their content near
the start; where they do not, a claim may say which of the family it is.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Container", "container_of"]


@dataclass(frozen=True, slots=True)
class Container:
    """A container's own type, and the types that a claim may make of it."""

    content_type: str
    family: re.Pattern[str] | None = None

    def fits(self, claim: str) -> bool:
        """Whether ``claim``, a normal type, may be in this container."""
        return self.family is not None and self.family.fullmatch(claim) is not None


_ZIP = re.compile(
    r"application/(zip|[a-z0-9.-]+\+zip|java-archive|vnd\.openxmlformats-officedocument\..+|vnd\.oasis\.opendocument\..+"
    r"|vnd\.ms-(word|excel|powerpoint)\..+\.macroenabled\.12|vnd\.ms-excel\.sheet\.binary\..+|vnd\.ms-visio\..+|vnd\.android\.package-archive"
    r"|vnd\.google-earth\.kmz|vnd\.apple\.(pages|numbers|keynote)|x-xpinstall|oxps|vnd\.ms-xpsdocument|vnd\.ms-package\..+|vnd\.comicbook\+zip)"
    r"|model/(3mf|vnd\.usdz\+zip)"
)
_OLE = re.compile(
    r"application/(x-ole-storage|msword|vnd\.ms-(excel|powerpoint|outlook|project|publisher|works)|vnd\.visio|x-msi|x-visio|x-mspublisher|x-msproject)"
)
_GZIP = re.compile(r"application/(gzip|x-tgz|x-gtar-compressed|x-compressed-tar)")
_ISO_MEDIA = re.compile(r"(video|audio)/mp4")
_HEIF = re.compile(r"image/hei[cf](-sequence)?")
_THREE_GP = re.compile(r"(video|audio)/3gpp2?")
_WEBM = re.compile(r"(video|audio)/webm")
_MATROSKA = re.compile(r"(video|audio)/x-matroska")
_OGG = re.compile(r"(application|audio|video)/ogg")

# Brands of the ftyp box: ISO/IEC 14496-12, the registry at mp4ra.org.
_BRANDS = (
    ((b"avif", b"avis"), Container("image/avif")),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), Container("image/heic", _HEIF)),
    ((b"qt  ",), Container("video/quicktime")),
    ((b"M4A ", b"M4B ", b"M4P "), Container("audio/mp4")),
    ((b"3gp", b"3gr", b"3gs", b"3ge", b"3gg"), Container("video/3gpp", _THREE_GP)),
    ((b"3g2",), Container("video/3gpp2", _THREE_GP)),
    (
        (b"isom", b"iso", b"mp4", b"M4V", b"avc1", b"dash", b"MSNV", b"f4v", b"cmf", b"hvc1"),
        Container("video/mp4", _ISO_MEDIA),
    ),
)
_STRUCTURAL = (b"mif1", b"msf1")
_RIFF_FORMS = {b"AVI ": "video/x-msvideo", b"WAVE": "audio/wav", b"WEBP": "image/webp"}


def container_of(head: bytes) -> Container | None:
    """The container that ``head`` begins, or None if it begins none of those this module knows.

    >>> container_of(b"OggS" + bytes(24) + b"OpusHead").content_type
    'audio/ogg'
    >>> container_of(b"hello") is None
    True
    """
    for offset, magic, read in _READERS:
        if head.startswith(magic, offset):
            return read(head)
    return None


def _zip(head: bytes) -> Container:
    # OpenDocument 1.3 part 2, section 3.3, and EPUB 3.3, section 4.3: the first member is stored, is named "mimetype"
    # and holds the type.
    if head[30:38] == b"mimetype" and head[8:10] == b"\0\0":
        size = struct.unpack_from("<I", head, 22)[0]
        start = 38 + struct.unpack_from("<H", head, 28)[0]
        named = head[start : start + min(size or 100, 100)]
        match = re.match(rb"application/(epub\+zip|vnd\.[a-z0-9.+-]+)", named)
        if match is not None:
            return Container(match[0].decode())
    return Container("application/zip", _ZIP)


def _iso_media(head: bytes) -> Container | None:
    major = head[8:12]
    if major not in _STRUCTURAL:
        return _branded(major)
    # An image whose first brand tells only its structure: the compatible brands tell what it is.
    end = min(int.from_bytes(head[:4], "big"), 256, len(head))
    for at in range(16, end - 3, 4):
        container = _branded(head[at : at + 4])
        if container is not None and container.content_type.startswith("image/"):
            return container
    return Container("image/heif", _HEIF)


def _branded(brand: bytes) -> Container | None:
    for prefixes, container in _BRANDS:
        if brand.startswith(prefixes):
            return container
    return None


def _riff(head: bytes) -> Container | None:
    content_type = _RIFF_FORMS.get(head[8:12])
    return None if content_type is None else Container(content_type)


def _ebml(head: bytes) -> Container | None:
    # RFC 8794: element 0x4282 is the DocType; one byte of length follows.
    at = head.find(b"\x42\x82", 4, 64)
    if at < 0:
        return None
    if head.startswith(b"webm", at + 3):
        return Container("video/webm", _WEBM)
    if head.startswith(b"matroska", at + 3):
        return Container("video/x-matroska", _MATROSKA)
    return None


def _ogg(head: bytes) -> Container:
    # RFC 3533, section 6: the first page's payload, which follows the segment table, names the codec.
    start = 27 + (head[26] if len(head) > 26 else 0)
    first = head[start : start + 8]
    if b"theora" in first:
        return Container("video/ogg", _OGG)
    if any(codec in first for codec in (b"vorbis", b"Opus", b"FLAC", b"Speex")):
        return Container("audio/ogg", _OGG)
    return Container("application/ogg", _OGG)


_READERS: tuple[tuple[int, bytes, Callable[[bytes], Container | None]], ...] = (
    (0, b"PK\x03\x04", _zip),
    (0, b"PK\x05\x06", _zip),
    (0, b"PK\x07\x08", _zip),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", lambda head: Container("application/x-ole-storage", _OLE)),
    (0, b"\x1f\x8b\x08", lambda head: Container("application/gzip", _GZIP)),
    (4, b"ftyp", _iso_media),
    (0, b"\x1aE\xdf\xa3", _ebml),
    (0, b"OggS", _ogg),
    (0, b"RIFF", _riff),
)
