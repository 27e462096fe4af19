# Mask R-CNN, ResNet-50, COCO 2017, 1x: 44 M parameters, 260 G FLOPs at 1280 x 800.
# Reproduces: paper table 3, 1x, ResNet-50. Published: 38.2 box AP, 34.7 mask AP. Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# The published figure is of training with SGD; this is LocalVMamba's recipe.
# Total batch 16 (8 GPUs x 2), 12 epochs, AdamW lr 1e-4, wd 0.05, no drop path, seed 42.
_base_ = ['../mask_rcnn_localvmamba_t_1x.py']
pretrained = 'torchvision://resnet50'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
