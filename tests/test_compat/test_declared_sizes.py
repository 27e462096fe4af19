"""Files that would take far more memory than their size; each is loaded by PyTorch as it is, or was."""

import copy
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmlocalmamba.compat.declared_sizes import MOST_INSTRUCTIONS, excess
from mmlocalmamba.compat.torch_load import check_checkpoint, load

MANY = 1 << 30
"""Numbers that no test makes room for: 4 GB as float32."""


def write(path: Path, content: bytes, data: bytes = bytes(16), compression: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive as torch.save does, with a pickle of one's own and one storage."""
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, part in (('data.pkl', content), ('byteorder', b'little'), ('data/0', data), ('version', b'3\n')):
            archive.writestr(f'archive/{name}', part)
    return path


def pickled(value: object, numbers: int) -> bytes:
    """Pickle as torch.save does, with every tensor's numbers in storage 0, which is said to have so many."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, it: object) -> object:
            if isinstance(it, torch.storage.TypedStorage):
                return ('storage', torch.FloatStorage, '0', 'cpu', numbers)
            return None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


class Call:
    """Is pickled as the call of a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def refused(path: Path, words: str) -> None:
    with pytest.raises(ValueError, match=f'{path.name} would take far more memory than its own size: .*{words}'):
        check_checkpoint(path)


def test_what_training_saves_passes(tmp_path) -> None:
    weight = torch.nn.Parameter(torch.ones(4, 5))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    history = HistoryBuffer(list(range(5000)), [1] * 5000)
    shared = torch.arange(100.0)
    content = {
        'state_dict': OrderedDict(
            weight=weight, half=weight.half(), view=shared[3:20], shared=shared, empty=shared[:0]
        ),
        'optimizer': optimizer.state_dict(),
        'message_hub': {'log_scalars': {'loss': history}, 'array': np.arange(6), 'number': np.float64(1)},
        'others': [torch.eye(3).to_sparse(), torch.ones(2, dtype=torch.complex64), torch.ones(3).expand(50, 3)],
    }
    for name, zipped in (('new.pth', True), ('old.pth', False)):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
        assert excess(tmp_path / name) is None
    loaded = load(tmp_path / 'new.pth')
    assert torch.equal(loaded['state_dict']['weight'], weight)


def test_a_tensor_with_more_numbers_than_its_part(tmp_path) -> None:
    path = write(tmp_path / 'a.pth', pickled(torch.ones(4), MANY))
    refused(path, 'a tensor claims 4,294,967,296 bytes, but the file has 16 for it')


def test_a_tensor_of_the_old_format_with_more_numbers_than_the_file(tmp_path) -> None:
    path = tmp_path / 'old.pth'
    torch.save(torch.ones(300), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    changed = whole.replace(b'M,\x01N', b'J' + (1 << 29).to_bytes(4, 'little') + b'N')
    assert changed != whole
    path.write_bytes(changed)
    refused(path, 'a tensor claims 2,147,483,648 bytes')


def test_tensors_that_repeat_their_numbers(tmp_path) -> None:
    torch.save(torch.ones(1).expand(MANY), tmp_path / 'expanded.pth')
    refused(tmp_path / 'expanded.pth', 'by the shapes of its tensors')
    numbers = torch.ones(100_000)
    torch.save([numbers.view(100, 1000) for _ in range(300)], tmp_path / 'shared.pth')
    refused(tmp_path / 'shared.pth', 'by the shapes of its tensors')


def test_a_compressed_part(tmp_path) -> None:
    path = write(tmp_path / 'a.pth', pickled(torch.ones(4), 1 << 20), bytes(4 << 20), zipfile.ZIP_DEFLATED)
    refused(path, 'is compressed, which torch.save never does')


def test_parts_that_lie_over_each_other(tmp_path) -> None:
    path = write(tmp_path / 'a.pth', pickled({}, 4), bytes(1 << 20))
    with zipfile.ZipFile(path, 'a') as archive:
        for number in range(8):
            member = copy.copy(archive.getinfo('archive/data/0'))
            member.filename = f'archive/data/{number + 1}'
            archive.filelist.append(member)
        archive._didModify = True
    refused(path, 'claim .* bytes together, more than the file has')


def test_millions_of_small_objects(tmp_path) -> None:
    content = b'\x80\x02(' + b'}' * (MOST_INSTRUCTIONS + 1) + b'l.'
    refused(write(tmp_path / 'a.pth', content), 'its pickle has more than 1,000,000 instructions')


@pytest.mark.parametrize(
    'call',
    [
        Call(bytearray, MANY),
        Call(torch.Tensor, 1 << 15, 1 << 15),
        Call(torch.FloatStorage, MANY),
        Call(np.ndarray, (1 << 15, 1 << 15)),
        Call(np.zeros(0).__reduce__()[0], np.ndarray, (MANY,), b'b'),
        Call(np.dtype, 'V2000000000'),
        [Call(OrderedDict)] * 1,
    ],
    ids=['bytearray', 'Tensor', 'Storage', 'ndarray', 'reconstruct', 'dtype', 'harmless'],
)
def test_a_call_that_makes_room(tmp_path, call) -> None:
    path = write(tmp_path / 'a.pth', pickle.dumps({'meta': call}, protocol=2))
    if isinstance(call, list):
        assert excess(path) is None
    else:
        refused(path, 'it asks for .* bytes and more|it has an array of something else')


def test_texts_that_are_copied_again_and_again(tmp_path) -> None:
    text = 'a' * 100_000
    path = write(tmp_path / 'a.pth', pickle.dumps([Call(bytearray, text, 'latin1') for _ in range(2000)], protocol=2))
    assert os.path.getsize(path) < 1 << 20
    refused(path, 'by builtins.bytearray')


@pytest.mark.parametrize('content', [b'\x80\x02K\x01)R.', b'\x80\x02}K\x01b.', b'text', b'\x80\x02cos\nsystem\n}b.'])
def test_a_pickle_that_makes_no_sense_is_not_tried(tmp_path, content) -> None:
    with pytest.raises(ValueError, match='is no checkpoint'):
        check_checkpoint(write(tmp_path / 'a.pth', content))


def test_a_number_with_a_million_digits_takes_no_time(tmp_path) -> None:
    shape = (10**100_000,) * 50
    path = write(tmp_path / 'a.pth', pickle.dumps(Call(np.ndarray, shape), protocol=2))
    refused(path, 'by numpy.ndarray')


def test_a_trusted_file_is_not_looked_at(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    torch.save(torch.ones(1).expand(1 << 28), tmp_path / 'a.pth')
    assert load(tmp_path / 'a.pth').shape == (1 << 28,)
