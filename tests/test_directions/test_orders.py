import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmlocalmamba.directions import (
    CANDIDATES,
    inverse_order,
    orders,
    parse_direction,
    published_directions,
    scan_order,
    scan_orders,
)
from mmlocalmamba.directions.order_cache import OrderCache
from mmlocalmamba.directions.orders import scan_length

NAMES = st.builds(
    lambda path, flip: path + flip, st.sampled_from(['h', 'v', 'w1', 'w2', 'w3', 'w7']), st.sampled_from(['', '_flip'])
)
SIDES = st.integers(1, 17)


@pytest.fixture
def empty_cache(monkeypatch) -> None:
    monkeypatch.setattr(orders, '_cache', OrderCache(orders._stack_orders))


def test_orders_are_those_of_the_published_code(shared_dir) -> None:
    reference = torch.load(shared_dir / 'reference' / 'scan_orders.pt', weights_only=True)

    assert len(reference) > 0
    for key, want in reference.items():
        size, name = key.split('/')
        height, width = map(int, size.split('x'))
        assert torch.equal(scan_order(name, height, width), want), key


@given(NAMES, SIDES, SIDES)
def test_every_token_is_visited_once(name, height, width) -> None:
    order = scan_order(name, height, width)

    assert order[order >= 0].sort().values.tolist() == list(range(height * width))


@given(NAMES, SIDES, SIDES)
def test_length_counts_whole_windows(name, height, width) -> None:
    window = parse_direction(name).window

    want = (-(-height // window) * window) * (-(-width // window) * window)
    assert len(scan_order(name, height, width)) == want
    assert scan_length(name, height, width) == want
    assert scan_length(name, height, width, middle_token=True) == want + 1


@given(NAMES, SIDES, SIDES, st.booleans())
def test_inverse_brings_every_token_back(name, height, width, middle) -> None:
    order = scan_order(name, height, width, middle_token=middle)
    tokens = height * width + middle

    assert torch.equal(order[inverse_order(order, tokens)], torch.arange(tokens))


@given(SIDES, SIDES)
def test_inverse_of_columns_is_a_transposition_of_any_map(height, width) -> None:
    image = torch.arange(height * width).view(height, width)
    scanned = image.flatten()[scan_order('v', height, width)]

    assert torch.equal(scanned, image.t().flatten())
    assert torch.equal(
        scanned[inverse_order(scan_order('v', height, width), height * width)].view(height, width), image
    )


@given(NAMES.filter(lambda name: not name.endswith('_flip')), SIDES, SIDES)
def test_flip_reverses_padding_too(name, height, width) -> None:
    assert torch.equal(scan_order(f'{name}_flip', height, width), scan_order(name, height, width).flip(0))


@given(SIDES, SIDES)
def test_windows_of_one_token_are_rows(height, width) -> None:
    assert torch.equal(scan_order('w1', height, width), scan_order('h', height, width))


@given(NAMES, SIDES, SIDES)
def test_middle_token_is_in_the_middle(name, height, width) -> None:
    order = scan_order(name, height, width, middle_token=True)

    assert order[height * width // 2] == height * width
    assert torch.equal(order[order != height * width], scan_order(name, height, width))


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True), SIDES, SIDES)
def test_stacked_orders_are_filled_up_at_their_ends(names, height, width) -> None:
    stacked = scan_orders(names, height, width)

    assert stacked.dtype == torch.int32
    for row, name in zip(stacked, names, strict=True):
        order = scan_order(name, height, width)
        assert row[: len(order)].tolist() == order.tolist()
        assert (row[len(order) :] == -1).all()


@pytest.mark.parametrize('size', [(0, 3), (3, 0), (-1, 2)])
def test_empty_map_is_refused(size) -> None:
    with pytest.raises(ValueError, match=f'cannot scan a map of {size[0]} x {size[1]} tokens'):
        scan_order('h', *size)


def test_unknown_name_in_stacked_orders_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown scan direction 'diagonal'"):
        scan_orders(['h', 'diagonal'], 2, 2)


def test_orders_are_cached() -> None:
    assert scan_orders(CANDIDATES, 5, 6) is scan_orders(list(CANDIDATES), 5, 6)


def test_sizes_are_not_mixed_up() -> None:
    assert not torch.equal(scan_orders(['v'], 2, 3), scan_orders(['v'], 3, 2))


@pytest.mark.usefixtures('empty_cache')
def test_order_first_asked_for_in_inference_mode_can_train() -> None:
    with torch.inference_mode():
        first = scan_orders(['h', 'w2'], 3, 3)

    assert not first.is_inference()
    assert not scan_orders(['h', 'w2'], 3, 3).is_inference()


@pytest.mark.usefixtures('empty_cache')
def test_order_first_asked_for_among_fake_tensors_is_real() -> None:
    with FakeTensorMode():
        scan_orders(['h', 'w2'], 3, 3)

    order = scan_orders(['h', 'w2'], 3, 3)
    assert not isinstance(order, FakeTensor)
    assert order[0].tolist()[:3] == [0, 1, 2]


@pytest.mark.usefixtures('empty_cache')
def test_default_device_does_not_get_into_the_cache() -> None:
    with torch.device('meta'):
        order = scan_orders(['h'], 2, 2, device='cpu')

    assert order.device.type == 'cpu'


@pytest.mark.usefixtures('empty_cache')
def test_errors_of_the_cached_part_are_the_callers() -> None:
    with pytest.raises(ValueError, match='cannot scan a map of 0 x 2'):
        scan_orders(['h'], 0, 2)


class OtherDevices(TorchDispatchMode):
    """Refuses every operation that reads a value on the host or goes from one device to another."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten._to_copy.default), func
        assert not isinstance(out, torch.Tensor) or out.device.type == 'meta', func
        return out


@pytest.mark.usefixtures('empty_cache')
def test_orders_are_made_on_their_own_device() -> None:
    """On a GPU, a copy from the host or a value read from the device would stop the host until the device is done."""
    with OtherDevices():
        made = scan_orders(CANDIDATES, 13, 11, middle_token=True, device='meta')

    assert made.shape == (8, 14 * 14 + 1)


class Kernels(TorchDispatchMode):
    """Counts the operations that launch a kernel on a GPU: all but views and making room."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view and 'empty' not in func.name():
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ('names', 'size', 'middle', 'most'),
    [
        (('h', 'v', 'h_flip', 'v_flip'), (50, 84), False, 6),  # the tokens, turned once, and a copy for each direction
        (('h', 'v', 'w2', 'w7'), (56, 56), False, 5),
        (('h', 'v_flip', 'w2', 'w7_flip'), (50, 84), False, 9),  # padding: two for the map, one for the shorter orders
        (('h', 'v_flip', 'w2', 'w7_flip'), (14, 13), True, 11),  # the class token, and putting it in
    ],
)
def test_orders_that_are_not_kept_cost_a_handful_of_kernels(names, size, middle, most) -> None:
    with Kernels() as kernels:
        made = orders._stack_orders(names, *size, middle, torch.device('meta'))

    assert made.dtype == torch.int32
    # constant_pad_nd is a fill and a copy on a real device.
    assert len(kernels.names) + kernels.names.count('aten::constant_pad_nd') <= most, kernels.names


