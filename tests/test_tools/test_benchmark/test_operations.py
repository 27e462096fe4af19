import pytest
import torch

import mmlocalmamba.ops
from operations import GATES, NAMESPACE, PART_OF_OPERATION, SCAN, full_name, part_of_operation


def registered() -> set[str]:
    """The package's operations in PyTorch's dispatcher, without their backwards."""
    assert mmlocalmamba.ops
    prefix = f'{NAMESPACE}::'
    names = (name.partition('.')[0] for name in torch._C._dispatch_get_all_op_names())
    own = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    return {name for name in own if not name.endswith(('_backward', '_of_a_test'))}


def test_every_operation_belongs_to_a_part():
    assert SCAN in registered()
    assert registered() <= PART_OF_OPERATION.keys()


@pytest.mark.parametrize(
    ('event', 'part'),
    [
        ('mmlocalmamba::gate_and_merge', GATES),
        ('mmlocalmamba::merge_and_normalise_backward', GATES),
        ('autograd::engine::evaluate_function: GeneratedBackwardFor_mmlocalmamba_add_rotate_rms_norm_default', 'norms'),
        ('mmlocalmamba::unheard_of', None),
        ('aten::selective_scan', None),
    ],
)
def test_an_event_is_known_by_the_operation_in_its_name(event, part):
    assert part_of_operation(event) == part


def test_the_dispatchers_names():
    assert full_name(SCAN) == 'mmlocalmamba::selective_scan'
    assert full_name(SCAN, backward=True) == 'mmlocalmamba::selective_scan_backward'
