"""How the scan's kernels divide their work: the settings, and the rule that chooses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from ...scan_inputs import ScanInputs

CHUNK = 64
"""Steps of a scan after which the forward keeps a state for the backward."""

MULTIPROCESSORS = 108
"""How many there are taken to be where there is no GPU to ask: those of an A100."""

SHORTEST_SEGMENT = 2 * CHUNK
"""Fewest steps of a segment. A segment walks over all that come before it, so that short ones would be mostly that."""

WARPS = 8
"""Warps that each multiprocessor should have; with fewer, it waits for memory. Then scans are cut into segments."""


@dataclass(frozen=True)
class ScanSettings:
    """How the kernels divide a scan.

    Attributes:
        forward_channels: Channels of a program of the forward kernel: 16 for each of its warps, at least 16.
        forward_warps: Its warps.
        forward_programs: Most programs of it for each multiprocessor. Each has a small buffer, and takes up the next
            piece of work when it is done with one.
        backward_channels: Channels of a program of the backward kernels: 16 for each of its warps, at least 16.
        backward_warps: Their warps.
        backward_programs: Most programs of them for each multiprocessor: as many as fit.
        num_stages: How many iterations Triton overlaps in loops. The kernels fetch ahead themselves.
        tile: Tokens whose step sizes are computed at once: 16 or more, a power of two, at most ``CHUNK``.
        segments: Pieces into which each scan is cut; a forward of several computes everything twice.
        segments_backward: The same for the backward; several add half as much again to its work.
    """

    forward_channels: int = 32
    forward_warps: int = 2
    forward_programs: int = 64
    backward_channels: int = 16
    backward_warps: int = 1
    backward_programs: int = 8
    num_stages: int = 1
    tile: int = 16
    segments: int = 1
    segments_backward: int = 1


SettingsRule = Callable[[ScanInputs], ScanSettings]


def multiprocessors(device: torch.device) -> int:
    """Return how many multiprocessors a device has."""
    if device.type != 'cuda':
        return MULTIPROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count


def default_settings(inputs: ScanInputs) -> ScanSettings:
    """Choose settings from the size of the scan and the number of multiprocessors: one segment where that fills them."""
    batch, (directions, channels, _) = inputs.u.shape[0], inputs.A.shape
    settings = ScanSettings()

    def segments(width: int, warps: int) -> int:
        present = batch * directions * -(-channels // width) * warps
        return _segments(inputs.order.shape[1], present, multiprocessors(inputs.u.device))

    return ScanSettings(
        segments=segments(settings.forward_channels, settings.forward_warps),
        segments_backward=segments(settings.backward_channels, settings.backward_warps),
    )


@lru_cache(maxsize=1024)
def _segments(length: int, warps: int, processors: int) -> int:
    """Choose how many segments there should be, where one segment each gives ``warps`` warps."""
    if warps == 0 or 2 * warps >= processors * WARPS:  # twice the work would not be worth it
        return 1
    wanted = -(-processors * WARPS // warps)
    # At least as many steps in a segment as twice the segments whose states are added up before it.
    most = min(length // SHORTEST_SEGMENT, int((length / 2) ** 0.5))
    return max(1, min(wanted, most))


def settings_for(inputs: ScanInputs) -> ScanSettings:
    """Give the settings for a scan, from the rule in force."""
    return _rule(inputs)


def set_rule(rule: SettingsRule | None) -> None:
    """Let another rule choose the settings of all scans from now on: what a tuner calls.

    The forward and the backward of a scan ask separately and need not get the same.

    Args:
        rule: Gives the settings for a scan. None: :func:`default_settings`.
    """
    global _rule
    _rule = rule or default_settings


_rule: SettingsRule = default_settings
