from app.lib.schema import Email, Name, NewPassword, Phone, Schema


class RegistrationCreate(Schema):
    email: Email
    password: NewPassword
    first_name: Name
    last_name: Name
    phone: Phone | None = None


class RegistrationRead(Schema):
    """The same for a new address and a known one: nobody learns who has an account (ASVS 6.3.8)."""

    email: str
    verification_required: bool
