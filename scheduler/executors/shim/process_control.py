"""A system call that only the C library offers."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_found: "list[Callable[[int, int], object]]" = []


def prctl(option: int, value: int) -> None:
    find_prctl()(option, value)


def find_prctl() -> "Callable[[int, int], object]":
    """The function of the C library. The first look-up takes a moment."""
    if not _found:
        try:
            import _ctypes

            function = _ctypes.dlsym(_ctypes.dlopen(None, os.RTLD_NOW), "prctl")  # type: ignore[arg-type]
            _found.append(lambda option, value: _ctypes.call_function(function, (option, value)))
        except (ImportError, AttributeError):
            import ctypes

            _found.append(ctypes.CDLL(None).prctl)
    return _found[0]
