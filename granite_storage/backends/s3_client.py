"""The boto3 client of an S3 backend: made on first use, and made again in a forked process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from granite_storage.backends.s3_retries import note_attempts
from granite_storage.exceptions import ConfigurationError

__all__ = ["ClientSource"]


class ClientSource:
    """Gives the client. boto3 is imported when the first one is made.

    :param given: a client of the caller's, which is then used everywhere, after a fork too.
    :param ca_bundle: the certificates to trust; None leaves them to boto3.
    :param secrets: access key, secret key and session token, each None to let boto3 find it.
    :param prepare: called with each client that is made here, before anybody else sees it.
    :param config: settings for ``botocore.config.Config``; None leaves one to boto3.
    """

    def __init__(
        self,
        given: Any,
        *,
        region: str | None,
        endpoint_url: str | None,
        secrets: tuple[str | None, str | None, str | None],
        ca_bundle: str | None = None,
        prepare: Callable[[Any], None] | None = None,
        **config: Any,
    ) -> None:
        self._given = given
        self._region = region
        self._endpoint_url = endpoint_url
        self._ca_bundle = ca_bundle
        self._prepare = prepare
        self._secrets = secrets
        self._config = {name: value for name, value in config.items() if value is not None}
        self._lock = threading.Lock()
        self._client: Any = None
        self._pid = os.getpid()

    @property
    def given(self) -> Any:
        """The application's own client; None if this makes one."""
        return self._given

    @property
    def service(self) -> str:
        """The service that it talks to: an endpoint, or nothing for Amazon's, where a bucket's name tells it alone."""
        url = self._endpoint_url if self._given is None else self._given.meta.endpoint_url
        host = urlsplit(url or "").hostname or ""
        return "" if host.endswith(".amazonaws.com") else (url or "").rstrip("/").lower()

    def __call__(self) -> Any:
        """The client of this process; raises ConfigurationError."""
        if self._given is not None:
            return self._given
        if self._pid != os.getpid():
            # A fork: the parent's sockets are not ours, and its lock may have been held by a thread that is not here.
            self._lock, self._client, self._pid = threading.Lock(), None, os.getpid()
        client = self._client
        if client is None:
            with self._lock:
                client = self._client
                if client is None:
                    client = self._client = self._make()
        return client

    def _make(self) -> Any:
        try:
            from boto3.session import Session
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError as error:
            raise ConfigurationError("the S3 backend needs boto3: install it with 'pip install boto3'") from error
        access_key, secret_key, session_token = self._secrets
        try:
            # A session of its own: making clients from a shared one is not thread-safe.
            client = Session().client(
                "s3",
                region_name=self._region,
                endpoint_url=self._endpoint_url,
                verify=self._ca_bundle,
                aws_access_key_id=access_key,
                aws_secret_access_key=secret_key,
                aws_session_token=session_token,
                # Without it boto3 signs URLs and forms with version 2, which leaves headers unsigned.
                config=Config(signature_version="s3v4", **self._config),
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(f"boto3 cannot make an S3 client: {error}") from error
        if self._prepare is not None:
            self._prepare(client)
        note_attempts(client)
        return client
