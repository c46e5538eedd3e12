class LeukoscopeError(Exception):
    """An error whose message is one line for the user; the command line prints it without a traceback."""

    exit_code = 2


class InputError(LeukoscopeError):
    """The input is at fault: the message names the file or key, what is wrong and what to do. Exit code 2."""


class CheckFailed(LeukoscopeError):
    """The input was read and failed a check, such as an audit that finds a leak. Exit code 1."""

    exit_code = 1
