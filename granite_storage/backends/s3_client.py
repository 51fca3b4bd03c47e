"""The boto3 client of an S3 backend: made on first use, and made again in a forked process."""

from __future__ import annotations

import os
import threading
from typing import Any

from granite_storage.exceptions import ConfigurationError

__all__ = ["ClientSource"]


class ClientSource:
    """Gives the client. boto3 is imported when the first one is made.

    :param given: a client of the caller's, which is then used everywhere, after a fork too.
    :param secrets: access key, secret key and session token, each None to let boto3 find it.
    :param config: settings for ``botocore.config.Config``; None leaves one to boto3.
    """

    def __init__(
        self,
        given: Any,
        *,
        region: str | None,
        endpoint_url: str | None,
        secrets: tuple[str | None, str | None, str | None],
        **config: Any,
    ) -> None:
        self._given = given
        self._region = region
        self._endpoint_url = endpoint_url
        self._secrets = secrets
        self._config = {name: value for name, value in config.items() if value is not None}
        self._lock = threading.Lock()
        self._client: Any = None
        self._pid = os.getpid()

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
            return Session().client(
                "s3",
                region_name=self._region,
                endpoint_url=self._endpoint_url,
                aws_access_key_id=access_key,
                aws_secret_access_key=secret_key,
                aws_session_token=session_token,
                config=Config(**self._config),
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(f"boto3 cannot make an S3 client: {error}") from error
