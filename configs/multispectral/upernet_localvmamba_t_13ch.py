# UperNet, LocalVMamba-T, images of 13 bands and 16 bits: a recipe for one's own data, on generated ones.
# Reproduces: nothing that was published.
# Starts from: scratch; --cfg-options pretrained=<file or URL> takes ImageNet weights, adapted from RGB to 13 channels.
# Total batch 16 (8 GPUs x 2), 160,000 iterations of 512 x 512, AdamW lr 6e-5, wd 0.01, drop path 0.2, seed 42.
_base_ = [
    '../_base_/models/upernet_localvmamba.py',
    '../_base_/datasets/multispectral_semantic.py',
    '../_base_/schedules/seg_160k.py',
    '../_base_/seg_runtime.py',
]
pretrained = None
# MMEngine gives the variable of this name to the model of --tta.
data_preprocessor = dict(
    _delete_=True,
    type='mmlocalmamba.MultispectralDataPreprocessor',
    data_preprocessor=dict(type='SegDataPreProcessor', pad_val=0, seg_pad_val=255, size=(512, 512)),
    mean=[0.474, 0.474, 0.475, 0.476, 0.478, 0.480, 0.482, 0.487, 0.493, 0.501, 0.508, 0.514, 0.518],
    std=[0.212, 0.205, 0.199, 0.197, 0.199, 0.204, 0.205, 0.201, 0.193, 0.189, 0.191, 0.198, 0.206],
    scale=10000,
)
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(in_channels=13),
    decode_head=dict(num_classes=7),
    auxiliary_head=dict(num_classes=7),
)
