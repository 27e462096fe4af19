"""What the wheel, the source distribution and an editable installation hold, and when the library is compiled.

The builds take place in copies of the source tree, most of them with a C++ source of two functions in place of ours.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('configs', 'docs', 'mmlocalmamba', 'requirements', 'tests', 'tools')
FILES = ('LICENSE', 'MANIFEST.in', 'README.md', 'model-index.yml', 'pyproject.toml', 'setup.py')
LIBRARY = {'darwin': 'libmmlocalmamba.dylib', 'win32': 'mmlocalmamba.dll'}.get(sys.platform, 'libmmlocalmamba.so')
LIBRARY = f'mmlocalmamba/ops/backends/cpu/{LIBRARY}'
HEADER = 'int two();\n'
SOURCES = {
    'two.h': HEADER,
    'two.cpp': '#include "two.h"\nint two() { return 2; }\n',
    'interface.cpp': """#include "two.h"
#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT int small_four() { return two() + two(); }
EXPORT const char* small_sources() { return MMLOCALMAMBA_SOURCES; }
""",
}
NOTICE = 'the C++ kernel library is NOT built'

needs_compiler = pytest.mark.skipif(not shutil.which('c++'), reason='no C++ compiler')


def copy_source_tree(target: Path) -> Path:
    """Copy what a build reads, with a small C++ library in place of ours."""
    leave_out = shutil.ignore_patterns('__pycache__', '*.so', '*.dylib', '*.dll', '.mim', 'csrc')
    for name in ('configs', 'mmlocalmamba', 'requirements', 'tools'):
        shutil.copytree(ROOT / name, target / name, ignore=leave_out)
    for name in FILES:
        shutil.copy(ROOT / name, target)
    csrc = target / 'mmlocalmamba/ops/csrc'
    csrc.mkdir()
    for name, text in SOURCES.items():
        (csrc / name).write_text(text)
    return target


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return copy_source_tree(tmp_path / 'source')


def run(*command: str | Path, **settings) -> str:
    """Run a command that must succeed; returns its output. It has no terminal to write to."""
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def pip_wheel(source: Path, out: Path, **environment: str) -> tuple[Path, str]:
    """Build a wheel of a source tree or archive; returns its path and what the build printed."""
    command = [sys.executable, '-m', 'pip', 'wheel', '-v', '--no-deps', '--no-build-isolation', '-w', out, source]
    text = run(*command, env={**os.environ, **environment}, cwd=out.parent)
    (wheel,) = out.glob('*.whl')
    return wheel, text


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as content:
        return set(content.namelist())


def fingerprint(source: Path) -> bytes:
    scope: dict = {}
    exec((source / 'mmlocalmamba/ops/backends/cpu/fingerprint.py').read_text(), scope)
    return scope['source_fingerprint'](source / 'mmlocalmamba/ops/csrc').encode()


@pytest.fixture(scope='module')
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The source tree of a wheel, and the wheel."""
    folder = tmp_path_factory.mktemp('built')
    source = copy_source_tree(folder / 'source')
    return source, pip_wheel(source, folder / 'out')[0]


@pytest.fixture(scope='module')
def installed(built, tmp_path_factory) -> Path:
    """A folder that the wheel is installed in."""
    target = tmp_path_factory.mktemp('installed')
    run(sys.executable, '-m', 'pip', 'install', '--no-deps', '--target', target, built[1])
    return target


@pytest.fixture
def counting_compiler(tmp_path, monkeypatch):
    """Make CXX a compiler that is counted; returns a function that tells how often it compiled since it was asked."""
    log, script = tmp_path / 'calls', tmp_path / 'counted-c++'
    script.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec c++ "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv('CXX', str(script))

    def count() -> int:
        calls = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return sum(' -c ' in call for call in calls)

    return count


@pytest.mark.slow
@needs_compiler
def test_the_wheel_is_of_one_platform_and_of_every_python(built) -> None:
    source, wheel = built
    platform = re.sub(r'[-.]', '_', sysconfig.get_platform())
    assert wheel.name.endswith(f'-py3-none-{platform}.whl')
    with zipfile.ZipFile(wheel) as content:
        assert fingerprint(source) in content.read(LIBRARY)
        (name,) = [name for name in content.namelist() if name.endswith('.dist-info/WHEEL')]
        assert 'Root-Is-Purelib: false' in content.read(name).decode()


