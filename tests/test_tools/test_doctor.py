import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmlocalmamba.ops.backends import BACKENDS


def test_reports_a_complete_installation(tool, capsys) -> None:
    assert tool('doctor').main() == 0

    report = capsys.readouterr().out
    assert 'Ready to train.' in report
    assert all(
        name in report
        for name in ('torch', 'mmengine', 'mmcv._ext', 'OpenCV', 'C++ compiler', 'kernel library', *BACKENDS)
    )


def library_module():
    return import_module('mmlocalmamba.ops.backends.cpu.library')


def test_tells_what_the_kernel_library_computes_with(tool) -> None:
    module = library_module()
    try:
        kernels = module.library()
    except module.MissingLibraryError:
        pytest.skip('the library is not built')
    findings = {finding.name.strip(): finding for finding in tool('doctor').check_library()}
    assert findings['kernel library'].text == str(kernels.path)
    assert findings['instructions'].text.startswith(kernels.instruction_sets()[0])
    assert findings['OpenMP'].text == kernels.runtime
    assert findings['threads'].text.startswith(f'{torch.get_num_threads()} ')
    assert not [finding for finding in findings.values() if finding.fix]


@pytest.mark.parametrize('compiler', [None, '/usr/bin/c++'])
def test_a_missing_library_is_slow_but_not_fatal(tool, monkeypatch, compiler) -> None:
    module, doctor = library_module(), tool('doctor')
    monkeypatch.setattr(module, 'library', lambda: module.load_library(Path('/nowhere/library.so'), Path('/nowhere')))
    monkeypatch.setattr(doctor, 'compiler', lambda: compiler)

    (finding,) = doctor.check_library()

    assert 'not built' in finding.text
    assert 'slow' in finding.text
    assert not finding.fatal
    assert finding.fix.startswith('pip install --no-deps' if compiler else 'apt-get install g++')
    assert finding.fix.endswith(f'{doctor.install_self()}')


def test_a_library_of_other_sources_is_fatal_and_has_a_remedy(tool, capsys, monkeypatch, tmp_path) -> None:
    module, doctor = library_module(), tool('doctor')
    broken = tmp_path / 'library.so'
    broken.write_text('no library')
    monkeypatch.setattr(module, 'library', lambda: module.load_library(broken, tmp_path))

    assert doctor.main() == 1

    report = capsys.readouterr().out
    assert f'! kernel library the kernel library {broken}' in report
    assert f'-> {doctor.install_self()}' in report


@pytest.mark.parametrize(
    ('package', 'line'),
    [
        ('{root}/mmlocalmamba/__init__.py', 'pip install --no-deps -e {root}'),
        ('/site-packages/mmlocalmamba/__init__.py', 'pip install --no-deps --force-reinstall {root}'),
        (None, 'pip install -e {root}'),
    ],
)
def test_advice_installs_the_way_it_is_installed(tool, monkeypatch, package, line) -> None:
    doctor = tool('doctor')
    spec = package and SimpleNamespace(origin=package.format(root=doctor.ROOT))
    monkeypatch.setattr(doctor, 'find_spec', lambda name: spec)
    assert doctor.install_self() == line.format(root=doctor.ROOT)


def test_advice_of_an_installed_copy_needs_no_source_tree(tool, monkeypatch, tmp_path) -> None:
    doctor = tool('doctor')
    monkeypatch.setattr(doctor, 'ROOT', tmp_path)
    monkeypatch.setattr(doctor, 'family', lambda: 'mminstall')
    monkeypatch.setattr(doctor, 'requires', lambda name: ['opencv-python-headless==4.12; extra == "mminstall"'])
    assert doctor.install_self() == 'pip install --no-deps --force-reinstall CHECKOUT  (a clone of mmlocalmamba)'
    assert doctor.install_mm() == "pip install 'mmlocalmamba[mminstall]'"
    assert doctor.install_cv2().endswith(' opencv-python-headless==4.12')


def test_missing_family_is_fatal_and_has_a_remedy(tool, capsys, monkeypatch) -> None:
    doctor = tool('doctor')
    monkeypatch.setattr(doctor, 'installed', lambda name: None)

    assert doctor.main() == 1

    report = capsys.readouterr().out
    assert '! mmdet' in report
    assert 'requirements/mminstall.txt' in report


@pytest.mark.parametrize(
    ('found', 'wanted'),
    [({'mmengine', 'mmcv-lite'}, 'openmmlab'), ({'onedl-mmengine'}, 'mminstall'), (set(), 'mminstall')],
)
def test_advice_keeps_to_the_family_that_is_installed(tool, monkeypatch, found, wanted) -> None:
    doctor = tool('doctor')
    monkeypatch.setattr(doctor, 'installed', lambda name: '1.0' if name in found else None)

    pins = Path(doctor.ROOT, f'requirements/{wanted}.txt').read_text()

    assert doctor.install_mm() == f'pip install -r {doctor.ROOT}/requirements/{wanted}.txt'
    assert doctor.install_cv2().split()[-1] in pins.split()


def test_both_families_at_once_are_fatal(tool, capsys, monkeypatch) -> None:
    doctor = tool('doctor')
    monkeypatch.setattr(doctor, 'installed', lambda name: '1.0')

    assert doctor.main() == 1

    assert 'they overwrite each other: pip uninstall -y onedl-mmdetection mmdet' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('module', 'remedy'),
    [('cv2', 'opencv-python-headless'), ('torch', 'pip install torch'), ('timm', 'pip install --force-reinstall timm')],
)
def test_what_cannot_be_imported_is_fatal(tool, capsys, monkeypatch, module: str, remedy: str) -> None:
    doctor = tool('doctor')
    monkeypatch.setitem(sys.modules, module, None)

    assert doctor.main() == 1

    assert remedy in capsys.readouterr().out


def test_a_missing_dependency_is_fatal_and_has_a_remedy(tool, capsys, monkeypatch) -> None:
    doctor = tool('doctor')
    monkeypatch.setattr(doctor, 'installed', lambda name, real=doctor.installed: None if name == 'timm' else real(name))

    assert doctor.main() == 1

    report = capsys.readouterr().out
    assert '! timm' in report
    assert '-> pip install timm' in report


def test_runs_as_a_command(repo_dir) -> None:
    done = subprocess.run([sys.executable, 'tools/doctor.py', '--help'], cwd=repo_dir, capture_output=True, text=True)
    assert done.returncode in (0, 1)
    assert 'mmlocalmamba' in done.stdout
