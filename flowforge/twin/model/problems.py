"""How the API says no."""

from __future__ import annotations

from collections.abc import Mapping

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Rejected(Exception):
    """An answer with a status of 400 or more.

    Args:
        status: The HTTP status.
        message: What the caller reads.
        kind: `error.type`; by default what goes with the status.
        code: `error.details.error_code`, for the few causes that have one.
        headers: Added to the reply.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind or kind_of(status)
        self.code = code
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> dict[str, object]:
        """The JSON of the answer."""
        error: dict[str, object] = {"type": self.kind, "message": self.message}
        if self.code is not None:
            error["details"] = {"error_code": self.code}
        return {"type": "error", "error": error, "request_id": request_id}


def kind_of(status: int) -> str:
    """The `error.type` that goes with an HTTP status."""
    return _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
