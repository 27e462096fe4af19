from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from mmlocalmamba.engine.hooks import LoadedWeightsHook


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.head = nn.Linear(3, 4)

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        return {'loss': self.head(self.backbone(inputs)).mean()}


class Converting(Model):
    """Takes files of another naming."""

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        for name in list(state_dict):
            state_dict[name.replace('classifier', 'head')] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *args)


def start(model: Model, state: dict[str, Tensor], work_dir: Path, complete: bool) -> str:
    """Load a checkpoint, train for one iteration, and give what the log says about it."""
    torch.save(state, work_dir / 'start.pth')
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader={
            'batch_size': 2,
            'dataset': [(row,) for row in torch.rand(2, 2)],
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'collate_fn': {'type': 'default_collate'},
        },
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01}},
        train_cfg={'by_epoch': True, 'max_epochs': 1},
        load_from=str(work_dir / 'start.pth'),
        experiment_name=work_dir.name,
        cfg={'load_from': 'start.pth'},
    )
    runner.register_hook(LoadedWeightsHook(complete))
    runner.train()
    return next(work_dir.glob('*/*.log')).read_text()


@pytest.mark.parametrize('complete', [True, False])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_a_whole_model_is_said_to_be_one(prefix, complete, tmp_path) -> None:
    state = {prefix + name: value for name, value in Model().state_dict().items()}

    assert 'All 8 tensors of the model were loaded from start.pth.' in start(Model(), state, tmp_path, complete)


def test_names_may_be_converted_while_they_are_loaded(tmp_path) -> None:
    state = {name.replace('head', 'classifier'): value for name, value in Model().state_dict().items()}

    assert 'All 8 tensors' in start(Converting(), {'state_dict': state}, tmp_path, complete=True)


def test_equal_values_count_as_loaded(tmp_path) -> None:
    model = Model()

    assert 'All 8 tensors' in start(model, model.state_dict(), tmp_path, complete=True)


def test_counters_of_batch_norm_do_not_count(tmp_path) -> None:
    state = Model().state_dict()
    del state['backbone.1.num_batches_tracked']

    assert 'All 8 tensors' in start(Model(), state, tmp_path, complete=True)


def test_running_statistics_do_count(tmp_path) -> None:
    state = Model().state_dict()
    del state['backbone.1.running_var']

    with pytest.raises(ValueError, match=r'1 of 8 tensors would keep random values \(backbone.1.running_var\)'):
        start(Model(), state, tmp_path, complete=True)


def test_a_new_head_is_named(tmp_path) -> None:
    state = Model().state_dict()
    state['head.weight'] = torch.zeros(9, 3)
    del state['head.bias']

    log = start(Model(), state, tmp_path, complete=False)

    assert (
        '6 of 8 tensors of the model were loaded from start.pth. The others keep their initial values: head.weight, '
        'which has shape (9, 3) in the checkpoint and (4, 3) in the model, head.bias'
    ) in log


@pytest.mark.parametrize('complete', [True, False])
def test_a_checkpoint_that_fits_nowhere_is_refused(complete, tmp_path) -> None:
    with pytest.raises(ValueError, match=r'no tensor of start.pth fits this model: it has names such as 0.weight'):
        start(Model(), nn.Sequential(nn.Linear(2, 3)).state_dict(), tmp_path, complete)
