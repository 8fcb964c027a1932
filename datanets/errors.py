"""The broken rules of the data side. marketplace.errors maps them to status codes."""

from django.utils.translation import gettext_lazy as _


class DatanetError(Exception):
    """A rule about data was broken."""

    code = "datanet_error"
    status = 409
    message = _("This is not possible now. Nothing was changed.")

    def __init__(self, message: str | None = None, **params) -> None:
        self.params = params
        super().__init__(message or str(self.message))


class NotAllowed(DatanetError):
    """The person may see the thing but not do this to it."""

    code = "not_allowed"
    status = 403
    message = _("You may not do this. Nothing was changed.")


class NotReady(DatanetError):
    """The thing is in a state in which this act makes no sense."""

    code = "not_ready"


class SelfReview(DatanetError):
    """Nobody reviews their own records."""

    code = "self_review"
    status = 403
    message = _("You cannot review your own records. Nothing was changed.")


class Invalid(DatanetError):
    """A value is not acceptable."""

    code = "invalid_value"
    status = 422
    message = _("A value is not acceptable. Nothing was changed.")


class TooLarge(DatanetError):
    """A file or a quota is over its limit."""

    code = "too_large"
    status = 413
    message = _("The file is larger than allowed. What you sent before is kept.")


class TooMany(DatanetError):
    """Somebody did something more often than one person may in a day."""

    code = "too_many"
    status = 429
    message = _("That is enough for today. Nothing was changed.")


class Conflict(DatanetError):
    """An upload does not continue where the server stands, or its bytes changed."""

    code = "conflict"
    message = _("The upload does not continue where the server stands. Ask for the offset and go on from there.")


class Expired(DatanetError):
    """The server no longer keeps the bytes of an unfinished upload."""

    code = "expired"
    status = 410
    message = _("This upload was left unfinished for too long. Send the file again.")


class ChecksumMismatch(DatanetError):
    """A part did not arrive as it was sent. What came before it is kept."""

    code = "checksum_mismatch"
    status = 460
    message = _("This part was damaged on its way. Send it again.")
