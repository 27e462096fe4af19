"""The backbones: LocalVMamba and VMamba (hierarchical), LocalVim and Vim (plain)."""

from .local_vim import LocalVim
from .local_vmamba import LocalVMamba
from .vim import Vim
from .vmamba import VMamba

__all__ = ['LocalVMamba', 'LocalVim', 'VMamba', 'Vim']
