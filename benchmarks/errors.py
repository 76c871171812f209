"""The one exception of this package."""


class BenchError(Exception):
    """A measurement failed; the text says what went wrong and ends with the server's last lines."""
