import pytest
import torch
from mmengine.config import Config

from mmlocalmamba.engine.device import fit_launcher, fit_precision, start_process_group, use_amp

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without a GPU')


def config(launcher: str) -> Config:
    return Config(
        {
            'launcher': launcher,
            'model': {'norm_cfg': {'type': 'SyncBN'}, 'heads': [{'norm_cfg': {'type': 'SyncBN'}}]},
            'optim_wrapper': {'type': 'AmpOptimWrapper', 'loss_scale': 'dynamic', 'optimizer': {'type': 'SGD'}},
        }
    )


def test_mixed_precision_becomes_float32() -> None:
    cfg = config('none')

    fit_precision(cfg)

    assert cfg.optim_wrapper == {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD'}}


def test_one_process_keeps_its_model() -> None:
    cfg = config('none')

    fit_launcher(cfg)

    assert cfg.to_dict() == config('none').to_dict()


def test_several_processes_get_what_the_cpu_can_do() -> None:
    cfg = config('pytorch')
    cfg.model_wrapper_cfg = {'type': 'MMDistributedDataParallel', 'find_unused_parameters': True}

    fit_launcher(cfg)

    assert cfg.model == {'norm_cfg': {'type': 'BN'}, 'heads': [{'norm_cfg': {'type': 'BN'}}]}
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters


def test_only_one_launcher_does_without_a_gpu() -> None:
    start_process_group('none')
    assert not torch.distributed.is_initialized()
    with pytest.raises(ValueError, match='--launcher slurm needs GPUs'):
        start_process_group('slurm')


def test_amp_is_refused() -> None:
    with pytest.raises(ValueError, match='--amp needs a GPU'):
        use_amp(config('none'))
