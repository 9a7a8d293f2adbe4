"""Chooses MuJoCo's off-screen backend before MuJoCo is imported: EGL, else OSMesa.

MuJoCo reads MUJOCO_GL once, at import; the rest of this package therefore takes `mujoco` from here.
"""

from __future__ import annotations

import ctypes.util
import importlib
import os
import sys
from typing import Any

from gen2act_sim.errors import SystemLibraryMissing

HELP = "apt-get install -y libegl1 libgl1-mesa-dri libgles2"


def choose_backend() -> str:
    """Sets MUJOCO_GL (and PYOPENGL_PLATFORM follows) unless set; returns the backend's name.

    Raises:
        SystemLibraryMissing: neither libEGL nor libOSMesa is installed.
    """
    chosen = os.environ.get("MUJOCO_GL")
    if chosen or "mujoco" in sys.modules or not sys.platform.startswith("linux"):
        return chosen or "default"
    if ctypes.util.find_library("EGL"):
        backend = "egl"
    elif ctypes.util.find_library("OSMesa"):
        backend = "osmesa"
    else:
        # Physics alone works without a renderer; the error comes when one is asked for.
        return "none"
    os.environ["MUJOCO_GL"] = backend
    return backend


def missing(cause: BaseException) -> SystemLibraryMissing:
    """The error to raise when no renderer can be made."""
    return SystemLibraryMissing(
        f"cannot render off-screen ({type(cause).__name__}: {cause}); on Debian/Ubuntu run: {HELP}"
        f" (or libosmesa6 with MUJOCO_GL=osmesa; now MUJOCO_GL={os.environ.get('MUJOCO_GL')!r})"
    )


choose_backend()
try:
    mujoco: Any = importlib.import_module("mujoco")  # ships no types
except (ImportError, AttributeError, OSError, RuntimeError) as error:
    # What PyOpenGL and MuJoCo raise when the library that MUJOCO_GL names cannot be loaded.
    raise missing(error) from error
