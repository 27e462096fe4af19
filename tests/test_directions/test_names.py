import json

import pytest

from mmlocalmamba.directions import (
    CANDIDATES,
    Direction,
    canonical_order,
    load_directions,
    nearest_direction,
    parse_direction,
    parse_directions,
    published_directions,
)


@pytest.mark.parametrize('name', [*CANDIDATES, 'w1', 'w14_flip'])
def test_name_round_trip(name) -> None:
    assert str(parse_direction(name)) == name


def test_parts_of_a_name() -> None:
    assert parse_direction('w7_flip') == Direction('w', 7, True)


@pytest.mark.parametrize('name', ['', 'w', 'w0', 'w-2', 'x', 'h2', 'flip', 'w2_flip_flip', 'H', ' h', None, 3])
def test_unknown_name_is_refused(name) -> None:
    with pytest.raises(ValueError, match='unknown scan direction .*: use'):
        parse_direction(name)


def test_blocks_may_differ_in_number() -> None:
    assert parse_directions([['h'], ['v', 'w2']], 2) == (('h',), ('v', 'w2'))


@pytest.mark.parametrize('blocks', ['hv', ['h', 'v'], [['h'], 'v']])
def test_names_outside_of_lists_are_refused(blocks) -> None:
    with pytest.raises(ValueError, match='one list of names per block'):
        parse_directions(blocks, 2)


def test_wrong_number_of_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match='for 1 blocks, but the network has 2'):
        parse_directions([['h']], 2)


def test_empty_block_is_refused() -> None:
    with pytest.raises(ValueError, match='block 1 has no scan direction'):
        parse_directions([['h'], []], 2)


def test_repeated_name_is_refused() -> None:
    with pytest.raises(ValueError, match='block 0 repeats a scan direction'):
        parse_directions([['h', 'h']], 1)


def test_canonical_order_is_that_of_the_candidates() -> None:
    assert canonical_order(reversed(CANDIDATES)) == CANDIDATES


@pytest.mark.parametrize(
    ('model', 'depth'),
    [('local_vmamba_tiny', 15), ('local_vmamba_small', 33), ('local_vim', 20), ('local_vim_without_search', 20)],
)
def test_published_directions_are_those_of_the_paper(model, depth, shared_dir) -> None:
    reference = json.loads((shared_dir / 'reference' / 'directions.json').read_text())
    directions = published_directions(model)

    assert len(directions) == depth
    assert [list(block) for block in directions] == reference[model]


def test_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="no published directions are called 'local_vim_huge': choose from"):
        published_directions('local_vim_huge')


@pytest.mark.parametrize('wrapped', [True, False])
def test_searched_directions_from_a_file(tmp_path, wrapped) -> None:
    blocks = [['h', 'w2'], ['v']]
    path = tmp_path / 'directions.json'
    path.write_text(json.dumps({'directions': blocks} if wrapped else blocks))

    assert load_directions(path) == (('h', 'w2'), ('v',))


def test_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r'missing\.json.* is no file'):
        load_directions(tmp_path / 'missing.json')


@pytest.mark.parametrize(
    ('text', 'message'),
    [('{', 'not valid JSON'), ('{"h": 1}', 'one list of direction names per block'), ('[["z"]]', "direction 'z'")],
)
def test_broken_file_is_named(tmp_path, text, message) -> None:
    path = tmp_path / 'directions.json'
    path.write_text(text)

    with pytest.raises(ValueError, match=f'directions.json.*{message}'):
        load_directions(path)


@pytest.mark.parametrize(
    ('name', 'candidates', 'wanted'),
    [
        ('v', ['h', 'v_flip', 'v'], 'v'),
        ('v', ['h', 'v_flip'], 'v_flip'),
        ('w7', ['h', 'v', 'h_flip', 'v_flip'], 'h'),
        ('w2_flip', ['h', 'v', 'h_flip', 'v_flip'], 'h_flip'),
        ('w7', ['h', 'w2_flip'], 'w2_flip'),
        ('w3', ['w7', 'w2'], 'w2'),
        ('h_flip', ['w2_flip', 'w7', 'v_flip'], 'w7'),
        ('v_flip', ['h', 'h_flip'], 'h_flip'),
        ('w2', ['v_flip', 'v'], 'v'),
    ],
)
def test_the_nearest_direction(name, candidates, wanted):
    assert nearest_direction(name, candidates) == wanted
