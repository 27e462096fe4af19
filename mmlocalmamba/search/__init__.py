"""The search for scan directions (paper section 4.2): the supernet's probabilities, their log, and the export."""

from .export import export_weights, searched_config, top_directions, undecided_blocks, write_directions
from .hook import DirectionSearchHook
from .supernet import candidates, probabilities, search_mixers, set_num_sampled

__all__ = [
    'DirectionSearchHook',
    'candidates',
    'export_weights',
    'probabilities',
    'search_mixers',
    'searched_config',
    'set_num_sampled',
    'top_directions',
    'undecided_blocks',
    'write_directions',
]
