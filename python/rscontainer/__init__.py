"""An OCI container runtime in the Python process."""

from __future__ import annotations

from rscontainer._core import VERSION as __version__

__all__ = ["__version__"]
