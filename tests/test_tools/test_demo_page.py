import sys

import pytest
import torch


@pytest.fixture
def arguments(seg_config, model_state) -> list[str]:
    torch.save({'state_dict': model_state(seg_config)}, 'seg.pth')
    return ['--config', str(seg_config), '--checkpoint', 'seg.pth', '--device', 'cpu']


def test_it_serves_this_machine_alone_and_shares_nothing(tool, arguments, monkeypatch) -> None:
    gradio = pytest.importorskip('gradio', reason='gradio is not installed')
    calls = []
    monkeypatch.setattr(gradio.Blocks, 'launch', lambda self, **settings: calls.append(settings))

    tool('demo_page').main([*arguments, '--port', '7999'])

    assert calls == [{'server_name': '127.0.0.1', 'server_port': 7999, 'share': False}]


def test_without_gradio_it_says_what_to_install(tool, arguments, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'gradio', None)

    with pytest.raises(ModuleNotFoundError, match='pip install gradio'):
        tool('demo_page').main(arguments)
