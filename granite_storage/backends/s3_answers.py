"""Long answers of S3, read fast: listings, and what a batch delete confirms.

botocore reads XML by a generic walk over its model of the service, 0.1 ms for an element with a few members: listing
is bound by that, not by the server or the wire. So what repeats in an answer is taken out of it before botocore sees
it (the event ``before-parse``, by which botocore itself finds errors in answers with status 200), and read here.
Requests, credentials, retries, errors and all the rest of the answer stay botocore's.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from xml.etree.ElementTree import XML, ParseError, tostring

__all__ = ["ask"]

Texts: TypeAlias = list[tuple[str, ...]]
"""Of each repeated element the texts of the members that were asked for; empty where there is no such member."""


@dataclass(slots=True)
class _Wanted:
    """What is to be taken out of the answer to the request that this thread makes now."""

    name: str
    members: tuple[str, ...]
    found: Texts = field(default_factory=list)


_wanted: ContextVar[_Wanted | None] = ContextVar("granite_storage_s3_answers", default=None)


def ask(
    client: Any, operation: str, request: dict[str, Any], repeated: str, *members: str
) -> tuple[dict[str, Any], Texts]:
    """Make a request; gives botocore's answer, and the texts of the elements in it that are called ``repeated``.

    The answer has none of those elements then. It has them, and there are no texts, if botocore got its answer from
    elsewhere than a server (``botocore.stub.Stubber``).

    :param operation: such as ``"ListObjectsV2"``.
    :param repeated: the name of an element right below the answer's root.
    :param members: names of elements in it.
    """
    from botocore import xform_name

    # Registered once for each client, however often this is called; other requests of the client pass untouched. By
    # this name it comes before botocore's own handlers, which would parse the whole answer, too.
    client.meta.events.register(f"before-parse.*.{operation}", _take_out, unique_id=f"granite-storage-{operation}")
    wanted = _Wanted(repeated, members)
    token = _wanted.set(wanted)
    try:
        answer = getattr(client, xform_name(operation))(**request)
    finally:
        _wanted.reset(token)
    return answer, wanted.found


def _take_out(response_dict: dict[str, Any], **_: Any) -> None:
    wanted = _wanted.get()
    if wanted is not None and response_dict["status_code"] == 200:
        body = response_dict["body"]
        taken = _taken(body, wanted.name, wanted.members) or _parsed(body, wanted.name, wanted.members)
        if taken is not None:
            response_dict["body"], wanted.found = taken


def _taken(body: bytes, name: str, members: tuple[str, ...]) -> tuple[bytes, Texts] | None:
    """The XML without the elements of that name, and their texts, if it is as plain as S3 writes it; None if not.

    Three times as fast as any parser of the standard library. What could be misread (a namespace's prefix, attributes,
    comments, CDATA, a member that is missing or has entities) is left to one.

    >>> _taken(b"<R><C><Key>a</Key></C><C><Key>b</Key></C><More>1</More></R>", "C", ("Key",))
    (b'<R><More>1</More></R>', [('a',), ('b',)])
    >>> _taken(b"<R><C><Key>a&amp;b</Key></C></R>", "C", ("Key",)) is None
    True
    """
    try:
        text = body.decode()
        if "<!" in text or text.rfind("<?") > 0:
            return None
        head, *parts = text.split(f"<{name}>")
        end = f"</{name}>"
        tags = [(f"<{member}>", len(member) + 2, f"</{member}>") for member in members]
        found: Texts = []
        rest = [head]
        for part in parts:
            inside, after = part.split(end)
            rest.append(after)
            texts = []
            for opening, length, closing in tags:
                begin = inside.index(opening) + length
                texts.append(inside[begin : inside.index(closing, begin)])
            found.append(tuple(texts))
    except ValueError:
        return None
    if not found or any("&" in one or "<" in one for texts in found for one in texts):
        return None
    return "".join(rest).encode(), found


def _parsed(body: bytes, name: str, members: tuple[str, ...]) -> tuple[bytes, Texts] | None:
    """The same from any XML; None if there is nothing of that name, or if it is no XML, which botocore then tells.

    >>> rest, texts = _parsed(b"<R xmlns='urn:x'><C><Key>a&amp;b</Key></C></R>", "C", ("Key", "Size"))
    >>> texts
    [('a&b', '')]
    """
    try:
        root = XML(body)
    except ParseError:
        return None
    space = root.tag[: root.tag.rfind("}") + 1]
    names = [space + member for member in members]
    found = [child for child in root if child.tag == space + name]
    if not found:
        return None
    root[:] = [child for child in root if child.tag != space + name]
    return tostring(root), [tuple(child.findtext(one, "") for one in names) for child in found]
