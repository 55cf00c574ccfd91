"""What only the C library can ask of the system."""

import os


def prctl(option: int, value: int) -> None:
    try:
        import _ctypes

        function = _ctypes.dlsym(_ctypes.dlopen(None, os.RTLD_NOW), "prctl")  # type: ignore[arg-type]
        _ctypes.call_function(function, (option, value))
    except (ImportError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(option, value)
