# UperNet, ResNet-50, ADE20K: 67 M parameters, 953 G FLOPs at 512 x 2048.
# Reproduces: paper table 4, ResNet-50. Published: 42.1 mIoU single-scale, 42.8 multi-scale + flip (--tta of
# tools/test.py). Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# The published figure is of training with SGD; this is LocalVMamba's recipe.
# Total batch 16 (8 GPUs x 2), 160,000 iterations of 512 x 512, AdamW lr 6e-5, wd 0.01, no drop path, seed 42.
_base_ = ['../upernet_localvmamba_t_160k_ade20k.py']
pretrained = 'open-mmlab://resnet50_v1c'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNetV1c',
        depth=50,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint=pretrained),
    ),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
