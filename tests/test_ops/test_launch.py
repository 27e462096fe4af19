import pytest
import torch

pytest.importorskip('triton')

from mmlocalmamba.ops.backends.triton import launch
from mmlocalmamba.ops.backends.triton.depthwise_conv import Settings


@pytest.mark.parametrize('tokens', [0, 1, 7, 64, 3136, 64000])
@pytest.mark.parametrize('tile', [1, 4])
@pytest.mark.parametrize('most', [0, 1, 8, 512])
def test_chunks_cover_all_tokens_once(tokens, tile, most) -> None:
    chunks = launch.cut(tokens, tile, most)

    assert chunks.count <= max(most, 1)
    assert chunks.size % tile == 0
    assert (chunks.count - 1) * chunks.size < max(tokens, 1)
    assert chunks.count * chunks.size >= tokens


@pytest.mark.parametrize('channels', [1, 7, 192, 384, 1536, 4096])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_a_tile_holds_whole_rows(channels, dtype) -> None:
    tile = launch.row_tile(channels, torch.empty(0, dtype=dtype), vector=16, warps=4)

    assert channels <= tile.channels < 2 * channels or channels == tile.channels == 1
    assert 4 <= tile.warps <= 16
    assert tile.rows == 1 or tile.rows * tile.channels == 32 * tile.warps * 16 // dtype.itemsize


@pytest.mark.parametrize('size', [(1, 1, 1, 1), (2, 56, 56, 192), (128, 14, 14, 768), (1, 200, 320, 192)])
def test_strips_and_tiles_cover_a_map(size) -> None:
    batch, height, width, channels = size
    grid = Settings().grid(*size)

    assert grid.tiles * grid.columns >= width
    assert grid.parts // grid.tiles * grid.rows >= height
    assert grid.programs == (grid.parts * -(-channels // grid.channels), batch)


def test_a_tuner_chooses_settings_until_it_is_taken_back() -> None:
    seen = []

    def tuner(default, sizes):
        seen.append((default, sizes))
        return 'tuned'

    launch.set_tuner('an operation', tuner)
    assert launch.tuned('an operation', 'default', 2, 3) == 'tuned'
    assert launch.tuned('another', 'default', 2, 3) == 'default'
    launch.set_tuner('an operation', None)

    assert launch.tuned('an operation', 'default', 2, 3) == 'default'
    assert seen == [('default', (2, 3))]


def test_launches_can_be_intercepted() -> None:
    seen = []
    with launch.intercepted(seen.append):
        launch.launch('kernel', (2, 3), torch.ones(1), 5, warps=4, SIZE=8)
        launch.launch('kernel', (2, 0), torch.ones(1), 5, warps=4, SIZE=8)

    (found,) = seen
    assert (found.kernel, found.grid, found.warps, found.constants) == ('kernel', (2, 3), 4, {'SIZE': 8})
