"""Which types the first bytes of a file are a signature of.

The signatures are the data of `puremagic <https://pypi.org/project/puremagic/>`_, read once, on first use, into an
index by offset and first byte: its own search compares all of them with every file, which costs more than writing a
small one.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from granite_storage.intake.media_types import OCTET_STREAM, is_unsigned, normal_type

__all__ = ["signed_types"]

# What puremagic 1.30, the last for Python 3.11, does not have.
_MORE = (
    (0, b"\0asm", "application/wasm"),
    (0, b"\x7fELF", "application/x-elf"),
    (0, b"ARROW1", "application/vnd.apache.arrow.file"),
    (0, b"Obj\x01", "application/avro"),
    (0, b"PAR1", "application/vnd.apache.parquet"),
)


class _Signature(NamedTuple):
    offset: int
    magic: bytes
    content_type: str | None
    details: tuple[_Signature, ...] = ()  # further signatures, which count only after this one

    def found_in(self, head: bytes) -> bool:
        return head.startswith(self.magic, self.offset)


def signed_types(head: bytes) -> dict[str, int]:
    """The types whose signature ``head`` holds, with the length of the longest one in bytes.

    Types that have no signature, such as text/html, are not among them, whatever the head looks like.

    >>> signed_types(b"\\x89PNG\\r\\n\\x1a\\n")
    {'image/png': 8}
    >>> signed_types(b"<html>")
    {}
    """
    found: dict[str, int] = {}
    size = len(head)
    for offset, signatures in _index():
        if offset >= size:
            break
        for signature in signatures.get(head[offset], ()):
            if head.startswith(signature.magic, offset):
                _note(found, signature.content_type, len(signature.magic))
                for detail in signature.details:
                    if detail.found_in(head):
                        _note(found, detail.content_type, len(signature.magic) + len(detail.magic))
    return found


def _note(found: dict[str, int], content_type: str | None, length: int) -> None:
    if content_type is not None:
        found[content_type] = max(found.get(content_type, 0), length)


@cache
def _index() -> list[tuple[int, dict[int, list[_Signature]]]]:
    """All signatures by their offset, in order, and by their first byte."""
    from puremagic.main import magic_header_array, multi_part_dict

    index: dict[int, dict[int, list[_Signature]]] = {}
    signatures = [_Signature(*more) for more in _MORE]
    for row in magic_header_array:
        parts = multi_part_dict.get(row.byte_match, ())
        details = tuple(
            _Signature(part.offset, part.byte_match, _signed(part.mime_type)) for part in parts if part.offset >= 0
        )
        signatures.append(_Signature(row.offset, row.byte_match, _signed(row.mime_type), details))
    for signature in signatures:
        if signature.magic and (signature.content_type or signature.details):
            index.setdefault(signature.offset, {}).setdefault(signature.magic[0], []).append(signature)
    return sorted(index.items())


def _signed(content_type: str) -> str | None:
    kind = normal_type(content_type)
    return None if kind is None or kind == OCTET_STREAM or is_unsigned(kind) else kind
