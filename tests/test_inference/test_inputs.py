from pathlib import Path

import pytest

from mmlocalmamba.inference.inputs import find_sources


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ('b.jpg', 'a.PNG', 'deep/c.tif', 'deep/film.mp4', 'notes.txt', 'out/overlays/b.jpg'):
        path = tmp_path / 'photos' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / 'photos'


def test_a_folder_gives_what_is_in_it_and_below_but_not_the_results(photos) -> None:
    sources = find_sources('photos', leave_out=Path('photos/out'))

    assert [source.name for source in sources] == ['a.PNG', 'b.jpg', 'deep/c.tif', 'deep/film.mp4']
    assert [source.stem for source in sources] == ['a', 'b', 'deep/c', 'deep/film']
    assert [source.is_video for source in sources] == [False, False, False, True]


def test_a_pattern_matches_files_alone(photos) -> None:
    assert [source.name for source in find_sources('photos/*.jpg')] == ['b.jpg']
    assert [source.name for source in find_sources('photos/**/c*')] == ['c.tif']
    assert [source.name for source in find_sources('photos/*', leave_out=Path('other'))] == ['a.PNG', 'b.jpg']


def test_a_file_may_have_any_suffix(photos) -> None:
    assert [source.name for source in find_sources('photos/notes.txt')] == ['notes.txt']


def test_pictures_that_differ_in_their_suffix_keep_it(photos) -> None:
    (photos / 'b.png').touch()

    assert [source.stem for source in find_sources('photos/b.*')] == ['b.jpg', 'b.png']


def test_what_is_not_there_is_named(photos) -> None:
    with pytest.raises(FileNotFoundError, match=r"'pictures' is neither a file nor a folder"):
        find_sources('pictures')


def test_a_folder_without_pictures_says_what_counts(photos) -> None:
    with pytest.raises(ValueError, match=r'holds 1 files, none of them a picture \(.bmp'):
        find_sources('photos/*.txt')
