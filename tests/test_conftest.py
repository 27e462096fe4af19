import torch


def test_uninitialized_memory_is_nan() -> None:
    assert torch.empty(3).isnan().all()
    assert torch.zeros(3).new_empty(2).isnan().all()


def test_mmengine_scope_can_be_set() -> None:
    from mmengine.registry import DefaultScope

    assert DefaultScope.get_current_instance() is None
    DefaultScope.get_instance('test', scope_name='mmdet')


def test_mmengine_scope_of_another_test_is_gone() -> None:
    from mmengine.registry import DefaultScope

    assert DefaultScope.get_current_instance() is None
