"""What the modules of tools/benchmark may be called and may import."""

import subprocess
import sys

LIGHT = ['compiler_report', 'formatting', 'machine', 'operations', 'rates', 'roofline', 'scan_calls', 'scan_costs']
LIGHT += ['fused_kernels', 'saved_bytes', 'timing', 'triton_report']
HEAVY = ['matplotlib', 'mmcv', 'mmdet', 'mmengine', 'mmseg', 'timm', 'torchvision']


def test_a_gpu_machine_needs_nothing_but_torch_and_triton_for_these(repo_dir):
    code = (
        f'import sys\nsys.path.insert(0, {str(repo_dir / "tools/benchmark")!r})\n'
        f'for name in {HEAVY}: sys.modules[name] = None\n'
        f'import {", ".join(LIGHT)}'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_module_hides_one_of_python(repo_dir):
    names = {path.stem for path in (repo_dir / 'tools/benchmark').glob('*.py')}
    assert set(LIGHT) < names
    assert not names & sys.stdlib_module_names
