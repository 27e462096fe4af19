"""Brings what the package's own logger says into MMEngine's log: to the screen and into the work dir."""

import io
import logging

from mmengine.logging import MMLogger


class _ToMMEngine(logging.Handler):
    """Passes records on to whichever MMEngine logger is current."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record over."""
        MMLogger.get_current_instance().handle(record)


def forward_log() -> None:
    """Send the logger ``mmlocalmamba`` (messages of level INFO and above) to MMEngine's, once per process."""
    logger = logging.getLogger('mmlocalmamba')
    if any(isinstance(handler, _ToMMEngine) for handler in logger.handlers):
        return
    logger.addHandler(_ToMMEngine())
    logger.setLevel(logging.INFO)
    logger.propagate = False


def write_utf8(logger: logging.Logger) -> None:
    """Let a logger's files hold any path: MMEngine opens them in the locale's encoding, which may be ASCII."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler) and isinstance(handler.stream, io.TextIOWrapper):
            handler.stream.reconfigure(encoding='utf-8', errors='surrogateescape')  # as Python reads paths
