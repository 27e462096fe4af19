"""Names of our configs; tests/test_packaging.py resolves them in an installed wheel."""

import subprocess
import sys

import pytest
from mmengine.config import Config, config
from mmengine.hub import get_config, hub

import mmlocalmamba  # noqa: F401
from mmlocalmamba.compat import config_names


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package folder with one config and one metafile."""
    monkeypatch.setattr(config_names, 'FOLDER', tmp_path)
    (tmp_path / '.mim/configs').mkdir(parents=True)
    (tmp_path / '.mim/configs/listed.py').write_text("default_scope = 'mmdet'\nmodel = dict(type='MaskRCNN')\n")
    (tmp_path / '.mim/configs/unlisted.py').write_text('lr = 1\n')
    (tmp_path / '.mim/model-index.yml').write_text('Import: [configs/metafile.yml]\n')
    (tmp_path / '.mim/configs/metafile.yml').write_text(
        'Models: [{Name: listed, Config: configs/listed.py, Weights: https://a/b.pth}]\n'
    )
    return tmp_path


def test_a_name_is_a_base_and_leaves_the_scope_to_it(package) -> None:
    (package / 'mine.py').write_text("_base_ = ['mmlocalmamba::listed.py', 'mmlocalmamba::unlisted.py']\n")
    cfg = Config.fromfile(package / 'mine.py')
    assert cfg.to_dict() == dict(default_scope='mmdet', model=dict(type='MaskRCNN'), lr=1)


def test_the_hub_knows_the_config_and_its_weights(package) -> None:
    assert get_config('mmlocalmamba::unlisted.py').lr == 1
    assert get_config('mmlocalmamba::listed.py', pretrained=True).model_path == 'https://a/b.pth'


def test_a_config_that_is_not_there_is_named(package) -> None:
    with pytest.raises(FileNotFoundError, match='configs/nothing.py'):
        get_config('mmlocalmamba::nothing.py')


def test_a_package_without_configs_says_what_to_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(config_names, 'FOLDER', tmp_path)
    with pytest.raises(FileNotFoundError, match=r'no folder \.mim.*pip install -e'):
        get_config('mmlocalmamba::listed.py')


def test_other_packages_are_resolved_as_before() -> None:
    assert get_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py').model.type == 'RetinaNet'
    with pytest.raises(ValueError, match='please specify the package name'):
        get_config('mmdet::retinanet')


def test_it_bridges_once() -> None:
    before = [(module.get_installed_path, module._get_package_and_cfg_path) for module in (config, hub)]
    config_names.install()
    assert before == [(module.get_installed_path, module._get_package_and_cfg_path) for module in (config, hub)]
    assert sys.meta_path.count(config_names.FINDER) == 1


@pytest.mark.parametrize('order', ['mmlocalmamba, mmengine.hub', 'mmengine.hub, mmlocalmamba'])
def test_the_order_of_imports_does_not_matter(order, repo_dir, tmp_path) -> None:
    code = f'import sys; sys.path.append({str(repo_dir)!r}); import {order}; from mmengine.hub import hub; '
    code += "print(hub._get_package_and_cfg_path('mmlocalmamba::a.py'))"
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "('mmlocalmamba', 'a.py')", done.stderr
