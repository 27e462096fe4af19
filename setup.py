"""What ``pyproject.toml`` cannot say: how the kernel library is built, the wheel's tag, and the contents of ``.mim``.

The library is plain C++17 with a C interface. It needs a compiler, but neither PyTorch nor Python's headers, so one
wheel per platform serves every Python and every PyTorch. ``MMLOCALMAMBA_BUILD_EXT=0`` leaves the library out,
``MMLOCALMAMBA_BUILD_EXT=1`` makes a failed build an error instead of a notice. ``CXX``, ``CXXFLAGS`` and ``LDFLAGS``
are obeyed, except by MSVC.
"""

from __future__ import annotations

import hashlib
import os
import platform
import runpy
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.errors import BaseError, CCompilerError, PlatformError

ROOT = Path(__file__).resolve().parent
PACKAGE = ROOT / 'mmlocalmamba'
CSRC = PACKAGE / 'ops/csrc'
NAMES = {'win32': 'mmlocalmamba.dll', 'darwin': 'libmmlocalmamba.dylib'}
LIBRARY = Path('ops/backends/cpu', NAMES.get(sys.platform, 'libmmlocalmamba.so'))
MIM = ('configs', 'tools')
HOW_TO = (
    'mmlocalmamba works without it, but on a CPU the scan, the convolutions, the norms and the merges then run as slow '
    'PyTorch code. To get it, install a C++ compiler (Debian, Ubuntu: apt-get install g++; macOS: xcode-select '
    '--install; Windows: the C++ build tools of Visual Studio) and repeat the installation with --force-reinstall '
    '--no-deps.'
)


def switch() -> str:
    """Return the setting of ``MMLOCALMAMBA_BUILD_EXT``: '0', '1', or '' if it is not set."""
    value = os.environ.get('MMLOCALMAMBA_BUILD_EXT', '')
    if value not in ('', '0', '1'):
        raise SystemExit(f'MMLOCALMAMBA_BUILD_EXT is {value!r}: set it to 0 or 1, or leave it unset')
    return value


def notice(reason: str) -> None:
    """Say loudly that the library is left out.

    pip shows what a build prints only with ``-v``, so a terminal, where there is one, is written to directly.
    """
    line = '*' * 100
    text = f'\n{line}\nmmlocalmamba: the C++ kernel library is NOT built: {reason}\n{HOW_TO}\n{line}\n'
    print(text, file=sys.stderr)
    with suppress(OSError), open('/dev/tty', 'w', encoding='utf-8') as terminal:
        terminal.write(text)


def cxx_compiler() -> Any:
    """Return distutils' compiler for C++: MSVC on Windows, elsewhere ``CXX`` or the first compiler on the path."""
    from distutils.ccompiler import new_compiler  # setuptools' own, also where Python has one

    compiler: Any = new_compiler()  # typeshed knows too little of it
    if compiler.compiler_type != 'unix':
        return compiler
    command = os.environ.get('CXX') or next(filter(shutil.which, ('c++', 'g++', 'clang++')), None)
    if command is None:
        raise PlatformError('there is no C++ compiler: c++, g++ and clang++ are not on the path, and CXX is not set.')
    link = '-dynamiclib' if sys.platform == 'darwin' else '-shared'
    for role in compiler.executables:
        if role.startswith('compiler'):
            compiler.set_executable(role, shlex.split(command))
        elif role.startswith('linker'):
            compiler.set_executable(role, [*shlex.split(command), link])
    return compiler


def flags(compiler: Any) -> tuple[list[str], list[str]]:
    """Return the flags to compile and to link with. The kernels choose instructions beyond the baseline at run time."""
    if compiler.compiler_type == 'msvc':
        return ['/O2', '/std:c++17', '/EHsc'], []
    own = ['-std=c++17', '-O3', '-fPIC', '-fvisibility=hidden']
    return own + shlex.split(os.environ.get('CXXFLAGS', '')), shlex.split(os.environ.get('LDFLAGS', ''))


def make_library(build_base: Path) -> Path:
    """Build the library, unless the one in the build folder is of these sources, this compiler and these flags.

    Args:
        build_base: The build folder, ``build`` by default.

    Returns:
        The library's path in the build folder.

    Raises:
        PlatformError: If there is no compiler.
        CompileError, LinkError: If it fails.
    """
    fingerprint = runpy.run_path(str(PACKAGE / LIBRARY.with_name('fingerprint.py')))['source_fingerprint'](CSRC)
    compiler = cxx_compiler()
    compile_flags, link_flags = flags(compiler)
    command = getattr(compiler, 'compiler_cxx', 'MSVC')
    identity = repr([fingerprint, platform.machine(), command, compile_flags, link_flags])
    folder = build_base / f'csrc-{hashlib.sha256(identity.encode()).hexdigest()[:16]}'
    library = folder / LIBRARY.name
    if library.is_file() and fingerprint.encode() in library.read_bytes():
        return library

    def compile_one(source: Path) -> str:
        macros = [('MMLOCALMAMBA_SOURCES', f'"{fingerprint}"')]
        (made,) = compiler.compile(
            [str(source.relative_to(ROOT))], output_dir=str(folder), macros=macros, extra_postargs=compile_flags
        )
        return made

    if compiler.compiler_type == 'msvc':
        compiler.initialize()  # finds the tools, which it must not do in several threads at once
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sorted(CSRC.glob('*.cpp'))))
    unfinished = folder / f'unfinished-{LIBRARY.name}'
    compiler.link_shared_object(objects, str(unfinished), extra_postargs=link_flags)
    os.replace(unfinished, library)
    return library


