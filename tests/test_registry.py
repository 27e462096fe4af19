import subprocess
import sys
from importlib import import_module

import pytest
from mmengine.registry import Registry

from mmlocalmamba import registry
from mmlocalmamba.compat.versions import check_versions
from mmlocalmamba.version import SUPPORTED

REGISTRIES = [name for name, value in vars(registry).items() if isinstance(value, Registry) and 'MMENGINE' not in name]
OFFERED = {
    'MODELS': [
        'LocalVMamba',
        'LocalVim',
        'SimpleFPN',
        'LN2d',
        'ImageClassifier',
        'ClassificationHead',
        'ClassificationDataPreprocessor',
        'WarmupEMA',
    ],
    'HOOKS': ['NonFiniteHook', 'IterationSeedHook', 'DirectionSearchHook'],
    'OPTIM_WRAPPERS': ['CpuAmpOptimWrapper'],
    'OPTIM_WRAPPER_CONSTRUCTORS': ['LayerDecayOptimWrapperConstructor'],
    'DATASETS': ['ImageFolder', 'DirectionTextures'],
    'TRANSFORMS': ['TimmTransform'],
    'METRICS': ['TopKAccuracy'],
}
"""What configs may name, by registry."""


@pytest.mark.parametrize('name', REGISTRIES)
def test_locations_can_be_imported(name: str) -> None:
    locations = getattr(registry, name)._locations
    assert locations
    for location in locations:
        import_module(location)


def test_every_registry_offers_something() -> None:
    assert set(REGISTRIES) == set(OFFERED)


def test_all_resolve_from_another_folder_with_nothing_imported(tmp_path) -> None:
    code = f"""
import mmengine.registry
for name, modules in {OFFERED!r}.items():
    for module in modules:
        found = getattr(mmengine.registry, name).get('mmlocalmamba.' + module)
        print(module, found is not None and found.__module__.startswith('mmlocalmamba.'))
"""
    done = subprocess.run(
        [sys.executable, '-c', f'import sys; sys.path.append({registry.__file__.rsplit("/", 2)[0]!r})\n{code}'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    resolved = [line.split() for line in done.stdout.splitlines() if line.endswith(('True', 'False'))]
    assert resolved == [[module, 'True'] for modules in OFFERED.values() for module in modules]


def test_installed_versions_are_supported() -> None:
    check_versions(SUPPORTED)


@pytest.mark.parametrize('limits', [('0.1', '0.2'), ('999', '1000')])
def test_other_versions_are_refused_with_the_range(limits: tuple[str, str]) -> None:
    with pytest.raises(ImportError, match=f'torch>={limits[0]},<{limits[1]}'):
        check_versions({('torch',): limits})


def test_what_is_not_installed_is_no_error() -> None:
    check_versions({('no-such-distribution',): ('1', '2')})
