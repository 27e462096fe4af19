import os
import subprocess
import sys
import tarfile
from pathlib import Path

FOLDERS = ('configs', 'docs', 'mmlocalmamba', 'requirements', 'tests', 'tools')


def test_source_distribution_is_complete(repo_dir, tmp_path) -> None:
    command = [sys.executable, 'setup.py', '-q', 'egg_info', '--egg-base', tmp_path, 'sdist', '--dist-dir', tmp_path]
    env = {**os.environ, 'MMLOCALMAMBA_BUILD_EXT': '0'}
    subprocess.run(command, cwd=repo_dir, env=env, check=True, capture_output=True)

    (archive,) = tmp_path.glob('mmlocalmamba-*.tar.gz')
    with tarfile.open(archive) as content:
        found = {Path(*Path(name).parts[1:]) for name in content.getnames()}
    wanted = {
        path.relative_to(repo_dir)
        for folder in FOLDERS
        for path in (repo_dir / folder).rglob('*')
        if path.is_file() and path.suffix not in ('.pyc', '.so') and not path.name.startswith('.')
    }
    assert wanted <= found
    assert {Path('setup.py'), Path('pyproject.toml'), Path('LICENSE'), Path('Makefile')} <= found
    assert not [path for path in found if path.suffix in ('.pyc', '.so')]
