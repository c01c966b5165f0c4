"""The one exception a user is meant to read."""


class UserError(Exception):
    """Something the user can put right: what is wrong, and what to do about it.

    Args:
        message: one sentence that says what is wrong.
        remedy: one sentence that says what to do.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.remedy = remedy
