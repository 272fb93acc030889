"""The base class of errors that a user can fix; commands print only the message."""


class UserError(ValueError):
    """A mistake in the input; the message says what was wrong, which value, and what to do."""


class CheckpointError(UserError):
    """There is no usable checkpoint, or it belongs to another run."""


class NonFiniteError(UserError, FloatingPointError):
    """A loss, gradient or code is NaN or infinite; the message names where."""
