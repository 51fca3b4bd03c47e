"""The S3 servers that the tests run on.

moto always runs, a process of its own for each test worker that asks for it. ``setup.cfg`` names the others under
``[s3]``; ``.ci/s3-servers`` starts them. The controller of a test run asks once which ones answer (:func:`probe`).
"""

from __future__ import annotations

import configparser
import os
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import quote, urlencode

from granite_storage.backends.s3_options import options_of
from granite_storage.backends.urls import BackendURL
from tests.databases import ROOT

NAMES = ("moto", "rgw", "rgw_tls", "rclone")
"""Every server that a test may ask for; all but moto are entries of ``[s3]``."""

_OF_THE_CLIENT = ("addressing_style", "request_checksum_calculation", "response_checksum_validation")


@dataclass(frozen=True)
class S3Server:
    """A server, and what the S3 backend must be told about it."""

    name: str
    endpoint_url: str
    access_key: str = "testing"
    secret_key: str = field(default="testing", repr=False)
    ca_bundle: str | None = None
    """The file of the certificate that a client must trust."""
    options: dict[str, str] = field(default_factory=dict)
    """Options of a backend's URL that the server needs, beside its address."""

    @property
    def environment(self) -> dict[str, str]:
        """Credentials, as boto3 finds them in the environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def backend_options(self) -> dict[str, Any]:
        """Arguments of an S3 backend that gets its client from :meth:`client`."""
        options = options_of(BackendURL("s3", "bucket", options=self.options))
        return {name: options[name] for name in self.options if name not in _OF_THE_CLIENT}

    def client(self, **config: Any) -> Any:
        """A boto3 client; ``config`` is settings of ``botocore.config.Config``."""
        import boto3
        from botocore.config import Config

        config |= {name: self.options[name] for name in _OF_THE_CLIENT[1:] if name in self.options}
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            verify=self.ca_bundle,
            config=Config(**config),
        )

    def url(self, bucket: str, prefix: str = "") -> str:
        """The URL of a backend in a bucket, without credentials: those are in the environment."""
        options = {"region": "us-east-1", "endpoint_url": self.endpoint_url, **self.options}
        if self.ca_bundle:
            options["ca_bundle"] = self.ca_bundle
        return f"s3://{bucket}/{prefix}?{urlencode(options, quote_via=quote, safe='')}"


def entry(name: str) -> S3Server:
    """The server that ``[s3]`` of ``setup.cfg``, or of a ``test.cfg`` beside it, names.

    An entry is ``http://ACCESS_KEY:SECRET_KEY@host:port``, with options of a backend's URL behind a question mark.
    """
    config = configparser.ConfigParser(interpolation=None)
    config.read([ROOT / "setup.cfg", ROOT / "test.cfg"])
    url = BackendURL.parse(config["s3"][name])
    assert url.username and url.password, f"[s3] {name}: keys must stand before the host"
    ca_bundle = _certificate(url.host) if url.scheme == "https" else None
    return S3Server(name, f"{url.scheme}://{url.host}", url.username, url.password, ca_bundle, dict(url.options))


@cache
def _certificate(address: str) -> str | None:
    """A file with the certificate that a server shows; it signed it itself when it was started."""
    host, _, port = address.partition(":")
    try:
        shown = ssl.get_server_certificate((host, int(port)), timeout=3)
    except OSError:
        return None
    path = Path(mkdtemp(prefix="granite-certificate-")) / "server.pem"
    path.write_text(shown)
    return str(path)


def probe(name: str) -> str | None:
    """Why a server does not answer, in one line; None if it does."""
    if name == "moto":
        return None
    server = entry(name)
    address = server.endpoint_url.partition("://")[2]
    context = ssl.create_default_context(cafile=server.ca_bundle) if server.ca_bundle else None
    try:
        with urllib.request.urlopen(server.endpoint_url, timeout=3, context=context) as answer:
            answer.read()
    except urllib.error.HTTPError:
        return None  # it refuses who is nobody, so it is there
    except OSError as error:
        return f"{address} does not answer: {' '.join(str(error).split())[:200]}"
    return None


@contextmanager
def moto() -> Iterator[S3Server]:
    """moto in a process of its own, which ends with the ``with`` block, or with this process."""
    process = subprocess.Popen(
        [sys.executable, "-c", _MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )
    assert process.stdout is not None and process.stdin is not None
    told = process.stdout.readline()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", told), f"moto did not start: {told!r}"
    # It need not be asked for conditional writes. Of the copy of an object that came in parts it tells a checksum of
    # the parts' checksums as if it were that of the whole.
    options = {"conditional_writes": "true", "response_checksum_validation": "when_required"}
    yield S3Server("moto", told.strip(), options=options)
    process.stdin.close()  # its sign to end
    process.wait(30)
    process.stdout.close()


_MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""


def remove_bucket(client: Any, bucket: str) -> None:
    """Remove a bucket, versions and unfinished uploads included, from a server that goes on."""
    from botocore.exceptions import ClientError

    try:
        pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket)
        kinds = ("Versions", "DeleteMarkers")
        objects = [one for page in pages for kind in kinds for one in page.get(kind, ())]
    except ClientError:  # rclone has no versions, and buckets are folders to it, which it does not always find empty
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        _delete(client, bucket, [one for page in pages for one in page.get("Contents", ())])
        return
    _delete(client, bucket, objects)
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in page.get("Uploads", ()):
            client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    client.delete_bucket(Bucket=bucket)


def _delete(client: Any, bucket: str, found: list[dict[str, Any]]) -> None:
    objects = [{name: one[name] for name in ("Key", "VersionId") if name in one} for one in found]
    for start in range(0, len(objects), 1000):
        client.delete_objects(Bucket=bucket, Delete={"Objects": objects[start : start + 1000], "Quiet": True})
