"""Say what is installed, what is missing, and the line that installs it: ``python tools/doctor.py``.

Ends with status 1 if something is missing or broken that training needs, else with 0.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
"""A source tree, or the folder .mim of an installed package."""
INSTALL_TORCH = 'pip install torch torchvision'
INSTALL_COMPILER = 'apt-get install g++ (macOS: xcode-select --install; Windows: the C++ build tools of Visual Studio)'
DEPENDENCIES = {'numpy': 'numpy', 'PIL': 'pillow', 'timm': 'timm'}
"""Modules that the package imports, and the distributions that bring them."""
FAMILIES = {
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
}


class Finding(NamedTuple):
    """One line of the report; ``fix`` says what to do about it, ``fatal`` that training will not run."""

    name: str
    text: str
    fix: str | None = None
    fatal: bool = False


def installed(name: str) -> str | None:
    """Return a distribution's version, None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def install_self() -> str:
    """Return the line that installs this package from its sources, again if it is installed."""
    source = ROOT if (ROOT / 'setup.py').is_file() else 'CHECKOUT  (a clone of mmlocalmamba)'
    package = find_spec('mmlocalmamba')
    if package is None:
        return f'pip install -e {source}'
    in_place = ROOT in Path(package.origin or '').parents and (ROOT / 'setup.py').is_file()
    return f'pip install --no-deps {"-e" if in_place else "--force-reinstall"} {source}'


def family() -> str:
    """Return the name of the list of mm packages to install: OpenMMLab's if only those are here, else OneDL's forks."""
    forks = any(installed(fork) for fork, *_ in FAMILIES.values())
    originals = any(installed(name) for _, *names in FAMILIES.values() for name in names)
    return 'openmmlab' if originals and not forks else 'mminstall'


def install_mm() -> str:
    """Return the line that installs the mm packages."""
    file = ROOT / 'requirements' / f'{family()}.txt'
    return f'pip install -r {file}' if file.is_file() else f"pip install 'mmlocalmamba[{family()}]'"


def install_cv2() -> str:
    """Return the line that puts the OpenCV without libGL over the other one."""
    file = ROOT / 'requirements' / f'{family()}.txt'
    if file.is_file():
        lines = file.read_text(encoding='utf-8').splitlines()
    else:
        lines = [line for line in requires('mmlocalmamba') or [] if line.endswith(f'extra == "{family()}"')]
    headless = next(line.split(';')[0] for line in lines if line.startswith('opencv-python-headless'))
    return f'pip install --force-reinstall --no-deps {headless}'


def check_python() -> Iterator[Finding]:
    """Report the interpreter and the machine."""
    yield Finding('Python', f'{platform.python_version()} ({sys.executable})')
    yield Finding('system', f'{platform.system()} {platform.machine()}')


def check_torch() -> Iterator[Finding]:
    """Report PyTorch, its devices, and the compiler."""
    try:
        import torch
    except ImportError as error:
        yield Finding('torch', str(error), INSTALL_TORCH, fatal=True)
        return
    yield Finding('torch', f'{torch.__version__}, {torch.get_num_threads()} threads')
    try:
        import torchvision
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        yield Finding('torchvision', torchvision.__version__)
    except (ImportError, RuntimeError) as error:  # built for another torch
        yield Finding('torchvision', str(error), INSTALL_TORCH, fatal=True)
    if torch.cuda.is_available():
        yield Finding('CUDA', f'{torch.version.cuda}, {torch.cuda.device_count()} x {torch.cuda.get_device_name()}')
    else:
        yield Finding('CUDA', f'no GPU seen (torch was built for CUDA {torch.version.cuda or "none"})')


def compiler() -> str | None:
    """Return the C++ compiler that setup.py would take."""
    return os.environ.get('CXX') or next(filter(None, map(shutil.which, ('c++', 'g++', 'clang++', 'cl'))), None)


def check_compiler() -> Iterator[Finding]:
    """Report the compilers that build the kernel library and CUDA operators."""
    found = compiler()
    advice = f'optional, builds the fast kernels for the CPU: {INSTALL_COMPILER}'
    yield Finding('C++ compiler', found or 'none', None if found else advice)
    yield Finding('nvcc', shutil.which('nvcc') or 'none')


def check_library() -> Iterator[Finding]:
    """Report the kernel library for the CPU: whether it is built and fits, and what it computes with."""
    import torch

    from mmlocalmamba.ops.backends.cpu.library import BrokenLibraryError, MissingLibraryError, library

    fix = install_self() if compiler() else f'{INSTALL_COMPILER}, then {install_self()}'
    try:
        kernels = library()
    except MissingLibraryError:
        yield Finding('kernel library', 'not built: on the CPU, slow PyTorch code runs in its place', fix)
        return
    except BrokenLibraryError as error:
        yield Finding('kernel library', str(error), fix, fatal=True)
        return
    yield Finding('kernel library', str(kernels.path))
    fastest, *others = kernels.instruction_sets()
    yield Finding('  instructions', f'{fastest}' + (f' (also here: {", ".join(others)})' if others else ''))
    if kernels.runtime is None:
        yield Finding(
            '  OpenMP', 'none in this PyTorch: the kernels run on one thread', f'{INSTALL_TORCH}, with OpenMP'
        )
    else:
        yield Finding('  OpenMP', kernels.runtime)
        yield Finding('  threads', f'{torch.get_num_threads()} (torch.set_num_threads or OMP_NUM_THREADS changes it)')


