"""Analysis of models: their parameters and FLOPs, what their gates do, and pictures of them and of their runs."""

from .gates import GateRecord, record_gates

__all__ = ['GateRecord', 'record_gates']
