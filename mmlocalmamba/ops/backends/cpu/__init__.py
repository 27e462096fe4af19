"""The back end on the CPU: the kernel library that setup.py builds where there is a C++ compiler."""

from .library import BrokenLibraryError, Library, MissingLibraryError, library, load_library

__all__ = ['BrokenLibraryError', 'Library', 'MissingLibraryError', 'library', 'load_library']