@pytest.mark.slow
def test_the_wheel_holds_the_package_configs_and_tools_and_no_more(built) -> None:
    found = names(built[1])
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / 'mmlocalmamba').rglob('*.py')}
    data = {str(path.relative_to(ROOT)) for path in (ROOT / 'mmlocalmamba').rglob('*.json')}
    mim = [
        path
        for top, kind in (('configs', '*.py'), ('configs', '*.yml'), ('tools', '*.*'))
        for path in (ROOT / top).rglob(kind)
        if path.suffix != '.pyc' and 'benchmark' not in path.parts[:-1]
    ]
    mim.append(ROOT / 'model-index.yml')
    wanted = modules | data | {f'mmlocalmamba/.mim/{path.relative_to(ROOT)}' for path in mim}
    wanted = {name for name in wanted if not name.startswith('mmlocalmamba/.mim/mmlocalmamba')}
    assert found - {LIBRARY} == wanted | {name for name in found if '.dist-info/' in name}


@pytest.mark.slow
def test_the_metadata_are_complete(built) -> None:
    with zipfile.ZipFile(built[1]) as content:
        (name,) = [name for name in content.namelist() if name.endswith('.dist-info/METADATA')]
        data = Parser().parsestr(content.read(name).decode())
    scope: dict = {}
    exec((ROOT / 'mmlocalmamba/version.py').read_text(), scope)
    assert (data['Name'], data['Version']) == ('mmlocalmamba', scope['__version__'])
    assert (data['License-Expression'], data['Requires-Python']) == ('Apache-2.0', '>=3.10')
    assert data['Author'] == 'mmlocalmamba contributors'
    assert data['Description-Content-Type'] == 'text/markdown'
    assert data.get_payload().startswith('# mmlocalmamba')
    assert data['Keywords']
    assert data['Summary']
    required = [line for line in data.get_all('Requires-Dist') if 'extra ==' not in line]
    assert required == (ROOT / 'requirements/runtime.txt').read_text().split()
    assert set(data.get_all('Provides-Extra')) == {'mminstall', 'openmmlab', 'optional', 'tests'}
    assert any(line.startswith('mmcv-lite==2.1.0; extra') for line in data.get_all('Requires-Dist'))


@pytest.mark.slow
@needs_compiler
def test_only_changed_sources_are_compiled_again(source, tmp_path, counting_compiler) -> None:
    pip_wheel(source, tmp_path / 'first')
    assert counting_compiler() == 2
    wheel, _ = pip_wheel(source, tmp_path / 'second')
    assert counting_compiler() == 0
    assert LIBRARY in names(wheel)

    (source / 'mmlocalmamba/ops/csrc/two.h').write_text(f'// changed\n{HEADER}')
    wheel, _ = pip_wheel(source, tmp_path / 'third')
    assert counting_compiler() == 2
    with zipfile.ZipFile(wheel) as content:
        assert fingerprint(source) in content.read(LIBRARY)

    pip_wheel(source, tmp_path / 'fourth', CXXFLAGS='-O1')
    assert counting_compiler() == 2


@pytest.mark.slow
@needs_compiler
def test_a_damaged_library_is_not_taken_from_the_build_folder(source, tmp_path, counting_compiler) -> None:
    pip_wheel(source, tmp_path / 'first')
    counting_compiler()
    (made,) = (source / 'build').glob('csrc-*/*mmlocalmamba*.*')
    made.write_bytes(made.read_bytes()[:1000])

    wheel, _ = pip_wheel(source, tmp_path / 'second')

    assert counting_compiler() == 2
    with zipfile.ZipFile(wheel) as content:
        assert fingerprint(source) in content.read(LIBRARY)


@pytest.mark.slow
def test_a_module_that_was_deleted_is_not_in_the_next_wheel(source, tmp_path) -> None:
    (source / 'mmlocalmamba/of_yesterday.py').touch()
    first, _ = pip_wheel(source, tmp_path / 'first', MMLOCALMAMBA_BUILD_EXT='0')
    (source / 'mmlocalmamba/of_yesterday.py').unlink()
    second, _ = pip_wheel(source, tmp_path / 'second', MMLOCALMAMBA_BUILD_EXT='0')
    assert names(first) - names(second) == {'mmlocalmamba/of_yesterday.py'}


