import re
from pathlib import Path

import pytest
import torch
import yaml

import mmlocalmamba
from mmlocalmamba.models import VARIANTS, LocalVMamba, build_backbone
from mmlocalmamba.models.variants import published_weights

MICRO = [name for name in VARIANTS if 'micro' in name]


@pytest.mark.parametrize('name', MICRO)
def test_backbones_are_built_by_name(name) -> None:
    maps = build_backbone(name, in_channels=2)(torch.rand(1, 2, 64, 48))
    assert len(maps) == 4
    assert all(torch.isfinite(level).all() for level in maps)


def test_the_package_has_it_at_the_top() -> None:
    assert mmlocalmamba.build_backbone is build_backbone


def test_every_name_stands_for_settings_that_its_class_takes() -> None:
    for name, (backbone, settings, _) in VARIANTS.items():
        assert settings['arch'] in backbone.arch_zoo, name


def test_unknown_names_and_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no backbone 'local_vmamba_huge': choose one of local_vmamba_micro, "):
        build_backbone('local_vmamba_huge')
    with pytest.raises(TypeError, match='in_chans'):
        build_backbone('local_vmamba_micro', in_chans=4)


def test_weights_come_from_a_file(tmp_path) -> None:
    trained = LocalVMamba('micro')
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in trained.state_dict().items()}}, tmp_path / 'a.pth')
    backbone = build_backbone('local_vmamba_micro', pretrained=tmp_path / 'a.pth')
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name])


def test_where_no_weights_are_published_it_says_so() -> None:
    with pytest.raises(ValueError, match=r'no weights of local_vmamba_tiny are published.*some of local_vmamba_small'):
        build_backbone('local_vmamba_tiny', pretrained=True)


def test_published_weights_are_those_of_the_metafiles(repo_dir) -> None:
    urls = set()
    for path in Path(repo_dir, 'configs').rglob('metafile.yml'):
        for model in yaml.safe_load(path.read_text())['Models']:
            urls.add(model.get('Weights'))
    assert {published_weights(name) for name, variant in VARIANTS.items() if variant.weights} <= urls
    assert all(re.match('https://', variant.weights) for variant in VARIANTS.values() if variant.weights)
