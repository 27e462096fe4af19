import pytest
from mmengine.config import Config

from mmlocalmamba.engine.cli import load_config, make_parser
from mmlocalmamba.engine.padding_check import check_padding_value


def config(padding: str, **preprocessor) -> Config:
    return Config(dict(model=dict(backbone=dict(padding=padding), data_preprocessor=preprocessor)))


@pytest.mark.parametrize('key', ['pad_value', 'pad_val'])
def test_padding_that_could_not_be_told_from_image_is_refused(key):
    with pytest.raises(ValueError, match=rf"padding is 'skip'.*data_preprocessor\.{key} is 114: set it to 0"):
        check_padding_value(config('skip', **{key: 114}))


@pytest.mark.parametrize(
    'cfg',
    [
        config('skip'),
        config('skip', pad_value=0),
        config('skip', pad_val=0.0, seg_pad_val=255),
        config('scan', pad_value=114),
        Config(dict(model=dict(backbone=dict(padding='skip')))),
        Config(dict(model=dict(type='Model'))),
        Config({}),
    ],
)
def test_other_configs_pass(cfg):
    check_padding_value(cfg)


def test_the_tools_check_it(repo_dir):
    path = str(repo_dir / 'configs/demo/mask_rcnn_localvmamba_micro_shapes.py')
    options = ['model.backbone.padding=skip', 'model.data_preprocessor.pad_value=114']
    with pytest.raises(ValueError, match='pad_value is 114'):
        load_config(make_parser('').parse_args([path, '--cfg-options', *options]))
