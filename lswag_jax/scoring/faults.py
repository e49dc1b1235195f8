"""What a network raises on inputs that do not fit, and what is said of it."""

from flax.errors import FlaxError

# An error of the device, as of its memory, is a RuntimeError too: catch those before.
FAULTS = (FlaxError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
FAULTS += (AssertionError, RuntimeError)


def why(error: Exception) -> str:
    """First line of what an error says, without Flax's address, or what it is called.

    Example:
        >>> why(ValueError("too small.\\nMore.")), why(AssertionError())
        ('too small', 'AssertionError')
    """
    line = str(error).split("\n")[0].split(" (http")[0].rstrip(".")
    return line or type(error).__name__
