import subprocess
import sys
from pathlib import Path

import pytest

from mmlocalmamba.compat.__main__ import main
from mmlocalmamba.compat.startup import MODULE, disable, enable, files, is_enabled

# `site.addsitedir` does for a temporary folder what Python does for site-packages at its start. What this environment
# itself may have enabled is taken out before.
START = """
import sys, site
sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, '__name__', '') != 'MmcvExtFinder']
sys.modules.pop({module!r}, None)
sys.path.insert(0, {folder!r})
sys.path.append({root!r})
site.addsitedir({folder!r})
"""


def run(code: str, folder: Path, root: Path, cwd: Path) -> subprocess.CompletedProcess:
    start = START.format(root=str(root), folder=str(folder), module=MODULE)
    return subprocess.run([sys.executable, '-c', start + code], capture_output=True, text=True, cwd=cwd)


def test_plain_mmdet_works_when_enabled(tmp_path, repo_dir) -> None:
    enable(tmp_path)

    done = run("from mmdet.apis import DetInferencer; print('ok')", tmp_path, repo_dir, tmp_path)

    assert done.stdout.strip().endswith('ok'), done.stderr


def test_nothing_is_found_when_not_enabled(tmp_path, repo_dir) -> None:
    done = run("import importlib.util; print(importlib.util.find_spec('mmcv._ext'))", tmp_path, repo_dir, tmp_path)

    assert done.stdout.strip() == 'None' or 'mmcv/_ext' in done.stdout, done.stderr


def test_start_up_imports_neither_torch_nor_the_package(tmp_path, repo_dir) -> None:
    enable(tmp_path)

    done = run("print('torch' in sys.modules, 'mmlocalmamba' in sys.modules)", tmp_path, repo_dir, tmp_path)

    assert done.stdout.split() == ['False', 'False'], done.stderr


def test_switched_off_it_finds_nothing(tmp_path, repo_dir, monkeypatch) -> None:
    enable(tmp_path)
    monkeypatch.setenv('MMLOCALMAMBA_MMCV_EXT', '0')

    done = run("import importlib.util; print(importlib.util.find_spec('mmcv._ext'))", tmp_path, repo_dir, tmp_path)

    assert done.stdout.strip() == 'None', done.stderr


def test_harmless_when_the_package_is_gone(tmp_path) -> None:
    enable(tmp_path)
    pytest.importorskip('mmcv')

    done = run(
        "sys.modules['mmlocalmamba'] = None\nimport importlib.util; print(importlib.util.find_spec('mmcv._ext'))",
        tmp_path,
        tmp_path,
        tmp_path,
    )

    assert done.stdout.strip() == 'None', done.stderr


def test_disable_removes_everything(tmp_path) -> None:
    enable(tmp_path)
    assert all(path.is_file() for path in files(tmp_path))

    assert disable(tmp_path)

    assert list(tmp_path.iterdir()) == []
    assert not disable(tmp_path)


def test_command_line(tmp_path, capsys) -> None:
    assert main(['status', '--site-dir', str(tmp_path)]) == 1
    assert main(['enable', '--site-dir', str(tmp_path)]) == 0
    assert is_enabled(tmp_path)
    assert main(['status', '--site-dir', str(tmp_path)]) == 0
    assert main(['disable', '--site-dir', str(tmp_path)]) == 0
    assert not is_enabled(tmp_path)
    assert 'not enabled' in capsys.readouterr().out


def test_unknown_command_is_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        main(['install'])
    assert 'invalid choice' in capsys.readouterr().err
