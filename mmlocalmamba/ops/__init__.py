"""The windowed selective scan: one operation, several back ends."""

from .backends import available_backends, backend_for
from .selective_scan import local_selective_scan

__all__ = ['available_backends', 'backend_for', 'local_selective_scan']
