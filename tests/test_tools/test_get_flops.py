import pytest
from mmengine.config import Config

from mmlocalmamba.analysis.flops import PartCost

MASK_RCNN = 'configs/demo/mask_rcnn_localvmamba_micro_shapes.py'


@pytest.fixture
def get_flops(tool):
    return tool('analysis/get_flops')


def test_it_prints_every_part_and_both_conventions(get_flops, repo_dir, capsys):
    get_flops.main([str(repo_dir / MASK_RCNN), '--shape', '96', '128'])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ['96', 'x', '128', 'pixels', 'params', 'FLOPs', 'published', 'scan']
    names = [line.split()[0] for line in lines[2:7]]
    assert names == ['backbone', 'neck', 'rpn_head', 'roi_head.bbox_head', 'roi_head.mask_head']
    assert lines[8].startswith('total')


def test_one_number_is_a_square(get_flops, repo_dir, capsys):
    get_flops.main([str(repo_dir / MASK_RCNN), '--shape', '64'])
    assert capsys.readouterr().out.startswith('64 x 64 pixels')


def test_options_override_the_config(get_flops, repo_dir, capsys):
    get_flops.main(
        [str(repo_dir / MASK_RCNN), '--shape', '64', '--cfg-options', 'model.roi_head.mask_head.num_convs=0']
    )
    mask_head = next(line for line in capsys.readouterr().out.splitlines() if 'mask_head' in line)
    assert mask_head.split()[1] == '0.017'


@pytest.mark.parametrize(
    ('scope', 'shape'), [('mmdet', (800, 1280)), ('mmseg', (512, 2048)), ('mmengine', (224, 224)), (None, (224, 224))]
)
def test_the_default_size_is_the_papers(get_flops, scope, shape):
    assert get_flops.default_shape(Config({} if scope is None else {'default_scope': scope})) == shape


@pytest.mark.parametrize('shape', [['1', '2', '3'], ['0']])
def test_a_wrong_size_is_refused(get_flops, shape, capsys):
    with pytest.raises(SystemExit):
        get_flops.parse_args(['config.py', '--shape', *shape])
    assert '--shape wants one or two positive numbers' in capsys.readouterr().err


def test_the_total_is_the_sum(get_flops):
    parts = [PartCost('a', 1_000_000, 2_000_000_000, 1_000_000_000, 0), PartCost('b', 500_000, 1_000_000_000, 0, 0)]
    last = get_flops.format_table(parts, 8, 8).splitlines()[-1]
    assert last.split() == ['total', '1.500', 'M', '3.000', 'G', '1.000', 'G', '0.000', 'G']
