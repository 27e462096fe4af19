from types import SimpleNamespace

import pytest
from torch import nn

from mmlocalmamba.engine.hooks import NumClassesHook


def loader(*classes):
    return SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes) if classes else {}))


def model(head=2, data_preprocessor=2):
    classifier = nn.Module()
    classifier.head, classifier.data_preprocessor = nn.Module(), nn.Module()
    classifier.head.num_classes, classifier.data_preprocessor.num_classes = head, data_preprocessor
    return classifier


def runner(train=('cat', 'dog'), val=('cat', 'dog'), **counts):
    return SimpleNamespace(
        model=model(**counts), train_dataloader=loader(*train), val_dataloader=loader(*val), val_loop=object()
    )


def test_what_fits_passes():
    NumClassesHook().before_train(runner())
    NumClassesHook().before_val(runner())


@pytest.mark.parametrize('part', ['head', 'data_preprocessor'])
def test_another_number_is_refused(part):
    with pytest.raises(
        ValueError, match=rf'model.{part}.num_classes is 1000, but .*train_dataloader have 2 .*\(cat, dog\)'
    ):
        NumClassesHook().before_train(runner(**{part: 1000}))


def test_a_split_with_other_classes_is_refused():
    with pytest.raises(ValueError, match=r"differ in \['cow', 'dog'\]"):
        NumClassesHook().before_train(runner(val=('cat', 'cow')))


def test_a_split_in_another_order_is_refused():
    with pytest.raises(ValueError, match='differ in their order'):
        NumClassesHook().before_train(runner(val=('dog', 'cat')))


def test_test_data_are_checked():
    given = runner()
    given.test_dataloader = loader('cat')
    with pytest.raises(ValueError, match='test_dataloader have 1 classes'):
        NumClassesHook().before_test(given)


def test_data_without_classes_and_other_models_are_left_alone():
    NumClassesHook().before_train(runner(train=(), val=()))
    given = runner(head=1000)
    given.model = nn.Linear(1, 1)
    NumClassesHook().before_train(given)
