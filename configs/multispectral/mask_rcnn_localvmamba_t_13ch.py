# Mask R-CNN, LocalVMamba-T, images of 13 bands and 16 bits: a recipe for one's own data, on generated ones.
# Reproduces: nothing that was published.
# Starts from: scratch; --cfg-options pretrained=<file or URL> takes ImageNet weights, adapted from RGB to 13 channels.
# Total batch 16 (8 GPUs x 2), 12 epochs, AdamW lr 1e-4, wd 0.05, drop path 0.2, seed 42.
_base_ = [
    '../_base_/models/mask_rcnn_localvmamba.py',
    '../_base_/datasets/multispectral_instance.py',
    '../_base_/schedules/det_1x.py',
    '../_base_/det_runtime.py',
]
pretrained = None
data_preprocessor = dict(
    _delete_=True,
    type='mmlocalmamba.MultispectralDataPreprocessor',
    data_preprocessor=dict(type='DetDataPreprocessor', pad_mask=True, pad_size_divisor=32),
    mean=[0.474, 0.474, 0.475, 0.476, 0.478, 0.480, 0.482, 0.487, 0.493, 0.501, 0.508, 0.514, 0.518],
    std=[0.212, 0.205, 0.199, 0.197, 0.199, 0.204, 0.205, 0.201, 0.193, 0.189, 0.191, 0.198, 0.206],
    scale=10000,
)
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(in_channels=13),
    roi_head=dict(bbox_head=dict(num_classes=6), mask_head=dict(num_classes=6)),
)
