"""Errors of compilers and of the programs that they make."""

from haq.errors import UserError


class MissingToolError(UserError):
    """A compiler or emulator is not installed; the message names the Debian packages that bring it."""


class CompileError(RuntimeError):
    """A compiler or linker refused a program; the message is its first error, in one line."""


class ProgramError(RuntimeError):
    """A program crashed, ran too long or wrote what cannot be read; the message is one line."""
