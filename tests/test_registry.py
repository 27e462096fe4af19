import subprocess
import sys
from importlib import import_module

import pytest

from mmlocalmamba import registry
from mmlocalmamba.compat.versions import check_versions
from mmlocalmamba.version import SUPPORTED

REGISTRIES = ['MODELS', 'HOOKS', 'OPTIM_WRAPPER_CONSTRUCTORS', 'DATASETS', 'TRANSFORMS']


@pytest.mark.parametrize('name', REGISTRIES)
def test_locations_can_be_imported(name: str) -> None:
    locations = getattr(registry, name)._locations
    assert locations
    for location in locations:
        import_module(location)


def test_resolves_from_another_folder_with_nothing_imported(tmp_path) -> None:
    code = """
from mmengine.registry import HOOKS
print(HOOKS.build({'type': 'mmlocalmamba.NonFiniteHook'}).interval)
"""
    done = subprocess.run(
        [sys.executable, '-c', f'import sys; sys.path.append({registry.__file__.rsplit("/", 2)[0]!r})\n{code}'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == '1', done.stderr


def test_installed_versions_are_supported() -> None:
    check_versions(SUPPORTED)


@pytest.mark.parametrize('limits', [('0.1', '0.2'), ('999', '1000')])
def test_other_versions_are_refused_with_the_range(limits: tuple[str, str]) -> None:
    with pytest.raises(ImportError, match=f'torch>={limits[0]},<{limits[1]}'):
        check_versions({('torch',): limits})


def test_what_is_not_installed_is_no_error() -> None:
    check_versions({('no-such-distribution',): ('1', '2')})