def check_dependencies() -> Iterator[Finding]:
    """Report what the package itself depends on, beside PyTorch."""
    for module, name in DEPENDENCIES.items():
        found = installed(name)
        if found is None:
            yield Finding(module, 'missing', f'pip install {name}', fatal=True)
        else:
            yield importable(module, found, f'pip install --force-reinstall {name}')


def check_mm_packages() -> Iterator[Finding]:
    """Report the mm packages, and two families installed over each other."""
    for module, names in FAMILIES.items():
        found = [f'{name} {installed(name)}' for name in names if installed(name)]
        if not found:
            yield Finding(module, 'missing', install_mm(), fatal=module != 'mmseg')
        elif len(found) > 1:
            remove = ' '.join(name for name in names if installed(name))
            fix = f'they overwrite each other: pip uninstall -y {remove}, then {install_mm()}'
            yield Finding(module, ' and '.join(found), fix, fatal=True)
        else:
            yield importable(module, found[0], install_mm())


def importable(module: str, text: str, fix: str) -> Finding:
    """Report whether an installed module can be imported, and if not, what mends that."""
    try:
        import_module(module)
    except Exception as error:  # whatever it is, training would meet it too
        fix = 'pip install "setuptools<81"' if 'pkg_resources' in str(error) else fix
        return Finding(module, f'{text}, but importing it fails: {type(error).__name__}: {error}', fix, fatal=True)
    return Finding(module, text)


def check_mmcv_operators() -> Iterator[Finding]:
    """Report where mmcv's operators come from."""
    from mmlocalmamba.compat import EXPLICIT_WAY, ext_state
    from mmlocalmamba.compat.startup import is_enabled, site_dir

    texts = {
        'compiled': "mmcv's own",
        'stand-in': "torchvision's nms and roi_align stand in (enough for R-CNNs and UperNet)",
        'missing': 'missing',
    }
    state = ext_state()
    advice = f'optional, for programs that do not import mmlocalmamba: {EXPLICIT_WAY}'
    try:
        enabled = is_enabled(site_dir())
    except PermissionError:  # no site-packages that could be written to: nothing to advise
        enabled = True
    advisable = state == 'stand-in' and not enabled
    yield Finding('mmcv._ext', texts[state], advice if advisable else None, fatal=state == 'missing')


def check_opencv() -> Iterator[Finding]:
    """Report whether OpenCV loads: two of its packages overwrite each other, and one of them wants libGL."""
    try:
        import cv2
    except ImportError as error:
        yield Finding('OpenCV', str(error), install_cv2(), fatal=True)
        return
    yield Finding('OpenCV', f'{cv2.__version__} ({Path(cv2.__file__).parent})')


def check_backends() -> Iterator[Finding]:
    """Report the scan's back ends: which one 'auto' takes on each device, and why not the others."""
    import torch

    from mmlocalmamba.ops.backends import available_backends, backend_for

    devices = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
    for device in devices:
        yield Finding(f'scan on {device}', f'{backend_for(device, "auto")!r} is used')
        for name, reason in available_backends(device).items():
            yield Finding(f'  {name}', reason or 'usable')


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_torch,
    check_compiler,
    check_library,
    check_dependencies,
    check_opencv,
    check_mm_packages,
    check_mmcv_operators,
    check_backends,
)


def main() -> int:
    """Print the report; returns the exit status."""
    try:
        import mmlocalmamba
    except ImportError as error:
        print(f'mmlocalmamba: {error}\n    -> {install_self()}')
        return 1
    print(f'{"mmlocalmamba":14} {mmlocalmamba.__version__}')
    fatal = False
    for check in CHECKS:
        try:
            findings = list(check())
        except (ImportError, RuntimeError) as error:
            findings = [Finding(check.__name__.removeprefix('check_'), str(error), fatal=True)]
        for finding in findings:
            print(f'{"!" if finding.fatal else " "} {finding.name:14} {finding.text}')
            if finding.fix:
                print(f'{"":17}-> {finding.fix}')
        fatal = fatal or any(finding.fatal for finding in findings)
    print(
        '\nSomething that training needs is missing: see the lines marked with "!".' if fatal else '\nReady to train.'
    )
    return 1 if fatal else 0


if __name__ == '__main__':
    sys.exit(main())
