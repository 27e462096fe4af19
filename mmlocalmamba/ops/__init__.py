"""The windowed selective scan, and what comes before and after it: operations with several back ends."""

from .add_norm import add_rotate_rms_norm
from .backends import available_backends, backend_for
from .causal_conv import local_causal_conv1d
from .depthwise_conv import depthwise_conv2d_silu
from .merge import merge_scans
from .selective_scan import local_selective_scan

__all__ = [
    'add_rotate_rms_norm',
    'available_backends',
    'backend_for',
    'depthwise_conv2d_silu',
    'local_causal_conv1d',
    'local_selective_scan',
    'merge_scans',
]
