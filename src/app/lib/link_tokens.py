"""The secret in a link of a mail: the id of a row, signed."""

import base64
import hashlib
import hmac
from uuid import UUID

from app.lib.errors import ApplicationError
from app.lib.secret_keys import derive_key

ID_BYTES = 16


class InvalidTokenError(ApplicationError):
    """Forged, used, expired, superseded, or of something else: whoever comes with it must not learn which."""

    detail = "This link is not valid (any longer). Ask for a new one."


class LinkTokens:
    """Makes and reads them. 256 bits that nobody can guess, and nothing of them is stored, not even a hash.

    A job that is repeated sends the same link again, and the link works as soon as the mail is there: with a random
    secret, its hash would be committed only after the mail has left.
    """

    def __init__(self, *, secret: str) -> None:
        self._key = derive_key(secret, purpose="link-token")

    def issue(self, row_id: UUID, *, purpose: str) -> str:
        return base64.urlsafe_b64encode(row_id.bytes + self._signature(row_id, purpose)).decode()

    def read(self, token: str, *, purpose: str) -> UUID:
        """Raises InvalidTokenError unless it was issued for this purpose. Whether it still works, the row says."""
        try:
            content = base64.b64decode(token, altchars=b"-_", validate=True)
            row_id = UUID(bytes=content[:ID_BYTES])
        except ValueError as error:
            raise InvalidTokenError from error
        is_ours = hmac.compare_digest(content[ID_BYTES:], self._signature(row_id, purpose))
        if not is_ours or token != self.issue(row_id, purpose=purpose):  # one spelling only
            raise InvalidTokenError
        return row_id

    def _signature(self, row_id: UUID, purpose: str) -> bytes:
        return hmac.digest(self._key, purpose.encode() + b"\n" + row_id.bytes, hashlib.sha256)
