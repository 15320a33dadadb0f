"""The one error that means: the user asked for something that cannot be, and here is what would be right."""


class UserError(ValueError):
    """A mistake in what was asked for. The message is one line: what was wrong, and what would be right."""
