"""What an S3 server knows of one object, without its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from granite_storage.backends.s3_errors import s3_errors

__all__ = ["ask_head", "head_object"]

_TOLD = {"304", "412"}  # these say all there is to say


def head_object(client: Any, target: Mapping[str, Any], location: str, *, sure: bool = True) -> Any:
    """Ask for an object's headers, as :func:`ask_head`.

    :param location: how errors call the object.
    :raises ObjectNotFoundError: if the bucket has no such object; for a missing bucket only if ``sure`` is False.
    :raises BackendError: if the server refuses or fails.
    """
    with s3_errors(target["Bucket"], location, "looking at"):
        return ask_head(client, target, sure=sure)


def ask_head(client: Any, target: Mapping[str, Any], *, sure: bool = True) -> Any:
    """Ask for an object's headers; raises what boto3 raises.

    A refused HEAD has no body to tell the reason: 404 stands for a missing object and for a missing bucket, 400 and 403
    for much. So the same is asked again by a GET, whose answer tells it, and which needs the same permission.

    :param target: ``Bucket``, ``Key`` and further arguments of HeadObject.
    :param sure: False takes a 404 for a missing object: for when the next request tells whether the bucket is there.
    """
    from botocore.exceptions import ClientError

    try:
        return client.head_object(**target)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if not code.isdigit() or code in _TOLD or (code.startswith("5") and code != "501"):
            raise
        if code == "404" and not sure:
            raise
        client.get_object(**target)["Body"].close()
    return client.head_object(**target)  # it came to be in between