def orders_of_an_image(cache: OrderCache, height: int, width: int) -> None:
    """Ask for what LocalVMamba-T asks for during an image: every block's orders, at the size of its stage."""
    blocks = published_directions('local_vmamba_tiny')
    strides = [4] * 2 + [8] * 2 + [16] * 9 + [32] * 2
    for names, stride in zip(blocks, strides, strict=True):
        cache.get(names, -(-height // stride), -(-width // stride), False, torch.device('meta'))


def test_orders_of_many_image_sizes_stay_in_the_cache() -> None:
    """Multi-scale training comes back to sizes that it has seen: 256 orders, as few as once were kept, are 18 sizes."""
    cache = OrderCache(orders._stack_orders)
    sizes = [(height, width) for height in range(480, 801, 32) for width in (800, 1088, 1216, 1344)]
    for size in sizes:
        orders_of_an_image(cache, *size)
    assert (cache.hits, cache.misses) == (len(sizes), 14 * len(sizes))  # two of its 15 blocks have the same directions
    for size in sizes:
        orders_of_an_image(cache, *size)

    assert cache.misses == 14 * len(sizes)


def test_the_cache_forgets_what_was_not_used_for_longest() -> None:
    device = torch.device('cpu')
    cache = OrderCache(orders._stack_orders, capacity=3 * 4 * 4)  # three orders of four tokens
    kept = [cache.get((name,), 2, 2, False, device) for name in ('h', 'v', 'h_flip')]
    assert cache.get(('h',), 2, 2, False, device) is kept[0]
    cache.get(('v_flip',), 2, 2, False, device)

    assert cache.get(('h',), 2, 2, False, device) is kept[0]
    assert cache.get(('v',), 2, 2, False, device) is not kept[1]


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = OrderCache(orders._stack_orders, capacity=8)
    first = cache.get(('h',), 2, 2, False, torch.device('cpu'))

    assert cache.get(('h',), 2, 2, False, torch.device('cpu')) is not first
