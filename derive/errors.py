"""What can go wrong in a way that a user can mend."""

from __future__ import annotations

__all__ = ["DeriveError", "MissingToolError", "OutputError", "StatementError", "VerificationError"]


class DeriveError(Exception):
    """A fault the user can mend; the message says what, where, what was expected and what came."""


class StatementError(DeriveError, ValueError):
    """A statement that is not understood, or not true to its own declarations."""


class MissingToolError(DeriveError):
    """Something outside this package is needed and not installed."""


class OutputError(DeriveError):
    """Something that cannot be written, or that is not ours to overwrite."""


class VerificationError(DeriveError):
    """A step, a claim or a piece of generated code does not agree with what it was made from."""