@pytest.mark.slow
@pytest.mark.parametrize('environment', [{'CXX': 'false'}, {'PATH': '/no/such/folder', 'CXX': ''}], ids=['CXX', 'PATH'])
def test_without_a_compiler_the_wheel_is_pure_and_the_build_says_so(source, tmp_path, environment) -> None:
    wheel, text = pip_wheel(source, tmp_path / 'out', **environment)
    assert wheel.name.endswith('-py3-none-any.whl')
    assert LIBRARY not in names(wheel)
    assert 'mmlocalmamba/.mim/model-index.yml' in names(wheel)
    assert NOTICE in text
    assert 'apt-get install g++' in text

    with pytest.raises(AssertionError, match=r'no C\+\+ compiler|non-zero exit status|failed with exit code'):
        pip_wheel(source, tmp_path / 'out', **environment, MMLOCALMAMBA_BUILD_EXT='1')


@pytest.mark.slow
@needs_compiler
def test_a_source_that_does_not_compile_is_an_error_on_request(source, tmp_path) -> None:
    (source / 'mmlocalmamba/ops/csrc/two.cpp').write_text('int two() { return nothing; }\n')
    wheel, text = pip_wheel(source, tmp_path / 'out')
    assert wheel.name.endswith('-py3-none-any.whl')
    assert NOTICE in text
    with pytest.raises(AssertionError, match='nothing'):
        pip_wheel(source, tmp_path / 'out', MMLOCALMAMBA_BUILD_EXT='1')


@pytest.mark.slow
def test_the_library_is_left_out_on_request(source, tmp_path) -> None:
    wheel, text = pip_wheel(source, tmp_path / 'out', MMLOCALMAMBA_BUILD_EXT='0')
    assert wheel.name.endswith('-py3-none-any.whl')
    assert LIBRARY not in names(wheel)
    assert NOTICE not in text
    with pytest.raises(AssertionError, match="MMLOCALMAMBA_BUILD_EXT is 'no': set it to 0 or 1"):
        pip_wheel(source, tmp_path / 'out', MMLOCALMAMBA_BUILD_EXT='no')


def build(kind: str, source: Path, out: Path, **environment: str) -> Path:
    """Build with a hook of setuptools' back end: 'sdist' or 'editable'."""
    out.mkdir()
    code = f'import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])'
    run(sys.executable, '-c', code, out, cwd=source, env={**os.environ, **environment})
    (archive,) = out.iterdir()
    return archive


@pytest.mark.slow
@needs_compiler
def test_a_wheel_can_be_built_from_the_source_distribution(source, tmp_path) -> None:
    archive = build('sdist', source, tmp_path / 'sdist', MMLOCALMAMBA_BUILD_EXT='0')
    with tarfile.open(archive) as content:
        found = {Path(*Path(name).parts[1:]).as_posix() for name in content.getnames()}
    assert {f'mmlocalmamba/ops/csrc/{name}' for name in SOURCES} <= found

    wheel, _ = pip_wheel(archive, tmp_path / 'out', MMLOCALMAMBA_BUILD_EXT='1')
    with zipfile.ZipFile(wheel) as content:
        assert fingerprint(source) in content.read(LIBRARY)
        assert 'mmlocalmamba/.mim/configs/metafile.yml' in content.namelist()


def test_source_distribution_is_complete(tmp_path) -> None:
    command = [sys.executable, 'setup.py', '-q', 'egg_info', '--egg-base', tmp_path, 'sdist', '--dist-dir', tmp_path]
    run(*command, cwd=ROOT, env={**os.environ, 'MMLOCALMAMBA_BUILD_EXT': '0'})

    (archive,) = tmp_path.glob('mmlocalmamba-*.tar.gz')
    with tarfile.open(archive) as content:
        found = {Path(*Path(name).parts[1:]) for name in content.getnames()}
    made = ('.pyc', '.so', '.dylib', '.dll')
    wanted = {
        path.relative_to(ROOT)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and path.suffix not in made and not path.name.startswith('.') and '.mim' not in path.parts
    }
    assert wanted <= found
    assert {Path(name) for name in (*FILES, 'Makefile')} - {Path('MANIFEST.in')} <= found
    assert not [path for path in found if path.suffix in made or '.mim' in path.parts]


