"""Set-up: a pure Python package, plus the C++ scan as an optional extension where torch and a compiler are present.

Reads nothing but files of this folder, and needs no torch to run. ``MMLOCALMAMBA_BUILD_EXT=0`` skips the extension,
``MMLOCALMAMBA_BUILD_EXT=1`` makes a failed build an error instead of a notice.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
SOURCES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'mmlocalmamba/ops/csrc').glob('*.cpp'))
HEADERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'mmlocalmamba/ops/csrc').glob('*.h'))
HOW_TO = (
    'mmlocalmamba works without it, on the slower pure-PyTorch scan. To get it, install torch and a C++ compiler '
    '(Debian, Ubuntu: apt-get install g++; macOS: xcode-select --install) and run, in this folder: '
    'pip install -e . --no-build-isolation'
)


def notice(reason: str) -> None:
    """Say loudly that the extension is left out; pip shows it with -v, tools/doctor.py always tells."""
    line = '*' * 100
    print(
        f'{line}\nmmlocalmamba: the C++ scan (mmlocalmamba._C) is NOT built: {reason}\n{HOW_TO}\n{line}',
        file=sys.stderr,
    )


def read_version() -> str:
    """Return __version__ of mmlocalmamba/version.py without importing the package."""
    scope: dict[str, str] = {}
    exec((ROOT / 'mmlocalmamba/version.py').read_text(encoding='utf-8'), scope)
    return scope['__version__']


def read_requirements(name: str) -> list[str]:
    """Return the requirements of requirements/<name>.txt, comments and options left out."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in (line.split('#')[0].strip() for line in lines) if line and not line.startswith('-')]


def compile_arguments() -> tuple[list[str], list[str]]:
    """Return compiler and linker arguments.

    torch chooses the C++ standard; instructions beyond the baseline are picked by the kernel at run time.
    """
    import torch

    if sys.platform == 'win32':
        return ['/O2', '/openmp'], []
    compile_args = ['-O3', '-fvisibility=hidden']
    if sys.platform == 'darwin' or 'OpenMP' not in torch.__config__.parallel_info():
        return compile_args, []
    compile_args.append('-fopenmp')
    # A torch wheel brings its own OpenMP. Ours must be the same one, or torch.set_num_threads would not reach it.
    bundled = sorted((Path(torch.__file__).parent / 'lib').glob('libgomp*.so*'))
    return compile_args, [str(bundled[0])] if bundled else ['-fopenmp']


def extensions() -> list[Extension]:
    """Return the C++ extension, or nothing (with a notice) where it cannot be built."""
    if os.environ.get('MMLOCALMAMBA_BUILD_EXT') == '0' or not SOURCES:
        return []
    if find_spec('torch') is None:
        notice('torch is not importable here (an isolated build does not see it).')
        return []
    from torch.utils.cpp_extension import CppExtension

    compile_args, link_args = compile_arguments()
    return [
        CppExtension(
            'mmlocalmamba._C',
            SOURCES,
            depends=HEADERS,
            extra_compile_args={'cxx': compile_args},
            extra_link_args=link_args,
        )
    ]


def optional_build_ext() -> type[build_ext]:
    """Return torch's build_ext, made to leave out what fails to build unless MMLOCALMAMBA_BUILD_EXT=1."""
    from torch.utils.cpp_extension import BuildExtension

    class OptionalBuildExtension(BuildExtension):
        def run(self) -> None:
            try:
                super().run()
            except Exception as error:
                if os.environ.get('MMLOCALMAMBA_BUILD_EXT') == '1':
                    raise
                notice(f'{type(error).__name__}: {error}')
                self.extensions: list[Extension] = []

    return OptionalBuildExtension


EXTENSIONS = extensions()

setup(
    name='mmlocalmamba',
    version=read_version(),
    description='LocalMamba backbones (LocalVMamba, LocalVim) for MMDetection, MMSegmentation and MMEngine',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8') if (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='computer vision, object detection, semantic segmentation, state space models',
    packages=find_packages(include=['mmlocalmamba', 'mmlocalmamba.*']),
    package_data={'mmlocalmamba': ['**/*.json', 'ops/csrc/*']},
    python_requires='>=3.10',
    install_requires=read_requirements('runtime'),
    extras_require={name: read_requirements(name) for name in ('mminstall', 'openmmlab', 'optional', 'tests')},
    ext_modules=EXTENSIONS,
    cmdclass={'build_ext': optional_build_ext()} if EXTENSIONS else {},
    zip_safe=False,
)
