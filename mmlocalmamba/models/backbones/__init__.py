"""The backbones: LocalVMamba and VMamba (hierarchical), LocalVim and Vim (plain); ConvNeXt, to compare with."""

from .convnext import ConvNeXt
from .local_vim import LocalVim
from .local_vmamba import LocalVMamba
from .vim import Vim
from .vmamba import VMamba

__all__ = ['ConvNeXt', 'LocalVMamba', 'LocalVim', 'VMamba', 'Vim']
