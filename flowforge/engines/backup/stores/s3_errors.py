"""What a bucket's refusals mean, and what a person does about each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

from botocore import exceptions as boto
from botocore.exceptions import ClientError

from flowforge.errors import FlowForgeError, Refused, Unavailable
from flowforge.rules.addresses import S3Address

_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_TAKEN = frozenset({"PreconditionFailed", "412"})
_GONE = frozenset({"NoSuchKey", "NotFound", "404"})
_PASSING = frozenset(
    {
        "BadDigest",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "XAmzContentSHA256Mismatch",
    }
)
_NO_LOCK = "ObjectLockConfigurationNotFoundError"
_SILENT = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.ResponseStreamingError,
    boto.IncompleteReadError,
    OSError,
)
_REFUSALS: Mapping[str, tuple[str, str]] = {
    "NoSuchBucket": (
        "There is no bucket {bucket}.",
        "Make it, or save its right name and region with `flowforge store add`.",
    ),
    "InvalidAccessKeyId": (
        "The bucket {bucket} does not know the access key.",
        "Make a key and save it with `flowforge store add {name} --key-id-env VAR "
        "--secret-env VAR`.",
    ),
    "SignatureDoesNotMatch": (
        "The secret key does not belong to the access key used for the bucket {bucket}.",
        "Save the pair again with `flowforge store add {name} --key-id-env VAR --secret-env VAR`.",
    ),
    "InvalidToken": (
        "The bucket {bucket} does not accept the session token.",
        "Save keys that last, or none, so that the role of the machine is used.",
    ),
    "NotImplemented": (
        "The service behind the bucket {bucket} does not know how to do {action}.",
        "Use a service with conditional writes and multipart uploads, such as Amazon S3.",
    ),
    "QuotaExceeded": (
        "The quota of the bucket {bucket} is used up.",
        "Raise the quota, or shorten how long copies are kept.",
    ),
    "XMinioStorageFull": (
        "The disks behind the bucket {bucket} are full.",
        "Add room to the service, or shorten how long copies are kept.",
    ),
    "KMS.DisabledException": (
        "The key that the bucket {bucket} encrypts with is disabled.",
        "Enable it in the key service.",
    ),
    _NO_LOCK: (
        "Object lock is not on for the bucket {bucket}.",
        "Turn it on for the bucket, or save the store without --lock-days.",
    ),
}


class Taken(Refused):
    """An object of that key exists already, and it is not ours."""


def code_of(error: BaseException) -> str:
    """The code of a bucket's answer, or nothing when it did not answer."""
    if not _answered(error):
        return ""
    told = error.response.get("Error", {})
    code = str(told.get("Code"))
    if code == "InvalidRequest" and "ObjectLock" in str(told.get("Message")).replace(" ", ""):
        return _NO_LOCK  # Amazon S3 has a code for it and answers this
    return code


def is_missing(error: BaseException) -> bool:
    """Tell whether the answer was that there is no such object."""
    return code_of(error) in _GONE


def is_expired(error: BaseException) -> bool:
    """Tell whether the credentials were good and no longer are."""
    return code_of(error) in _EXPIRED


def is_passing(error: BaseException) -> bool:
    """Tell whether the same request may be answered when it is sent again."""
    if not _answered(error):
        return isinstance(error, _SILENT) and not isinstance(error, boto.SSLError)
    return code_of(error) in _PASSING or (_status_of(error) >= 500 and _status_of(error) != 501)


