"""The windowed selective scan, and what comes before and after it: operations with several back ends."""

from .add_norm import add_rotate_rms_norm
from .backends import available_backends, backend_for
from .causal_conv import local_causal_conv1d
from .channel_gate import ChannelGate
from .depthwise_conv import depthwise_conv2d_silu
from .gate_and_merge import gate_and_merge
from .merge_and_normalise import OutputNorm, merge_and_normalise
from .resize_map import resize_map
from .scan_inputs import ScanInputs
from .selective_scan import local_selective_scan
from .traced_size import of_traced_size

__all__ = [
    'ChannelGate',
    'OutputNorm',
    'ScanInputs',
    'add_rotate_rms_norm',
    'available_backends',
    'backend_for',
    'depthwise_conv2d_silu',
    'gate_and_merge',
    'local_causal_conv1d',
    'local_selective_scan',
    'merge_and_normalise',
    'of_traced_size',
    'resize_map',
]
