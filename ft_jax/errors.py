"""The one error a user can cause.

Raised anywhere with a message of the form ``culprit: what is wrong; what was expected``. The
command lines print that single line and exit with code 2 (``ft_jax.cli.entry``).
"""


class UsageError(ValueError):
    """Input or a setting is wrong; the message names the file or key and what was expected."""
