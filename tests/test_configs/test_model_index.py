"""What the metafiles, the heads of the configs and the configs themselves state is the same."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import MODELS, init_default_scope

import mmlocalmamba  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
TOP = load(ROOT / 'model-index.yml')
INDEX = {model['Name']: model for metafile in TOP['Import'] for model in load(ROOT / metafile)['Models']}
RUNS = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
DENSE = sorted(
    str(path.relative_to(ROOT / 'configs'))
    for pattern in ('*.py', 'cross/*.py', 'demo/*_shapes.py')
    for path in (ROOT / 'configs').glob(pattern)
)
IMAGENET = sorted(f'imagenet/{path.name}' for path in (ROOT / 'configs/imagenet').glob('local_*.py'))


def head_of(name):
    """Give the comment at the top of a config as one line of text."""
    lines = (ROOT / 'configs' / name).read_text().splitlines()
    comment = [line.removeprefix('# ') for line in lines[: next(i for i, x in enumerate(lines) if x[:1] != '#')]]
    return ' '.join(comment)


def read(name):
    return Config.fromfile(ROOT / 'configs' / name)


def test_the_index_holds_every_run():
    assert {name for name in INDEX if 'imagenet' not in INDEX[name]['Config']} == set(RUNS)


@pytest.mark.parametrize('name', INDEX)
def test_every_indexed_config_exists(name):
    assert (ROOT / INDEX[name]['Config']).is_file()


@pytest.mark.parametrize('name', INDEX)
def test_mim_can_read_every_entry(name):
    entry = INDEX[name]
    assert name == name.lower()  # mim search --config
    assert not [key for key, value in entry['Metadata'].items() if not isinstance(value, str | float)]
    assert entry.get('Weights', 'https://').startswith('https://')  # no file and no null: mim download wants addresses
    assert entry['In Collection'] in {
        collection['Name'] for collection in load(ROOT / 'model-index.yml')['Collections']
    }


def test_mim_downloads_the_config_of_a_run_without_weights():
    (collection,) = TOP['Collections']
    assert collection['Metadata']['Weight'].split('/')[-1] == ''  # the file that it would fetch


def test_mim_finds_every_run_by_its_file_name():
    names = [path.name for folder in ('configs', 'mmlocalmamba', 'tools') for path in (ROOT / folder).rglob('*.py')]
    assert {Path(entry['Config']).name for entry in INDEX.values()} <= {x for x in names if names.count(x) == 1}


@pytest.mark.parametrize('name', RUNS)
def test_the_head_states_the_size_and_the_published_result(name):
    head, entry = head_of(f'{name}.py'), INDEX[name]
    if entry['Reported']['Parameters'] is not None:
        found = re.search(r'(\d+) M parameters, (\d+) G FLOPs at (\d+) x (\d+)', head)
        assert (int(found[1]), int(found[2])) == (entry['Reported']['Parameters'], entry['Reported']['FLOPs'])
        assert sorted(found.groups()[2:]) == sorted(entry['Metadata']['Input'].split(' x '))
    metrics = entry['Results'][0]['Metrics']
    if metrics is None:
        assert 'Reproduces: nothing that was published' in head
        return
    found = re.search(r'Published: ([\d.]+) [\w -]+, ([\d.]+) ', head)
    assert [float(found[1]), float(found[2])] == list(metrics.values())
    assert f'Reproduces: paper {entry["Reported"]["Source"].split(",")[0]}' in head


@pytest.mark.parametrize('name', IMAGENET)
def test_the_head_of_a_classifier_states_its_size_result_and_weights(name):
    head, entry = head_of(name), INDEX[Path(name).stem]
    found = re.search(r'(\d+) M parameters, ([\d.]+) G FLOPs', head)
    stated = (int(found[1]), float(found[2])) if found else (None, None)
    assert stated == (entry['Reported']['Parameters'], entry['Reported']['FLOPs'])
    result = float(re.search(r'Published: ([\d.]+) top-1', head)[1])
    assert [result] == list(entry['Results'][0]['Metrics'].values())
    weights = re.search(r'Published weights: (\S+)', head)
    assert entry.get('Weights') == (weights[1] if weights else None)
    assert bool(weights) != ('Its weights were never published' in head)


@pytest.mark.parametrize('name', DENSE)
def test_the_head_states_what_it_reproduces_and_starts_from(name):
    head = head_of(name)
    assert re.search(r'Reproduces: (paper table \d|nothing that was published)|An example: nothing was published', head)
    assert re.search(r'Starts from: (the published ImageNet weights|ImageNet weights that were never|scratch)', head)


@pytest.mark.parametrize('name', [*DENSE, *IMAGENET])
def test_the_head_states_the_recipe(name):
    head, cfg = head_of(name), read(name)
    pattern = r'Total batch (\d+) \((\d+) (?:GPUs|process) x (\d+)\)'
    batch, gpus, images = (int(x) for x in re.search(pattern, head).groups())
    assert batch == gpus * images == cfg.auto_scale_lr.base_batch_size
    assert images == cfg.train_dataloader.batch_size
    length = re.search(r'([\d,]+) (epochs|iterations)', head)
    key = {'epochs': 'max_epochs', 'iterations': 'max_iters'}[length[2]]
    assert int(length[1].replace(',', '')) == cfg.train_cfg[key] == cfg.param_scheduler[-1].end
    rate, decay = re.search(r'AdamW lr ([\de.-]+), wd ([\d.]+)', head).groups()
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', float(rate), float(decay))
    drop_path = float(re.search(r'drop path ([\d.]+\d)', head)[1])
    assert drop_path == cfg.model.backbone.drop_path_rate
    assert int(re.search(r'seed (\d+)', head)[1]) == cfg.randomness.seed
    layer_decay = re.search(r'layer-wise lr decay ([\d.]+\d)', head)
    stated = float(layer_decay[1]) if layer_decay else 1.0
    assert stated == cfg.optim_wrapper.get('paramwise_cfg', {}).get('layer_decay_rate', 1.0)


@pytest.mark.parametrize('name', [name for name in DENSE if 'ade20k' in name or 'upernet' in name])
def test_segmentation_has_a_multi_scale_test(name):
    cfg = read(name)
    assert cfg.tta_model.type == 'SegTTAModel'
    scales, flips = cfg.tta_pipeline[1].transforms[:2]
    assert len(scales) >= 3
    assert {flip.prob for flip in flips} == {0.0, 1.0}


@pytest.mark.parametrize('name', [name for name in DENSE if 'demo' not in name])
def test_weights_are_named_once_and_are_those_that_exist(name):
    cfg = read(name)
    init_cfg = cfg.model.backbone.get('init_cfg')
    assert cfg.pretrained == (init_cfg.checkpoint if init_cfg else None)
    entry = INDEX.get(Path(name).stem)
    if entry is not None:
        assert cfg.pretrained == entry['Pretrained']
    known = {model.get('Weights') for model in INDEX.values()}
    assert cfg.pretrained in known
    assert ('published ImageNet weights' in head_of(name)) == (cfg.pretrained is not None)


def test_the_weights_are_those_that_the_log_knows():
    from mmlocalmamba.engine.weight_check import PUBLISHED_WEIGHTS

    assert set(PUBLISHED_WEIGHTS.values()) <= {model.get('Weights') for model in INDEX.values()}


@pytest.mark.parametrize('name', RUNS)
def test_parameters_are_those_of_the_index_and_of_the_paper(name):
    cfg = read(f'{name}.py')
    init_default_scope(cfg.default_scope)
    count = sum(parameter.numel() for parameter in MODELS.build(cfg.model).parameters()) / 1e6
    assert count == pytest.approx(INDEX[name]['Metadata']['Parameters'], abs=0.006)
    stated = INDEX[name]['Reported']['Parameters']
    assert stated is None or round(count) == stated  # the paper gives whole millions


@pytest.mark.parametrize('kind', ['instance', 'semantic'])
def test_the_demo_configs_name_the_classes_that_are_generated(kind):
    from mmlocalmamba.datasets import shapes

    classes = shapes.CLASSES if kind == 'instance' else shapes.SEMANTIC_CLASSES
    for name in DENSE:
        if 'demo' in name and ('mask_rcnn' in name) == (kind == 'instance'):
            cfg = read(name)
            assert tuple(cfg.metainfo.classes) == classes
            assert len(cfg.metainfo.palette) == len(classes)
            head = cfg.model.roi_head.bbox_head if kind == 'instance' else cfg.model.decode_head
            assert head.num_classes == len(classes)


def test_the_page_of_the_model_zoo_is_up_to_date(tmp_path):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location('make_model_zoo', ROOT / 'tools/make_model_zoo.py')
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.main(['--out', str(tmp_path / 'zoo.md')])
    assert (tmp_path / 'zoo.md').read_text() == (ROOT / 'docs/model_zoo.md').read_text(), (
        'run python tools/make_model_zoo.py'
    )
