import subprocess
import sys
from pathlib import Path

import pytest

from mmlocalmamba.ops.backends import BACKENDS


def test_reports_a_complete_installation(tool, capsys) -> None:
    assert tool('doctor').main() == 0

    report = capsys.readouterr().out
    assert 'Ready to train.' in report
    assert all(name in report for name in ('torch', 'mmengine', 'mmcv._ext', 'OpenCV', 'C++ compiler', *BACKENDS))


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


@pytest.mark.parametrize(('module', 'remedy'), [('cv2', 'opencv-python-headless'), ('torch', 'pip install torch')])
def test_what_cannot_be_imported_is_fatal(tool, capsys, monkeypatch, module: str, remedy: str) -> None:
    doctor = tool('doctor')
    monkeypatch.setitem(sys.modules, module, None)

    assert doctor.main() == 1

    assert remedy in capsys.readouterr().out


def test_runs_as_a_command(repo_dir) -> None:
    done = subprocess.run([sys.executable, 'tools/doctor.py', '--help'], cwd=repo_dir, capture_output=True, text=True)
    assert done.returncode in (0, 1)
    assert 'mmlocalmamba' in done.stdout
