"""Checkpoints that have their tensors elsewhere than MMEngine looks; test_train.py and test_test.py have the rest."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmlocalmamba.engine.hooks.loaded_weights import LoadedWeightsHook


@pytest.mark.parametrize('top', ['model', 'state_dict', None])
def test_tensors_are_put_where_mmengine_looks(top):
    tensors = {'weight': torch.ones(2, 2)}
    checkpoint = tensors if top is None else {top: tensors, 'epoch': 3}
    LoadedWeightsHook(complete=True).after_load_checkpoint(SimpleNamespace(model=nn.Linear(2, 2)), checkpoint)
    assert checkpoint.get('state_dict', checkpoint) is tensors