class KernelDistribution(Distribution):
    """A distribution that is of one platform if it holds the library, and of any if not."""

    has_library = switch() != '0'

    def has_ext_modules(self) -> bool:
        """Tell whether it is of one platform."""
        return self.has_library


class PackageFiles(Command):
    """What both commands below share: files that come into the package from elsewhere.

    An editable installation (``editable_mode``, set by setuptools) finds them in the source tree, a wheel in the build.
    """

    user_options: list[tuple[str, str | None, str]] = []  # noqa: RUF012  setuptools wants it
    editable_mode = False

    def initialize_options(self) -> None:
        """Set what setuptools fills in."""
        self.build_lib: Any = None
        self.build_base: Any = None

    def finalize_options(self) -> None:
        """Take the folders of ``build``."""
        self.set_undefined_options('build', ('build_lib', 'build_lib'), ('build_base', 'build_base'))

    def package(self) -> Path:
        """Return the package's folder that the files go to."""
        return PACKAGE if self.editable_mode else Path(self.build_lib, PACKAGE.name)

    def files(self) -> dict[Path, Path]:
        """Return the files: where each is in the package -> where it is in the source tree."""
        raise NotImplementedError

    def get_outputs(self) -> list[str]:
        """List the files as a wheel has them; for setuptools."""
        return [str(Path(self.build_lib, PACKAGE.name, inside)) for inside in self.files()]

    def get_output_mapping(self) -> dict[str, str]:
        """Say where an editable installation has them in the source tree; for setuptools."""
        return dict(zip(self.get_outputs(), map(str, self.files().values()), strict=True)) if self.editable_mode else {}


class BuildLibrary(PackageFiles):
    """Builds the kernel library, or leaves it out with a notice."""

    description = 'build the C++ kernel library'

    def files(self) -> dict[Path, Path]:
        """Return the library, if it is there."""
        return {LIBRARY: PACKAGE / LIBRARY} if self.distribution.has_library else {}

    def run(self) -> None:
        """Put the library into the package. Where it is left out, an old one goes too."""
        target = self.package() / LIBRARY
        target.unlink(missing_ok=True)
        if switch() == '0':
            return
        try:
            library = make_library(Path(self.build_base))
        except (BaseError, CCompilerError) as error:
            if switch() == '1':
                raise
            self.distribution.has_library = False
            notice(str(error))
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, target)


class BuildMim(PackageFiles):
    """Puts configs, tools and the model index where MMEngine and MIM look for them: ``mmlocalmamba/.mim``."""

    description = 'put configs, tools and the model index into the package'

    def files(self) -> dict[Path, Path]:
        """Return all files; what tools/benchmark measures, it measures in a source tree."""
        found = [path for kind in ('*.py', '*.sh', '*.yml') for top in MIM for path in (ROOT / top).rglob(kind)]
        kept = [path for path in found if not path.is_relative_to(ROOT / 'tools/benchmark')]
        return {Path('.mim', path.relative_to(ROOT)): path for path in [*kept, ROOT / 'model-index.yml']}

    def run(self) -> None:
        """Link them in the source tree, copy them into a wheel or where links cannot be made."""
        folder = self.package() / '.mim'
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if self.editable_mode:
            with suppress(OSError):  # Windows wants a privilege for links
                for name in (*MIM, 'model-index.yml'):
                    (folder / name).symlink_to(Path('../..', name), target_is_directory=name in MIM)
                return
        for inside, source in self.files().items():
            target = self.package() / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


class Build(build):
    """``build`` with both commands, in an emptied folder: setuptools would pack files that were deleted since."""

    sub_commands = [*build.sub_commands, ('build_library', None), ('build_mim', None)]  # noqa: RUF012

    def run(self) -> None:
        """Build."""
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BdistWheel(bdist_wheel):
    """Tags the wheel ``py3-none-<platform>`` if it holds the library, else ``py3-none-any``."""

    def run(self) -> None:
        """Build first: only then it is known whether there is a library."""
        self.run_command('build')
        self.root_is_pure = not self.distribution.has_library
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tag. The library is of this machine's processor, also where Python is of several (macOS)."""
        tag = super().get_tag()
        return tag if self.root_is_pure else ('py3', 'none', tag[-1].replace('universal2', platform.machine()))


setup(
    distclass=KernelDistribution,
    cmdclass={'build': Build, 'build_library': BuildLibrary, 'build_mim': BuildMim, 'bdist_wheel': BdistWheel},
)
