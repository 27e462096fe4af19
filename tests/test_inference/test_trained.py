import argparse
import pickle
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmlocalmamba.inference.trained import add_model_arguments, choose_device, find_config, load_model, model_of

CPU = torch.device('cpu')


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    return parser.parse_args(arguments)


def test_names_of_classes_come_from_the_checkpoint_then_the_config(config_of, fresh_checkpoint) -> None:
    cfg = config_of('classification')
    names = ('one', 'two', 'three')

    stored = load_model(cfg, fresh_checkpoint(cfg, {'dataset_meta': {'classes': names}}), CPU)
    configured = load_model(cfg, fresh_checkpoint(cfg), CPU)
    assert stored.classes == names
    assert configured.classes == ('cat', 'dog', 'owl')
    assert len(set(configured.palette)) == 3

    del cfg.test_dataloader.dataset['metainfo']
    assert load_model(cfg, fresh_checkpoint(cfg), CPU).classes == ('0', '1', '2')


def test_names_that_are_too_many_are_not_used(config_of, fresh_checkpoint, capfd) -> None:
    cfg = config_of('classification')
    checkpoint = fresh_checkpoint(cfg, {'dataset_meta': {'classes': ('a', 'b', 'c', 'd')}})

    assert load_model(cfg, checkpoint, CPU).classes == ('cat', 'dog', 'owl')
    assert 'the checkpoint names 4 classes, but the model tells 3 apart' in ''.join(capfd.readouterr())


def test_coco_numbers_are_those_of_the_annotation_file(config_of, fresh_checkpoint, tmp_path) -> None:
    cfg = config_of('detection')
    assert load_model(cfg, fresh_checkpoint(cfg), CPU).category_ids == (1, 2, 3, 4, 5, 6)

    names = ['cross', 'ring', 'star', 'triangle', 'square', 'disc']
    categories = [{'id': 10 * (index + 1), 'name': name} for index, name in enumerate(names)]
    Path('file.json').write_text(str({'categories': categories}).replace("'", '"'))
    cfg.test_evaluator.ann_file = 'file.json'
    assert load_model(cfg, fresh_checkpoint(cfg), CPU).category_ids == (60, 50, 40, 30, 20, 10)


def test_a_checkpoint_of_another_backbone_is_named(config_of, fresh_checkpoint) -> None:
    cfg = config_of('segmentation')
    other = Config.fromfile(Path(cfg.filename).with_name('upernet_localvim_micro_shapes.py'))

    with pytest.raises(ValueError, match='does not fit this LocalVMamba: it is a LocalVim'):
        load_model(cfg, fresh_checkpoint(other), CPU)


def test_a_head_that_differs_or_is_missing_is_an_error(config_of, fresh_checkpoint) -> None:
    cfg = config_of('classification')
    checkpoint = fresh_checkpoint(cfg)
    wider = Config(cfg.to_dict())
    wider.model.head.num_classes = 5

    with pytest.raises(ValueError, match=r'(?s)does not fit the ImageClassifier of this config.*head.fc.weight'):
        load_model(wider, checkpoint, CPU)

    state = {name: value for name, value in torch.load(checkpoint)['state_dict'].items() if 'head' not in name}
    torch.save({'state_dict': state}, checkpoint)
    with pytest.raises(ValueError, match=r'4 tensors would keep random values \(head.norm.weight'):
        load_model(cfg, checkpoint, CPU)


def test_tensors_without_a_place_are_named(config_of, fresh_checkpoint, capfd) -> None:
    cfg = config_of('classification')
    checkpoint = fresh_checkpoint(cfg)
    content = torch.load(checkpoint)
    content['state_dict']['aux.weight'] = torch.zeros(1)
    torch.save(content, checkpoint)

    load_model(cfg, checkpoint, CPU)

    said = ''.join(capfd.readouterr())
    assert re.search(r'1 tensors of \S+ have no place in this model and were left out: aux.weight', said)


def test_a_hostile_checkpoint_is_refused(config_of, tmp_path) -> None:
    class Hostile:
        def __reduce__(self):
            return Path.mkdir, (tmp_path / 'ran',)

    torch.save({'state_dict': {}, 'meta': Hostile()}, 'hostile.pth', pickle_module=pickle)

    with pytest.raises(ValueError, match='can run code'):
        load_model(config_of('classification'), 'hostile.pth', CPU)
    assert not (tmp_path / 'ran').exists()


def test_the_config_in_a_checkpoint_is_not_run(config_of, fresh_checkpoint, tmp_path) -> None:
    cfg = config_of('classification')
    evil = f"open({str(tmp_path / 'ran')!r}, 'w')"

    load_model(cfg, fresh_checkpoint(cfg, {'cfg': evil}), CPU)

    assert not (tmp_path / 'ran').exists()


def test_the_config_beside_the_checkpoint_is_found(config_of, fresh_checkpoint) -> None:
    cfg = config_of('classification')
    checkpoint = fresh_checkpoint(cfg)
    with pytest.raises(FileNotFoundError, match='beside weights/fresh.pth there is none'):
        find_config(checkpoint)

    cfg.dump('weights/my.py')
    assert model_of(parsed('--checkpoint', checkpoint, '--device', 'cpu')).task == 'classification'

    cfg.dump('weights/other.py')
    with pytest.raises(FileNotFoundError, match=r'there are my.py, other.py instead of one'):
        find_config(checkpoint)


def test_a_missing_file_is_named(config_of) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config file 'my.py'"):
        model_of(parsed('--checkpoint', 'w.pth', '--config', 'my.py'))
    with pytest.raises(FileNotFoundError, match=r'--checkpoint = w.pth: there is no such file'):
        load_model(config_of('classification'), 'w.pth', CPU)


def test_a_model_of_no_known_task_is_refused(fresh_checkpoint) -> None:
    cfg = Config(dict(default_scope='mmengine', model=dict(type='mmlocalmamba.LocalVMamba', arch='micro')))

    with pytest.raises(ValueError, match='a LocalVMamba is neither a detector'):
        load_model(cfg, fresh_checkpoint(cfg), CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there_is_named(capfd) -> None:
    assert choose_device(None) == CPU
    assert 'no GPU: the model runs on the CPU' in ''.join(capfd.readouterr())
    with pytest.raises(ValueError, match='--device cuda:1: PyTorch sees 0 GPUs here'):
        choose_device('cuda:1')
    with pytest.raises(ValueError, match='--device gpu is no device'):
        choose_device('gpu')
