import json

import torch

import machine
import mmlocalmamba
from machine import environment, environment_text
from mmlocalmamba.ops import backend_for
from mmlocalmamba.ops.backends import cpu
from timing import Setup


def test_the_environment_names_versions_threads_and_what_is_used():
    found = environment(Setup())
    json.dumps(found)
    assert found['mmlocalmamba'] == mmlocalmamba.__version__
    assert found['torch'] == torch.__version__.split('+')[0] or found['torch'] == torch.__version__
    assert all(found[name] for name in ('python', 'torchvision', 'timm', 'system', 'cpu'))
    assert found['threads'] == torch.get_num_threads()
    assert found["scan's back end"] == backend_for('cpu')


def test_a_missing_extension_is_said(monkeypatch):
    monkeypatch.setattr(cpu, 'why_not', lambda device_type: 'not built: get a compiler.')
    text = environment_text(environment(Setup()))
    assert 'instruction sets of the C++ scan  not built: get a compiler.' in text


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'H100')
    monkeypatch.setattr(machine, 'backend_for', lambda device: f'for {device}')
    found = environment(Setup('cuda'))
    assert (found['gpu'], found["scan's back end"]) == ('H100', 'for cuda')


def test_what_is_not_installed_is_left_out_of_the_text(monkeypatch):
    monkeypatch.setattr(machine, 'PACKAGES', ('torch', 'no-such-package'))
    found = environment(Setup())
    assert found['no-such-package'] is None
    assert 'no-such-package' not in environment_text(found)
