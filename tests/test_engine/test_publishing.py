import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmlocalmamba.compat.torch_load import register_safe_globals
from mmlocalmamba.engine.publishing import publish
from mmlocalmamba.models.weights.damage import damage


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch) -> None:
    """Start in an empty folder."""
    monkeypatch.chdir(tmp_path)


def trained(**more: object) -> str:
    """Save what training saves."""
    torch.manual_seed(0)
    wide = torch.rand(1000, 1000)
    content = {
        'state_dict': {'module.weight': wide[:10], 'bias': torch.ones(3).half(), 'steps': torch.tensor(7)},
        'optimizer': {'state': {0: {'exp_avg': wide}}},
        'message_hub': {'log_scalars': {'loss': HistoryBuffer([1.0], [1])}, 'runtime_info': {}},
        'meta': {
            'cfg': 'a = 1\n',
            'epoch': 3,
            'hostname': 'mine',
            'dataset_meta': {'classes': ('cat', 'dog'), 'palette': np.zeros((2, 3), np.uint8)},
        },
        **more,
    }
    torch.save(content, 'epoch_3.pth')
    return 'epoch_3.pth'


def test_weights_classes_and_config_are_kept_and_nothing_else() -> None:
    made = publish(trained(), 'zoo/mine')

    digest = hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert made.path == Path(f'zoo/mine-{digest[:8]}.pth')
    assert made.before > 4_000_000 > 100_000 > made.after == made.path.stat().st_size
    register_safe_globals()
    before, after = (torch.load(path, weights_only=True) for path in ('epoch_3.pth', made.path))
    assert after['meta'] == {
        'cfg': 'a = 1\n',
        'dataset_meta': {'classes': ['cat', 'dog'], 'palette': [[0, 0, 0], [0, 0, 0]]},
    }
    assert set(after) == {'meta', 'state_dict'}
    assert torch.equal(after['state_dict']['weight'], before['state_dict']['module.weight'])
    assert after['state_dict']['bias'].dtype == torch.float16


def test_a_program_that_knows_nothing_loads_it() -> None:
    made = publish(trained(), 'mine.pth')
    code = f'import torch; print(len(torch.load({str(made.path)!r}, weights_only=True)["state_dict"]))'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout == '3\n'


@pytest.mark.parametrize(
    ('which', 'value', 'said'), [(None, 1.0, 'averaged'), ('averaged', 1.0, 'averaged'), ('raw', 2.0, 'raw')]
)
def test_averaged_or_raw_weights(which, value, said) -> None:
    source = trained(
        state_dict={'weight': torch.full((2,), 1.0)},
        ema_state_dict={'steps': torch.tensor(3), 'module.weight': torch.full((2,), 2.0)},
    )
    made = publish(source, 'mine', which)
    assert made.weights == said
    state = torch.load(made.path, weights_only=True)['state_dict']
    assert set(state) == {'weight'}
    assert state['weight'].tolist() == [value] * 2


def test_a_choice_where_there_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match='holds one set of weights'):
        publish(trained(), 'mine', 'raw')


def test_bad_weights_are_not_published() -> None:
    with pytest.raises(ValueError, match='has NaN or infinity in 1 of 1 tensors: weight'):
        publish(trained(state_dict={'weight': torch.tensor([float('nan')])}), 'mine')
    assert list(Path().glob('mine*')) == []


def test_a_changed_file_does_not_bear_its_name() -> None:
    made = publish(trained(), 'mine')
    other = publish(trained(state_dict={'weight': torch.zeros(2)}), 'other')
    other.path.replace(made.path)
    hashes = [path.stem.rpartition('-')[2] for path in (other.path, made.path)]
    assert f'its SHA-256 starts with {hashes[0]}, but its name says {hashes[1]}' in damage(made.path)


def test_the_tool_says_what_it_did(capsys) -> None:
    import importlib.util

    path = Path(__file__).resolve().parents[2] / 'tools/publish.py'
    spec = importlib.util.spec_from_file_location('tool_publish', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.main([trained(), '--out', 'mine'])
    (made,) = Path().glob('mine-*.pth')
    assert capsys.readouterr().out == (
        f'epoch_3.pth: {Path("epoch_3.pth").stat().st_size:,} bytes\n'
        f'{made}: {made.stat().st_size:,} bytes, 3 tensors of the weights, read back and equal\n'
    )
