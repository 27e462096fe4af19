# 100 epochs of search, alpha trained with the weights (paper 4.2 and 5.1).
_base_ = ['./imagenet_300e.py']
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=20, end=100, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=100)
