from app.lib.errors import ConflictError


class AddressReservedError(ConflictError):
    """It was another account's until lately, whose owner has got the link that undoes that once more.

    Told to those only who have proved the address.
    """

    detail = "An account had this address until lately. Take that one back first: a link was sent to this address."
    keeps_writes = True
