"""Do the heads of the model have as many classes as the data?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from .data_sets import data_sets
from .findings import Finding, listed, plural
from .settings import has_own_vocabulary, model_of, registered, setting

# These tell foreground from background, or predict something else than the classes of the data set.
_OTHER_CLASSES = ('rpn_head', 'semantic_head')
_OTHER_TYPES = ('STDCHead',)


def head_classes(cfg: Config, splits: Sequence[str], foreign: Collection[str] = ()) -> Iterator[Finding]:
    """Compare ``num_classes`` of every head, given or by default, with the classes of the data sets.

    A head with more classes than the data trains silently, one with fewer ends in an index error deep inside the loss.

    Args:
        cfg: The whole config.
        splits: Which of 'train', 'val' and 'test' will run.
        foreign: Keys of classes that are not those of the data; they are not compared.
    """
    model = model_of(cfg)
    if has_own_vocabulary(cfg):
        return
    counts = dict(head_counts(model, 'model', cfg))
    seen: set[int] = set()
    for split in splits:
        for data_set in data_sets(cfg, split):
            classes = data_set.classes()
            if classes is None or len(classes) in seen or f'{data_set.key}.metainfo.classes' in foreign:
                continue
            seen.add(len(classes))
            wrong = {key: count for key, count in counts.items() if count not in (len(classes), data_set.num_things())}
            if wrong:
                yield _mismatch(wrong, data_set.key, classes)
            yield from _class_weights(model, counts, len(classes), cfg)


def _mismatch(wrong: Mapping[str, int], data_key: str, classes: Sequence[str]) -> Finding:
    keys: dict[int, list[str]] = {}
    for key, count in wrong.items():
        keys.setdefault(count, []).append(key)
    said = '; '.join(f'{" and ".join(names)} {_be(names)} {count}' for count, names in keys.items())
    return Finding(
        f'{said}, but the data of {data_key} have {plural(len(classes), "class")} ({listed(classes, 5)}). Set '
        f'{"it" if len(wrong) == 1 else "them"}: --cfg-options {" ".join(_remedy(key, len(classes)) for key in wrong)}'
    )


def _be(names: Sequence[str]) -> str:
    return 'is' if len(names) == 1 else 'are'


def _remedy(key: str, count: int) -> str:
    if ' + ' not in key:
        return f'{key}={count}'
    things, stuff = key.split(' + ')
    return f'{things}={count} {stuff}=0'


def head_counts(part: Mapping[str, Any], key: str, cfg: Config) -> Iterator[tuple[str, int]]:
    """Yield (key, number of classes) of the heads of a model, and of the data preprocessor of a classifier."""
    for name, value in part.items():
        if name in _OTHER_CLASSES:
            continue
        if name.endswith('head') or name in ('detector', 'data_preprocessor'):
            several = isinstance(value, (list, tuple))
            for index, head in enumerate(value if several else [value]):
                if isinstance(head, Mapping):
                    yield from _counts_of_head(head, f'{key}.{name}' + (f'.{index}' if several else ''), cfg)


def _counts_of_head(head: Mapping[str, Any], key: str, cfg: Config) -> Iterator[tuple[str, int]]:
    cls = registered(MODELS, head, cfg)
    if cls is None or cls.__name__ not in _OTHER_TYPES:
        count = setting(head, 'num_classes', cls)
        things, stuff = (setting(head, f'num_{kind}_classes', cls) for kind in ('things', 'stuff'))
        if isinstance(count, int):
            yield f'{key}.num_classes', count
        elif isinstance(things, int) and isinstance(stuff, int):
            yield f'{key}.num_things_classes + {key}.num_stuff_classes', things + stuff
    yield from head_counts(head, key, cfg)


def _class_weights(model: Mapping[str, Any], counts: Mapping[str, int], wanted: int, cfg: Config) -> Iterator[Finding]:
    """Compare the lengths of lists of class weights with the classes; some losses have one for 'no object' too."""
    for key in counts:
        path = key.split(' + ')[0].split('.')[1:-1]
        head: Any = model
        for step in path:
            head = head[int(step)] if isinstance(head, (list, tuple)) else head[step]
        for name in ('loss_cls', 'loss_decode'):
            losses = head.get(name)
            for loss in losses if isinstance(losses, (list, tuple)) else [losses]:
                weights = loss.get('class_weight') if isinstance(loss, Mapping) else None
                if isinstance(weights, (list, tuple)) and len(weights) not in (wanted, wanted + 1):
                    place = '.'.join(['model', *path, name, 'class_weight'])
                    yield Finding(
                        f'{place} has {plural(len(weights), "number")}, but the data have {plural(wanted, "class")}: '
                        "give one number per class, and one for 'no object' where the loss wants it."
                    )
