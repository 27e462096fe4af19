"""What a scan direction is: names, token orders and their inverses, as pure integer arithmetic."""

from .names import (
    CANDIDATES,
    CROSS_SCAN,
    Direction,
    canonical_order,
    nearest_direction,
    parse_direction,
    parse_directions,
)
from .orders import inverse_order, scan_order, scan_orders
from .published import load_directions, published_directions

__all__ = [
    'CANDIDATES',
    'CROSS_SCAN',
    'Direction',
    'canonical_order',
    'inverse_order',
    'load_directions',
    'nearest_direction',
    'parse_direction',
    'parse_directions',
    'published_directions',
    'scan_order',
    'scan_orders',
]
