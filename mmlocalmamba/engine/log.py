"""Brings what the package's own logger says into MMEngine's log: to the screen and into the work dir."""

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
