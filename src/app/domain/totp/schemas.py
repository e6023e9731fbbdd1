from datetime import datetime

from app.lib.schema import Schema, TotpCode


class TotpRead(Schema):
    is_enabled: bool
    confirmed_at: datetime | None
    recovery_codes_left: int


class TotpEnrolmentRead(Schema):
    """Three forms of one secret: to type, to open on a telephone, and to scan (an SVG element, to be put into HTML)."""

    secret: str
    otpauth_uri: str
    qr_svg: str


class TotpConfirmationCreate(Schema):
    totp: TotpCode


class RecoveryCodesRead(Schema):
    """Each signs in once instead of the app. They are shown here and never again."""

    recovery_codes: list[str]
