"""A place that keeps copies."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator, model_validator

from flowforge.errors import Refused
from flowforge.rules.addresses import FolderAddress, S3Address, StoreAddress


class BackupStore(Block):
    """A folder or a bucket that keeps copies, by server and database."""

    _block_type_name = "Backup store"
    _block_type_slug = "flowforge-backup-store"
    _description = "Where FlowForge keeps copies of databases."

    folder: str | None = Field(
        default=None, description="absolute path of a folder every operations worker can reach"
    )
    bucket: str | None = Field(default=None, description="name of a bucket, instead of a folder")
    prefix: str = Field(default="", description="what keys in the bucket begin with")
    region: str | None = Field(default=None, description="where the bucket is, as eu-west-1")
    endpoint_url: str | None = Field(
        default=None, description="URL of a service other than Amazon S3"
    )
    credentials: str | None = Field(
        default=None, description="name of an AWS Credentials block that has the keys"
    )
    access_key_id: str | None = Field(
        default=None, description="without any keys, the role of the machine or pod is used"
    )
    secret_access_key: SecretStr | None = None
    lock_days: int | None = Field(
        default=None, ge=1, description="how long nobody may delete a new copy from the bucket"
    )
    lock_mode: Literal["governance", "compliance"] = "governance"
    recipients: list[str] = Field(
        default_factory=list, description="age public keys (age1...) that new copies are sealed to"
    )

    @field_validator("recipients")
    @classmethod
    def _are_public_keys(cls, keys: list[str]) -> list[str]:
        if not all(key.startswith("age1") for key in keys):
            raise ValueError("a recipient is an age public key, which begins with age1")
        return keys

    @model_validator(mode="after")
    def _is_one_place(self) -> Self:
        if (self.folder is None) == (self.bucket is None):
            raise ValueError("a store has either a folder or a bucket")
        if self.folder is not None and not Path(self.folder).is_absolute():
            raise ValueError("the folder is not absolute; name it from the root")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together")
        if self.credentials is not None and self.access_key_id is not None:
            raise ValueError("keys come from credentials or from access_key_id, not from both")
        return self

    @property
    def where(self) -> str:
        """The place as it may be shown: no secret."""
        if self.folder is not None:
            return self.folder
        return f"s3://{self.bucket}/{_with_slash(self.prefix)}"

    def address(self, name: str) -> StoreAddress:
        """The plain value engines work with.

        Raises:
            Refused: The AWS Credentials block it names cannot be used.
        """
        recipients = tuple(self.recipients)
        if self.folder is not None:
            return FolderAddress(name=name, folder=Path(self.folder), recipients=recipients)
        bare = S3Address(
            name=name,
            bucket=str(self.bucket),
            prefix=_with_slash(self.prefix),
            region=self.region,
            endpoint_url=self.endpoint_url,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            lock_days=self.lock_days,
            lock_mode=self.lock_mode,
            recipients=recipients,
        )
        return bare if self.credentials is None else _with_keys(bare, self.credentials)


def _with_slash(prefix: str) -> str:
    """A prefix as keys begin with it; nothing stays nothing."""
    plain = prefix.strip("/")
    return f"{plain}/" if plain else ""


def _with_keys(address: S3Address, credentials: str) -> S3Address:
    """Take the keys from an AWS Credentials block."""
    from prefect_aws import AwsCredentials  # large, and most stores do without

    try:
        found = AwsCredentials.load(credentials)
    except ValueError as error:
        raise Refused(
            f"There is no AWS Credentials block {credentials!r} for the store {address.name}.",
            hint="Save one in Prefect's UI, or save the store with its own keys.",
        ) from error
    assert isinstance(found, AwsCredentials)  # the call is synchronous here
    keys = (found.aws_access_key_id, found.aws_secret_access_key)
    if None in keys or found.assume_role_arn is not None:
        raise Refused(
            f"The AWS Credentials block {credentials!r} has no access key that is used as it is.",
            hint="Give it one; for a role, let the machine assume it and save the store without "
            "credentials.",
        )
    token = found.aws_session_token
    return address.model_copy(
        update={
            "access_key_id": found.aws_access_key_id,
            "secret_access_key": found.aws_secret_access_key,
            "session_token": SecretStr(token) if token else None,
            "region": address.region or found.region_name,
            "endpoint_url": address.endpoint_url or found.aws_client_parameters.endpoint_url,
        }
    )
