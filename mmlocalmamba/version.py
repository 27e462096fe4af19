"""The version of the package, and of the packages it works with; nothing else is imported here (setup.py reads it)."""

__version__ = '0.1.0'

# Distribution names (several may provide one import name) -> (lowest version that works, first one that does not).
SUPPORTED: dict[tuple[str, ...], tuple[str, str]] = {
    ('torch',): ('2.4', '3'),
    ('onedl-mmengine', 'mmengine'): ('0.10.4', '1'),
    ('onedl-mmcv', 'mmcv', 'mmcv-lite'): ('2.1.0', '3'),
    ('onedl-mmdetection', 'mmdet'): ('3.3.0', '4'),
    ('onedl-mmsegmentation', 'mmsegmentation'): ('1.2.2', '2'),
}
