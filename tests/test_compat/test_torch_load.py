import os
import pickle
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from mmlocalmamba.compat.torch_load import (
    FORCE_SAFE,
    SAFE_GLOBALS,
    check_checkpoint,
    load,
    refuse_unsafe_checkpoints,
    register_safe_globals,
    trusts_files,
)


class TinyModel(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        return {'loss': self.linear(inputs).mean()}


@pytest.fixture
def registered():
    """Register for one test; leaves torch's process-wide list as it was."""
    before = torch.serialization.get_safe_globals()
    register_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


def make_runner(work_dir: Path, epochs: int, resume: bool = False) -> Runner:
    return Runner(
        model=TinyModel(),
        work_dir=str(work_dir),
        train_dataloader={
            'batch_size': 2,
            'dataset': [(torch.rand(2),) for _ in range(4)],
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'collate_fn': {'type': 'default_collate'},
        },
        optim_wrapper={'optimizer': {'type': 'AdamW', 'lr': 0.1}},
        train_cfg={'by_epoch': True, 'max_epochs': epochs},
        default_hooks={'logger': {'type': 'LoggerHook', 'interval': 1}},
        experiment_name=f'{work_dir.name}-{epochs}',
        resume=resume,
    )


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def save(content: object, folder: Path) -> Path:
    path = folder / 'checkpoint.pth'
    torch.save(content, path)
    return path


def test_checkpoint_of_runner_needs_no_full_unpickling(tmp_path, registered) -> None:
    make_runner(tmp_path, epochs=1).train()

    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)

    loss = checkpoint['message_hub']['log_scalars']['train/loss']
    assert isinstance(loss, HistoryBuffer)
    assert np.isfinite(loss.mean())


def test_checkpoint_of_runner_resumes(tmp_path, monkeypatch, registered) -> None:
    monkeypatch.setenv(FORCE_SAFE, '1')
    make_runner(tmp_path, epochs=1).train()

    resumed = make_runner(tmp_path, epochs=2, resume=True)
    resumed.train()

    assert (resumed.epoch, resumed.iter) == (2, 4)
    assert len(resumed.message_hub.get_scalar('train/loss').data[0]) == 4


@pytest.mark.parametrize(
    'value',
    [ConfigDict(a=ConfigDict(b=1)), Namespace(lr=0.1, name='x'), np.float64(1.5), np.int64(3), np.bool_(True)],
    ids=lambda value: type(value).__name__,
)
def test_loads_plain_objects(tmp_path, registered, value) -> None:
    assert torch.load(save({'value': value}, tmp_path), weights_only=True)['value'] == value


@pytest.mark.parametrize('dtype', ['bool', 'int8', 'uint8', 'int32', 'int64', 'float16', 'float32', 'float64'])
def test_loads_arrays(tmp_path, registered, dtype) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)

    loaded = torch.load(save({'array': array}, tmp_path), weights_only=True)['array']

    np.testing.assert_array_equal(loaded, array)
    assert loaded.dtype == array.dtype


@pytest.mark.skipif(not hasattr(torch.serialization, 'safe_globals'), reason='torch < 2.5: no list can be taken out')
def test_loads_again_after_mmengine_took_its_list_out(tmp_path, registered) -> None:
    with torch.serialization.safe_globals([HistoryBuffer, np.ndarray, np.dtype]):
        pass
    register_safe_globals()
    torch.load(save({'history': HistoryBuffer([1.0], [1])}, tmp_path), weights_only=True)


def test_hostile_file_is_refused_and_does_nothing(tmp_path, registered) -> None:
    path = save({'state_dict': {}, 'meta': Hostile(tmp_path / 'ran')}, tmp_path)

    with pytest.raises(ValueError, match=r'(?s)checkpoint.pth.*posix.mkdir'):
        check_checkpoint(path)

    assert not (tmp_path / 'ran').exists()


def test_hostile_file_is_refused_by_mmengine(tmp_path, monkeypatch, registered) -> None:
    monkeypatch.setenv(FORCE_SAFE, '')  # so that it is taken out again
    monkeypatch.delenv(FORCE_SAFE)
    refuse_unsafe_checkpoints()
    path = save({'state_dict': TinyModel().state_dict(), 'meta': Hostile(tmp_path / 'ran')}, tmp_path)
    runner = make_runner(tmp_path / 'work', epochs=1)

    with pytest.raises(ValueError, match='can run code'):
        runner.load_checkpoint(str(path))

    assert not (tmp_path / 'ran').exists()


class AttributeThief:
    """Asks for an attribute that is no statistic of HistoryBuffer."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def test_getattr_reaches_nothing_but_statistics(tmp_path, registered) -> None:
    with pytest.raises(ValueError, match='__init__'):
        check_checkpoint(save({'thief': AttributeThief()}, tmp_path))


def test_object_arrays_are_refused(tmp_path, registered) -> None:
    with pytest.raises(ValueError, match='ObjectDType'):
        check_checkpoint(save({'array': np.array([print], dtype=object)}, tmp_path))


def test_trusted_file_can_be_loaded_by_choice(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(FORCE_SAFE, '0')
    check_checkpoint(save({'meta': Hostile(tmp_path / 'ran')}, tmp_path))


@pytest.mark.parametrize(
    ('value', 'trusted'),
    [(None, False), ('', False), ('1', False), ('Yes', False), ('0', True), ('false', True), ('NO', True)],
)
def test_the_choice_is_as_pytorch_reads_it(tmp_path, monkeypatch, value, trusted) -> None:
    monkeypatch.setenv(FORCE_SAFE, '' if value is None else value)
    if value is None:
        monkeypatch.delenv(FORCE_SAFE)
    path = save({'meta': Hostile(tmp_path / 'ran')}, tmp_path)
    assert trusts_files() is trusted

    refuse_unsafe_checkpoints()

    if trusted:
        load(path)
    else:
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=False)
    assert (tmp_path / 'ran').exists() is trusted


@pytest.mark.parametrize('value', ['2', 'off', ' 0'])
def test_a_choice_that_is_neither_yes_nor_no_is_refused(monkeypatch, value) -> None:
    monkeypatch.setenv(FORCE_SAFE, value)
    with pytest.raises(ValueError, match=f"{FORCE_SAFE}='{value}' in the environment is neither yes"):
        refuse_unsafe_checkpoints()


def test_file_that_is_no_checkpoint_is_refused(tmp_path) -> None:
    path = tmp_path / 'page.pth'
    path.write_text('<html>not found</html>')

    with pytest.raises(ValueError, match='no checkpoint'):
        check_checkpoint(path)


def test_legacy_format_is_checked(tmp_path, registered) -> None:
    path = tmp_path / 'old.pth'
    torch.save({'weight': torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    check_checkpoint(path)


def test_no_builtin_is_registered() -> None:
    assert getattr not in SAFE_GLOBALS
    assert eval not in SAFE_GLOBALS
