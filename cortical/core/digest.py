"""What changes when what it stands for does: short texts of code and what was declared beside it, prints of values."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterable
from types import CodeType, FunctionType, MethodType
from typing import Final

from cortical.core.codec import encode
from cortical.core.errors import EncodeError
from cortical.core.safe_text import written

#: The most bytes of a value's code that are its print as they are.
_MOST_BYTES: Final = 64


def digest(parts: Iterable[bytes]) -> str:
    """A short text that changes when one of the parts does."""
    told = hashlib.sha256()
    for part in parts:
        told.update(part)
    return told.hexdigest()[:16]


def print_of(value: object) -> bytes:
    """Some bytes that are equal for equal values."""
    try:
        encoded = encode(value)
    except EncodeError:  # kept in memory alone; the text of most such values is their own, so they look different
        encoded = written(value).encode("utf-8", "replace")
    return encoded if len(encoded) <= _MOST_BYTES else hashlib.sha256(encoded).digest()


def code_of(function: object) -> bytes:
    """What a function does, as bytes that differ when its code does, and are the same in every process.

    Of a method it is the function's, of a `functools.partial` that of what it calls, of an object that can be called
    that of its class. What was written in another language is known by its name alone.
    """
    match function:
        case FunctionType(__code__=code):
            return _bytes_of(code)
        case MethodType(__func__=inner) | functools.partial(func=inner):
            return code_of(inner)
    name = getattr(function, "__qualname__", None)
    if name is not None:
        return str(name).encode()
    called = inspect.getattr_static(type(function), "__call__", None)
    return _bytes_of(called.__code__) if isinstance(called, FunctionType) else type(function).__qualname__.encode()


def _bytes_of(code: CodeType) -> bytes:
    return b"\0".join([code.co_code, repr(code.co_names).encode(), *map(_constant, code.co_consts)])


def _constant(constant: object) -> bytes:
    if isinstance(constant, CodeType):
        return _bytes_of(constant)
    if isinstance(constant, frozenset):  # its order differs from process to process
        return repr(sorted(map(repr, constant))).encode()
    return repr(constant).encode()
