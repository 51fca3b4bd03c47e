"""The content type: what the bytes show, and the little that a claim may say."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from granite_storage.intake.media_types import is_unsigned, normal_type
from granite_storage.intake.sniff import looks_like_text, sniff

OCTETS = "application/octet-stream"
OOXML = "application/vnd.openxmlformats-officedocument."
DOCX, XLSX = OOXML + "wordprocessingml.document", OOXML + "spreadsheetml.sheet"
ODT = "application/vnd.oasis.opendocument.text"


def zipped(*members: tuple[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


def boxed(major: bytes, *compatible: bytes) -> bytes:
    brands = b"".join(compatible)
    return struct.pack(">I4s4sI", 16 + len(brands), b"ftyp", major, 0) + brands + bytes(40)


def ebml(doctype: bytes) -> bytes:
    return bytes.fromhex("1a45dfa39f4286810142f7810142f2810442f381084282") + bytes([0x80 | len(doctype)]) + doctype


OFFICE = zipped(("[Content_Types].xml", "<Types/>"), ("word/document.xml", "<w/>"))
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(30)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(20)
ISOM = boxed(b"isom", b"isom", b"avc1")
OLE = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(50)
BMP = b"BM" + struct.pack("<IIII", 70, 0, 54, 40) + bytes(30)
MP3 = b"\xff\xfb\x90\x64" + bytes(30)

SHOWN = {
    "image/png": PNG,
    "image/jpeg": JPEG,
    "image/gif": b"GIF89a\x01\x00\x01\x00" + bytes(10),
    "image/webp": b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(20),
    "image/tiff": b"II*\x00\x08\x00\x00\x00" + bytes(20),
    "image/x-icon": b"\x00\x00\x01\x00\x01\x00\x10\x10\x00\x00\x01\x00\x20\x00" + bytes(20),
    "image/avif": boxed(b"avif", b"mif1", b"miaf"),
    "image/heic": boxed(b"heic", b"mif1"),
    "image/heif": boxed(b"mif1", b"miaf"),
    "image/jp2": bytes.fromhex("0000000c6a5020200d0a870a") + bytes(20),
    "image/jxl": bytes.fromhex("0000000c4a584c200d0a870a") + bytes(20),
    "image/vnd.adobe.photoshop": b"8BPS\x00\x01" + bytes(20),
    "application/pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "application/postscript": b"%!PS-Adobe-3.0\n",
    "application/rtf": rb"{\rtf1\ansi hello}",
    "application/gzip": gzip.compress(b"hello", mtime=0),
    "application/zip": zipped(("a.txt", "hello")),
    "application/epub+zip": zipped(("mimetype", "application/epub+zip"), ("content.opf", "x")),
    ODT: zipped(("mimetype", ODT), ("content.xml", "x")),
    "application/x-7z-compressed": bytes.fromhex("377abcaf271c0004"),
    "application/x-bzip2": bz2.compress(b"hello"),
    "application/x-xz": lzma.compress(b"hello"),
    "application/zstd": bytes.fromhex("28b52ffd") + bytes(10),
    "application/vnd.rar": b"Rar!\x1a\x07\x01\x00" + bytes(10),
    "application/x-tar": b"a.txt".ljust(257, b"\x00") + b"ustar\x0000" + bytes(200),
    "application/x-ole-storage": OLE,
    "application/vnd.sqlite3": b"SQLite format 3\x00\x10\x00" + bytes(80),
    "application/wasm": b"\x00asm\x01\x00\x00\x00",
    "application/vnd.apache.parquet": b"PAR1" + bytes(20),
    "application/x-elf": b"\x7fELF\x02\x01\x01" + bytes(20),
    "application/vnd.microsoft.portable-executable": b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff" + bytes(40),
    "font/woff": b"wOFF\x00\x01\x00\x00" + bytes(20),
    "font/woff2": b"wOF2\x00\x01\x00\x00" + bytes(20),
    "font/ttf": b"\x00\x01\x00\x00\x00\x0c\x00\x80" + bytes(20),
    "font/otf": b"OTTO\x00\x0c" + bytes(20),
    "audio/mpeg": b"ID3\x03\x00\x00\x00\x00\x00\x21" + bytes(20),
    "audio/wav": b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(20),
    "audio/flac": b"fLaC\x00\x00\x00\x22" + bytes(20),
    "audio/ogg": b"OggS\x00\x02" + bytes(20) + b"\x01\x1e\x01vorbis" + bytes(20),
    "audio/mp4": boxed(b"M4A ", b"isom"),
    "video/mp4": ISOM,
    "video/quicktime": boxed(b"qt  "),
    "video/3gpp": boxed(b"3gp5"),
    "video/webm": ebml(b"webm"),
    "video/x-matroska": ebml(b"matroska"),
    "video/x-msvideo": b"RIFF\x24\x00\x00\x00AVI LIST" + bytes(20),
    "video/ogg": b"OggS\x00\x02" + bytes(20) + b"\x01\x2a\x80theora" + bytes(20),
    "video/x-flv": b"FLV\x01\x05\x00\x00\x00\x09" + bytes(20),
}


@pytest.mark.parametrize("kind", SHOWN)
def test_the_bytes_alone_show_a_type_that_has_a_signature(kind: str) -> None:
    assert sniff(SHOWN[kind]) == kind


@pytest.mark.parametrize("claim", ["text/html", "text/plain", "image/svg+xml", "image/x-unheard-of", OCTETS, "?"])
@pytest.mark.parametrize("kind", SHOWN)
def test_no_claim_hides_what_the_bytes_show(kind: str, claim: str) -> None:
    assert sniff(SHOWN[kind], claim, "x.html") == kind


@pytest.mark.parametrize("kind", SHOWN)
def test_no_text_passes_for_a_type_that_has_a_signature(kind: str) -> None:
    for content in (b"<script>alert(1)</script>", b"hello", b"", b"BMW is a car", b"MZ is a pun", b"From: me\n"):
        assert sniff(content, kind) == OCTETS


@pytest.mark.parametrize("kind", SHOWN)
def test_no_other_bytes_pass_for_a_type_that_has_a_signature(kind: str) -> None:
    assert sniff(b"\x01\x02\x03\x04\x05\x06\x07\x08" * 10, kind) == OCTETS


@pytest.mark.parametrize(
    ("head", "claim", "filename", "kind"),
    [
        # A claim tells which member of a family it is ...
        (OFFICE, DOCX, None, DOCX),
        (OFFICE, None, "a.docx", DOCX),
        (OFFICE, OCTETS, "a.xlsx", XLSX),
        (OFFICE, None, "app.jar", "application/java-archive"),
        (OFFICE, "application/x-zip-compressed", "a.zip", "application/zip"),
        (OLE, "application/msword", None, "application/msword"),
        (OLE, None, "a.xls", "application/vnd.ms-excel"),
        (ISOM, None, "a.m4a", "audio/mp4"),
        (ISOM, "video/x-m4v", None, "video/mp4"),
        (SHOWN["image/heic"], "image/heif", None, "image/heif"),
        (ebml(b"webm"), "audio/webm", None, "audio/webm"),
        (SHOWN["audio/ogg"], "application/ogg", None, "application/ogg"),
        (boxed(b"mif1", b"mif1", b"heic"), None, None, "image/heic"),
        (boxed(b"mif1", b"avif", b"mif1"), None, None, "image/avif"),
        # ... but not that it is of another.
        (OFFICE, "application/pdf", "a.pdf", "application/zip"),
        (OFFICE, "image/png", "a.png", "application/zip"),
        (b"not a zip \x00", DOCX, "a.docx", OCTETS),
        (ISOM, "image/avif", "a.avif", "video/mp4"),
        (PNG, "image/jpeg", "a.jpg", "image/png"),
        (SHOWN["image/webp"], "video/x-msvideo", "a.avi", "image/webp"),
        (SHOWN["application/epub+zip"], DOCX, "a.docx", "application/epub+zip"),
        (gzip.compress(b"<svg/>", mtime=0), None, "a.svgz", "application/gzip"),
        (gzip.compress(b"tar", mtime=0), "application/x-tar", "a.tar.gz", "application/gzip"),
        # Names that mean the same.
        (JPEG, "image/jpg", None, "image/jpeg"),
        (BMP, "image/x-ms-bmp", None, "image/bmp"),
        (SHOWN["audio/wav"], "audio/x-wav", None, "audio/wav"),
        # Two bytes are proof only for a claim that says the same, and only in what is no text.
        (BMP, None, "a.bmp", "image/bmp"),
        (BMP, None, None, OCTETS),
        (b"BMW is a car", "image/bmp", "a.bmp", OCTETS),
        (MP3, None, "a.mp3", "audio/mpeg"),
        (MP3, None, None, OCTETS),
        # Types without a signature are believed if the bytes look like text ...
        (b"hello", "text/plain", None, "text/plain"),
        (b"hello", None, "a.txt", "text/plain"),
        (b"hello", OCTETS, "a.txt", "text/plain"),
        (b"hello", "text/plain; charset=UTF-8", None, "text/plain; charset=utf-8"),
        (b"hello", "TEXT/PLAIN; format=flowed", None, "text/plain"),
        (b"a;b\n", "application/vnd.ms-excel", "a.csv", OCTETS),
        (b"a;b\n", "text/csv", "a.xls", "text/csv"),
        ("Müller;Köln\n".encode("latin-1"), None, "a.csv", "text/csv"),
        ("\ufeffhello".encode("utf-16-le"), None, "a.txt", "text/plain"),
        ("\ufeffhello".encode("utf-32-be"), None, "a.txt", "text/plain"),
        (b"\xef\xbb\xbfhello", None, "a.txt", "text/plain"),
        (b'{"a": 1}', None, "a.json", "application/json"),
        (b'{"a": 1}', "application/json; charset=utf-8", None, "application/json"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None, "a.svg", "image/svg+xml"),
        (b"<?xml version='1.0'?><a/>", "text/xml", None, "application/xml"),
        (b"<!DOCTYPE html><html>", "text/html", None, "text/html"),
        (b"From: me\nSubject: x\n", "text/plain", None, "text/plain"),
        (b"From: me\nSubject: x\n", None, "a.eml", "message/rfc822"),
        (b"import os\n", "text/plain", None, "text/plain"),
        (b"", None, "a.txt", "text/plain"),
        # ... and never become something that a browser runs.
        (b"<!DOCTYPE html><html>", "text/plain", "a.html", "text/plain"),
        (b"<!DOCTYPE html><html>", None, None, OCTETS),
        (b"<svg onload='x()'/>", "image/png", "a.png", OCTETS),
        (b"<html>", "application/pdf", "a.pdf", OCTETS),
        # What looks like no text is not believed to be text.
        (b"hello\x00", "text/plain", None, OCTETS),
        (b"\x01\x02", None, "a.csv", OCTETS),
        (b"\xff\xfe\x00\xd8a\x00", "text/plain", None, OCTETS),
        (b"\xff\xfea\x00\x00\x00", "text/plain", None, OCTETS),
        # Nothing is known.
        (b"hello", None, None, OCTETS),
        (b"hello", None, "README", OCTETS),
        (b"", None, None, OCTETS),
        (bytes(100), None, None, OCTETS),
        (b"hello", "application/x-unheard-of", None, OCTETS),
    ],
)
def test_bytes_and_claim_make_the_type(head: bytes, claim: str | None, filename: str | None, kind: str) -> None:
    assert sniff(head, claim, filename) == kind


def test_a_text_whose_head_ends_within_a_character_is_text() -> None:
    for encoding in ("utf-8", "utf-16", "utf-32"):
        head = ("é" * 10).encode(encoding)
        assert all(looks_like_text(head[:length]) for length in range(4, len(head)))


@given(st.binary(max_size=600), st.sampled_from([*SHOWN, "text/html", "image/svg+xml"]), st.none() | st.just("a.html"))
def test_the_type_is_always_a_media_type_and_text_only_if_it_looks_so(
    head: bytes, claim: str, filename: str | None
) -> None:
    kind = sniff(head, claim, filename)
    assert normal_type(kind) == kind
    assert not is_unsigned(kind) or looks_like_text(head)


@given(st.binary(max_size=300), st.sampled_from([*SHOWN.values()]))
def test_a_truncated_or_garbled_container_is_no_error(rest: bytes, head: bytes) -> None:
    for length in range(0, len(head), 3):
        sniff(head[:length] + rest, DOCX)


@pytest.mark.parametrize(
    ("head", "claim", "filename"),
    [
        (b'<html xmlns="http://www.w3.org/1999/xhtml"><script>x()</script></html>', "image/x+xml", "a.x"),
        (b"<script>x()</script>", None, "a.svg"),
        (b"<html><script>", "image/svg", "x.png"),
        (b"<?php", "image/foo+yaml", None),
    ],
)
def test_text_is_no_image_whatever_it_claims(head: bytes, claim: str | None, filename: str | None) -> None:
    assert not sniff(head, claim, filename).startswith("image/")


@pytest.mark.parametrize(
    "head",
    [
        b"<svg/>",
        b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn --><!DOCTYPE svg PUBLIC 'a' 'b'>\n<svg width='1'>",
        b"<!DOCTYPE svg [<!ENTITY a 'b'>]>\n<svg:svg>",
    ],
)
def test_svg_is_svg_if_its_root_is(head: bytes) -> None:
    assert sniff(head, "image/svg+xml") == "image/svg+xml"
