"""The base class of errors that a user can fix; commands print only the message."""


class UserError(ValueError):
    """A mistake in the input; the message names what is wrong, the value, and what to do."""
