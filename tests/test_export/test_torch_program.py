import subprocess
import sys

import pytest
import torch

from mmlocalmamba.export.torch_program import export_program, read_imports, save_program
from mmlocalmamba.models.backbones import LocalVim, LocalVMamba

pytestmark = pytest.mark.skipif(torch.__version__ < (2, 6), reason='dynamic sizes are tested from torch 2.6 on')

DIRECTIONS = [['h', 'w2_flip'], ['w3', 'v_flip']]
LOAD = """
import sys
exec(sys.argv[2])
program = torch.export.load(sys.argv[1])
model = program.module()
torch.save([model(image) for image in torch.load(sys.argv[3])], sys.argv[4])
assert 'mmengine' not in sys.modules
"""


def make_hierarchical() -> torch.nn.Module:
    arch = dict(dims=[8, 16, 32, 64], depths=[1, 1, 1, 1], directions=[*DIRECTIONS, *DIRECTIONS])
    return LocalVMamba(arch=arch, d_state=2, out_indices=(0, 1))


def make_plain() -> torch.nn.Module:
    arch = dict(embed_dim=16, depth=2, directions=DIRECTIONS)
    return LocalVim(arch=arch, img_size=64, patch_size=16, out_indices=(0, 1), d_state=2)


@pytest.mark.slow
@pytest.mark.parametrize('make', [make_hierarchical, make_plain])
def test_saved_program_takes_any_size_in_a_process_with_the_operations_alone(make, tmp_path) -> None:
    model, path = make().eval(), tmp_path / 'model.pt2'
    # 64 x 64 is the size of LocalVim's tables, 63 x 130 pads everything.
    images = [torch.randn(shape) for shape in [(1, 3, 64, 64), (3, 3, 63, 130), (2, 3, 224, 96)]]

    save_program(export_program(model, torch.randn(2, 3, 100, 144)), path)

    torch.save(images, tmp_path / 'images.pt')
    imports = read_imports(path)
    subprocess.run([sys.executable, '-c', LOAD, path, imports, tmp_path / 'images.pt', tmp_path / 'got.pt'], check=True)
    with torch.no_grad():
        for got, image in zip(torch.load(tmp_path / 'got.pt'), images, strict=True):
            torch.testing.assert_close(got, model(image), rtol=1e-4, atol=1e-5)


def test_images_that_fix_a_size_are_refused() -> None:
    with pytest.raises(ValueError, match='at least 65 x 65 pixels'):
        export_program(make_plain(), torch.randn(2, 3, 64, 64))
