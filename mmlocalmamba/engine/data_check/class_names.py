"""Do the classes of the config have the names, and the order, that the data have?"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from mmengine.config import Config

from .coco import CocoUse
from .data_sets import data_sets
from .findings import Finding, listed, plural
from .settings import has_own_vocabulary


def wrong_names(uses: Sequence[CocoUse]) -> Iterator[Finding]:
    """Compare the classes that are asked of COCO files with the categories in them.

    mmdet numbers the categories that it was asked for in the order of the *file*. So a name that the file lacks shifts
    the labels after it, and fails in the metric; another order gives every prediction another class's name.
    Categories of the file that the config does not ask for are left out, as a choice of the user.
    """
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for use in uses:
        file = use.scan()
        if use.classes is None or file.problem is not None:
            continue
        state = (str(use.path.absolute()), use.classes)
        if state in seen:
            continue
        seen.add(state)
        names = [name for _, name in file.categories]
        missing = [name for name in use.classes if name not in names]
        if missing:
            yield _missing_names(use, missing, names)
            continue
        order = [name for name in names if name in use.classes]
        if order != list(use.classes):
            yield _other_order(use, order)


def foreign_names(uses: Sequence[CocoUse]) -> set[str]:
    """Give the keys of the classes of which not one is in the file: their number means nothing."""
    return {
        use.names_key
        for use in uses
        if use.classes and not use.scan().problem and not {name for _, name in use.scan().categories} & set(use.classes)
    }


def _missing_names(use: CocoUse, missing: Sequence[str], names: Sequence[str]) -> Finding:
    if len(missing) == len(use.classes or ()):
        near = _near_matches(missing, names)
        hint = f' ({near})' if near else ''
        return Finding(
            f'None of the {plural(len(missing), "class")} of {use.names_key} ({listed(missing)}) is in {use.path} '
            f'({use.key}), which has {plural(len(names), "category")}: '
            f'{listed(names)}{hint}. Set {use.names_key} to the names in the file.'
        )
    unused = [name for name in names if name not in (use.classes or ())]
    near = _near_matches(missing, unused)
    has = near or (f'it also has {listed(unused)}' if unused else 'it has no other names either')
    return Finding(
        f'{plural(len(missing), "class")} of {use.names_key} ({listed(missing)}) '
        f'{"is" if len(missing) == 1 else "are"} not in {use.path} ({use.key}): {has}. '
        'Labels after a missing class would be shifted. Write the names as in the file.'
    )


def _near_matches(missing: Sequence[str], names: Sequence[str]) -> str:
    """Say which names of the file look like those that are missing."""
    lower = {name.lower(): name for name in names}
    pairs = []
    for name in missing:
        alike = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.75)
        if alike:
            pairs.append(f'{lower[alike[0]]!r} in place of {name!r}')
    return f'it has {listed(pairs)}' if pairs else ''


def _other_order(use: CocoUse, order: Sequence[str]) -> Finding:
    classes = use.classes or ()
    if len(order) != len(classes):
        twice = [name for name in classes if classes.count(name) > 1]
        return Finding(f'{use.names_key} has {twice[0]!r} more than once: give each class one place.')
    place = next(index for index, name in enumerate(classes) if name != order[index])
    return Finding(
        f'{use.names_key} and {use.path} ({use.key}) have the same names in another order: label {place} is '
        f'{classes[place]!r} in the config and {order[place]!r} in the file. mmdet keeps to the file, so '
        f'predictions would carry wrong names. Set {use.names_key} to {tuple(order)}.'
    )


def differing_splits(cfg: Config, splits: Sequence[str]) -> Iterator[Finding]:
    """Name splits whose classes are not those of the first split: the labels would mean something else there."""
    if has_own_vocabulary(cfg):
        return
    first: tuple[str, tuple[str, ...]] | None = None
    for split in splits:
        for data_set in data_sets(cfg, split):
            classes = data_set.classes()
            if classes is None:
                continue
            if first is None:
                first = (data_set.key, classes)
            elif classes != first[1]:
                difference = sorted(set(classes) ^ set(first[1]))
                what = f'in {listed(difference)}' if difference else 'in their order'
                yield Finding(
                    f'The classes of {first[0]} ({len(first[1])}) and {data_set.key} ({len(classes)}) differ {what}: '
                    'set metainfo.classes of both to the same names in the same order.'
                )
