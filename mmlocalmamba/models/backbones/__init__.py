"""The backbones: LocalVMamba (hierarchical) and LocalVim (plain)."""

from .local_vim import LocalVim
from .local_vmamba import LocalVMamba

__all__ = ['LocalVMamba', 'LocalVim']