def explain(error: BaseException, address: S3Address, action: str) -> FlowForgeError:
    """Say what went wrong in terms of what to do.

    Args:
        error: What botocore raised.
        address: The bucket.
        action: The right that was used, as policies spell it, for example `s3:PutObject`.
    """
    if _answered(error):
        return _explain_answer(error, address, action)
    place = address.endpoint_url or "the service"
    if isinstance(error, boto.SSLError):
        return Refused(
            f"The certificate of {place} is not trusted, so nothing was sent to it.",
            hint="Name the authority that signed it in AWS_CA_BUNDLE; check that the address is "
            "the one on the certificate.",
        )
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return Refused(
            f"There are no keys for the bucket {address.bucket}.",
            hint=f"Save them with `flowforge store add {address.name} --key-id-env VAR "
            "--secret-env VAR`, or give the machine a role.",
        )
    if isinstance(error, boto.CredentialRetrievalError | boto.MetadataRetrievalError):
        return Unavailable(
            f"The keys for the bucket {address.bucket} could not be fetched.",
            hint="Check the role of the machine or pod, then run it again.",
        )
    if isinstance(error, _SILENT):
        return Unavailable(
            f"The bucket {address.bucket} did not answer {action} at {place} "
            f"({type(error).__name__}).",
            hint="Check that the address is right and can be reached from here; then run it again.",
        )
    return Refused(
        f"The address of the bucket {address.bucket} cannot be used ({type(error).__name__}).",
        hint="Check its name, region and endpoint, and save them with `flowforge store add`.",
    )


def _explain_answer(error: ClientError, address: S3Address, action: str) -> FlowForgeError:
    code = code_of(error)
    if code in _TAKEN:
        return Taken("It exists already.", hint="Nothing is ever overwritten; run it again later.")
    if code in _REFUSALS:
        message, hint = _REFUSALS[code]
        shown = {"bucket": address.bucket, "name": address.name, "action": action}
        return Refused(message.format(**shown), hint=hint.format(**shown))
    if code in _EXPIRED:
        return Refused(
            f"The session token for the bucket {address.bucket} has expired.",
            hint="Save keys that last, or none, so that the role of the machine is used.",
        )
    if code == "RequestTimeTooSkewed":
        return _explain_clock(error, address)
    if code == "NoSuchUpload":
        return Unavailable(
            f"The upload to the bucket {address.bucket} was ended by somebody else.",
            hint="Look for a bucket rule that ends uploads within hours, then run it again.",
        )
    region = _other_region(error)
    if region is not None:
        return Refused(
            f"The bucket {address.bucket} is in the region {region}, "
            f"not in {address.region or 'the one of this machine'}.",
            hint=f"Save it with `flowforge store add {address.name} --region {region}`.",
        )
    return _explain_code(error, address, action)


def _explain_code(error: ClientError, address: S3Address, action: str) -> FlowForgeError:
    """Say what an answer means that has no words of its own."""
    code, status = code_of(error), _status_of(error)
    if status in (401, 403):
        return Refused(
            f"The keys in use may not do {action} in the bucket {address.bucket} ({code}).",
            hint=f"Allow {action} for s3://{address.bucket}/{address.prefix}* in their policy and "
            "in the bucket's.",
        )
    if is_passing(error):
        return Unavailable(
            f"The bucket {address.bucket} could not do {action} now ({code}).",
            hint="Nothing has to be repaired here; run it again later.",
        )
    return Refused(
        f"The bucket {address.bucket} refused {action} ({code}, status {status}).",
        hint="Look the code up in the service's list of errors; `flowforge store test` tries each "
        "right that a store needs.",
    )


def _explain_clock(error: ClientError, address: S3Address) -> Refused:
    told: Mapping[str, object] = {**error.response.get("Error", {})}
    theirs = f" It is {told['ServerTime']} there." if "ServerTime" in told else ""
    return Refused(
        f"The clock of this machine is too far from that of the bucket {address.bucket}.{theirs}",
        hint="Set the clock of this machine (`timedatectl set-ntp true`), then run it again.",
    )


def _other_region(error: ClientError) -> str | None:
    """The region a bucket is in, when the answer is that it was looked for in another."""
    told: Mapping[str, object] = {**error.response.get("Error", {})}
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    wrong = code_of(error) in ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
    moved = _status_of(error) in (301, 307) or code_of(error) == "PermanentRedirect"
    if not wrong and not moved:
        return None
    found = told.get("Region") or headers.get("x-amz-bucket-region")
    return str(found) if found else ("another" if moved else None)


def _answered(error: BaseException) -> TypeGuard[ClientError]:
    return isinstance(error, ClientError)


def _status_of(error: BaseException) -> int:
    if not _answered(error):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
