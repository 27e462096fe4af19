"""The programs in examples/, with a small backbone. Where a package is not installed, its program is skipped."""

import importlib.util

import pytest


def load(repo_dir, name: str):
    spec = importlib.util.spec_from_file_location(name, repo_dir / 'examples' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_unet_of_segmentation_models_learns(repo_dir) -> None:
    pytest.importorskip('segmentation_models_pytorch')
    losses = load(repo_dir, 'segmentation_models').main('local_vmamba_micro', side=64)
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_a_model_of_transformers_takes_the_backbone(repo_dir) -> None:
    pytest.importorskip('transformers')
    assert load(repo_dir, 'transformers_backbone').main('local_vmamba_micro', side=64) == (1, 10, 16, 16)


def test_a_pyramid_for_other_detectors(repo_dir) -> None:
    shapes = load(repo_dir, 'detection_encoder').main('local_vmamba_micro', side=64)
    assert shapes == [(2, 256, 8, 8), (2, 256, 4, 4), (2, 256, 2, 2)]


def test_every_example_is_run_here(repo_dir) -> None:
    names = {path.stem for path in (repo_dir / 'examples').glob('*.py')}
    assert names == {'segmentation_models', 'transformers_backbone', 'detection_encoder'}
