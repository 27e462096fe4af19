import logging
from pathlib import Path

from mmlocalmamba.engine.log import write_utf8


def test_a_log_in_another_encoding_holds_any_path(tmp_path) -> None:
    logger = logging.Logger('a name')
    logger.addHandler(logging.FileHandler(tmp_path / 'run.log', encoding='ascii'))
    as_python_reads_it = 'ä.pth'.encode().decode('ascii', 'surrogateescape')

    write_utf8(logger)
    logger.warning('saved to %s', as_python_reads_it)
    logger.warning('saved to %s', 'ö.pth')

    assert Path(tmp_path / 'run.log').read_text(encoding='utf-8') == 'saved to ä.pth\nsaved to ö.pth\n'
