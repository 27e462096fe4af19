import pytest
import torch

from mmlocalmamba.models import LocalVMamba
from mmlocalmamba.models.weights.files import read_state_dict
from mmlocalmamba.models.weights.values import check_weights


def refused(state: dict, words: str, **more: object) -> None:
    with pytest.raises(ValueError, match=words):
        check_weights(state, 'a.pth', **more)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_weights_pass(dtype) -> None:
    check_weights({'a': torch.ones(3, dtype=dtype), 'b': torch.zeros(0, dtype=dtype), 'c': 'no tensor'}, 'a.pth')


def test_large_weights_pass() -> None:
    check_weights({'a': torch.full((4,), 3e38), 'b': torch.full((9,), 60000.0).half()}, 'a.pth')


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_numbers_that_are_not_finite_are_named(value, dtype) -> None:
    broken = torch.ones(5, dtype=dtype)
    broken[3] = value
    refused({'a.weight': torch.ones(2), 'b.weight': broken}, r'a.pth has NaN or infinity in 1 of 2 tensors: b.weight\.')


@pytest.mark.parametrize('dtype', [torch.int8, torch.uint8, torch.bool, torch.complex64])
def test_dtypes_that_weights_do_not_have_are_named(dtype) -> None:
    name = str(dtype).removeprefix('torch.')
    refused({'w': torch.ones(2).to(dtype)}, f'a.pth has 1 tensors that are no weights: w is {name}. Want float32')


def test_numbers_of_one_byte_are_no_weights() -> None:
    refused({'w': torch.zeros(2, dtype=torch.uint8).view(torch.float8_e4m3fn)}, 'no weights: w is float8_e4m3fn')


def test_sparse_tensors_are_named() -> None:
    refused({'w': torch.eye(3).to_sparse()}, 'w is float32, sparse_coo')


def test_a_dtype_that_the_model_has_is_right() -> None:
    mask = {'mask': torch.ones(2, dtype=torch.bool)}
    check_weights(mask, 'a.pth', own=mask)
    refused(mask, 'mask is bool', own={'mask': torch.ones(2)})


def test_keys_that_are_no_names_are_said() -> None:
    refused({0: torch.ones(2), 1: torch.ones(2)}, r'a.pth has 2 tensors under keys that are no names \(0, 1\)')


def test_a_file_is_checked_when_it_is_read(tmp_path) -> None:
    torch.save({'weight': torch.tensor([float('nan')])}, tmp_path / 'nan.pth')
    with pytest.raises(ValueError, match=r'nan.pth has NaN or infinity in 1 of 1 tensors: weight'):
        read_state_dict(tmp_path / 'nan.pth')


def test_the_backbone_checks_what_any_program_loads_into_it() -> None:
    model = torch.nn.ModuleDict({'backbone': LocalVMamba('micro')})
    state = model.state_dict()
    name = next(name for name in state if name.endswith('out_proj.weight'))
    model.load_state_dict(state)
    with pytest.raises(ValueError, match=f'the checkpoint has NaN or infinity in 1 of .*: {name}'):
        model.load_state_dict({**state, name: state[name] * float('nan')})
    with pytest.raises(ValueError, match=f'{name} is int8'):
        model.load_state_dict({**state, name: state[name].to(torch.int8)})