@pytest.mark.slow
@needs_compiler
def test_an_editable_installation_has_library_and_configs_in_the_source_tree(source, tmp_path) -> None:
    build('editable', source, tmp_path / 'first')
    assert fingerprint(source) in (source / LIBRARY).read_bytes()
    for name in ('configs', 'tools', 'model-index.yml'):
        link = source / 'mmlocalmamba/.mim' / name
        assert link.is_symlink()
        assert link.resolve() == source / name

    build('editable', source, tmp_path / 'again', MMLOCALMAMBA_BUILD_EXT='0')
    assert not (source / LIBRARY).exists()
    assert (source / 'mmlocalmamba/.mim/configs/metafile.yml').is_file()


@pytest.mark.slow
def test_an_editable_installation_copies_where_it_cannot_link(source, tmp_path) -> None:
    code = (
        'import os, sys\n'
        'def refuse(*args, **kwargs): raise OSError("no privilege")\n'
        'os.symlink = refuse\n'
        'from setuptools import build_meta\n'
        'build_meta.build_editable(sys.argv[1])\n'
    )
    run(sys.executable, '-c', code, tmp_path, cwd=source, env={**os.environ, 'MMLOCALMAMBA_BUILD_EXT': '0'})
    mim = source / 'mmlocalmamba/.mim'
    assert not any(path.is_symlink() for path in mim.rglob('*'))
    assert (mim / 'configs/metafile.yml').is_file()
    assert (mim / 'tools/train.py').is_file()
    assert (mim / 'model-index.yml').is_file()


INHERIT = """
{first}
import mmlocalmamba
from mmengine.config import Config
from mmengine.hub import get_config

cfg = Config.fromfile('mine.py')
assert mmlocalmamba.__file__.startswith({target!r}), mmlocalmamba.__file__
assert cfg.model.backbone == dict(type='mmlocalmamba.LocalVMamba', arch='tiny', drop_path_rate=0.3, padding='skip')
assert cfg.default_scope == 'mmdet'
assert '_scope_' not in cfg.model  # MaskRCNN is mmdet's
shipped = get_config('mmlocalmamba::mask_rcnn_localvmamba_t_1x.py')
assert shipped.filename.startswith({target!r}), shipped.filename
assert shipped.model.backbone.type == 'mmlocalmamba.LocalVMamba'
assert get_config('mmlocalmamba::imagenet/local_vim_t.py', pretrained=True).model_path.endswith('/local_vim_tiny.ckpt')
assert get_config('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py').model.type == 'MaskRCNN'
"""


@pytest.mark.slow
@pytest.mark.parametrize('first', ['', 'import mmengine.hub'], ids=['before mmengine', 'after mmengine'])
def test_a_config_of_the_wheel_is_a_base_and_is_found_by_the_hub(installed, tmp_path, first) -> None:
    (tmp_path / 'mine.py').write_text(
        "_base_ = ['mmlocalmamba::mask_rcnn_localvmamba_t_1x.py']\nmodel = dict(backbone=dict(drop_path_rate=0.3))\n"
    )
    code = INHERIT.format(first=first, target=str(installed))
    run(sys.executable, '-c', code, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(installed)})


def other_python() -> str | None:
    """Return an interpreter of another version that the package supports, of the path or of pyenv."""
    folders = [*os.get_exec_path(), *Path.home().glob('.pyenv/versions/*/bin')]
    own = f'python3.{sys.version_info.minor}'
    for python in (path for folder in folders for path in Path(folder).glob('python3.??') if path.name != own):
        if subprocess.run([python, '-c', ''], capture_output=True).returncode == 0:
            return str(python)
    return None


LOAD = """
import ctypes, sys
import mmlocalmamba
library = ctypes.CDLL(sys.argv[1])
library.small_sources.restype = ctypes.c_char_p
print(mmlocalmamba.__version__, library.small_four(), library.small_sources().decode())
"""


@pytest.mark.slow
@needs_compiler
def test_the_wheel_serves_another_python(built, installed) -> None:
    python = other_python()
    if python is None:
        pytest.skip('no other Python >= 3.10 on this machine')
    env = {'PATH': os.environ['PATH'], 'HOME': os.environ.get('HOME', ''), 'PYTHONPATH': str(installed)}
    text = run(python, '-c', LOAD, installed / LIBRARY, env=env, cwd=installed.parent)
    assert text.split()[1:] == ['4', fingerprint(built[0]).decode()]
