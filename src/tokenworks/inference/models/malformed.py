"""What readers of model files raise inside; at their edge it becomes a ModelFileError."""


class Malformed(Exception):  # noqa: N818  (internal; becomes an error that names the file)
    """What is wrong with the file."""

    def __init__(self, problem: str, *, hint: str | None = None) -> None:
        super().__init__(problem)
        self.hint = hint
