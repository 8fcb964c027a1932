"""What the gateway refuses, in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

_TYPES = {
    401: "authentication_error",
    402: "insufficient_funds",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "server_error",
    503: "service_unavailable",
    504: "server_error",
}


class ApiError(Exception):
    """An answer that is not 200. `code` is for programs, the message for people, `param` names the wrong field."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after_s: int | None = None,
        retry: bool = True,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["retry-after"] = str(retry_after_s)
        if not retry:  # the official clients retry 409 unless they are told not to
            self.headers["x-should-retry"] = "false"
        kind = _TYPES.get(status, "invalid_request_error")
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class ClientLeft(Exception):
    """The caller closed the connection."""


class Unavailable(Exception):
    """The database does not answer."""


def invalid(message: str, param: str | None = None, *, status: int = 400) -> ApiError:
    """A field has a value that cannot be used."""
    return ApiError(status, message, code="invalid_value", param=param)


def unavailable() -> ApiError:
    """The books cannot be reached: no call can be paid, so none is made."""
    return ApiError(
        503, "The books cannot be reached. Nothing was charged. Try again.", code="unavailable", retry_after_s=2
    )


def too_slow() -> ApiError:
    """What was asked for takes longer than a statement may."""
    return ApiError(
        503,
        "This takes too long now. Ask again later, or for less: fewer days, a smaller limit.",
        code="unavailable",
        retry_after_s=5,
    )


def outcome_unknown(*, can_repeat: bool) -> ApiError:
    """The books went away while a call was being stored. Without an Idempotency-Key a retry could be a second charge."""
    return ApiError(
        503,
        "The books went away while this call was stored: whether it was charged is not known yet. "
        "See GET /v1/calls, or repeat it with the same Idempotency-Key.",
        code="outcome_unknown",
        retry_after_s=2,
        retry=can_repeat,
    )


def insufficient() -> ApiError:
    return ApiError(
        402,
        "Your wallet does not cover the most this call can cost. Add OPEN, or lower max_tokens.",
        code="insufficient_balance",
        retry=False,
    )


def spend_cap_reached(period: str = "") -> ApiError:
    """`period`: day or month, where it is the cap of one that was reached."""
    of = {"day": " of the day (UTC)", "month": " of the month (UTC)"}.get(period, "")
    return ApiError(
        402,
        f"This key has reached its spend cap{of}. Nothing was charged. Use another key, or one with a higher cap.",
        code="spend_cap_reached",
        retry=False,
    )


def free_call_lost() -> ApiError:
    """This process was cut off from the books, and what it had set aside for a free call was given to another one."""
    return ApiError(
        503,
        "This free call was given to another one. Nothing was charged. Try again.",
        code="unavailable",
        retry_after_s=1,
    )


def malformed(message: str = "This is no valid HTTP request.") -> ApiError:
    """Not HTTP, or HTTP that two readers could understand differently."""
    return ApiError(400, message, code="malformed_request")


def too_slow_to_send() -> ApiError:
    """The request did not arrive in time. Nothing of it was looked at."""
    return ApiError(
        408,
        "The request did not arrive in time. Nothing was charged.",
        code="request_timeout",
        headers={"connection": "close"},
    )


def unknown_key() -> ApiError:
    return ApiError(401, "This API key is not known, was revoked or has expired.", code="invalid_api_key", retry=False)


def unknown_model(name: str) -> ApiError:
    return ApiError(404, f"There is no model {name[:120]!r} for you.", code="model_not_found", param="model")


def upstream_failed(message: str = "The model failed on this call. Nothing was charged.") -> ApiError:
    return ApiError(502, message, code="upstream_error")


def upstream_busy(retry_after_s: int = 1) -> ApiError:
    return ApiError(
        503, "The model is busy. Nothing was charged. Try again.", code="model_busy", retry_after_s=retry_after_s
    )


def upstream_unavailable(retry_after_s: int) -> ApiError:
    """Nobody who answers for the model has answered of late, so nobody is asked now."""
    return ApiError(
        503,
        "The model does not answer at the moment. Nothing was charged. Try again later.",
        code="upstream_unavailable",
        retry_after_s=retry_after_s,
    )


def upstream_slow() -> ApiError:
    return ApiError(504, "The model did not answer in time. Nothing was charged.", code="upstream_timeout")


def internal() -> ApiError:
    return ApiError(500, "The gateway failed on this call. Nothing was charged.", code="internal_error")


def broken() -> ApiError:
    """Something failed outside of a call, or after it was charged: so this promises nothing."""
    return ApiError(500, "The gateway failed. GET /v1/calls shows what was charged.", code="internal_error")
