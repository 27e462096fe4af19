# Direction search on a detection task: the supernet of a micro LocalVMamba in Mask R-CNN, on the generated demo data.
# A pattern for one's own task: a detector's config, all candidates in every block, search=True and the hook.
# Total batch 8 (1 process x 8), 12 epochs, AdamW lr 1e-3 (alpha 1e-2), wd 0.05, drop path 0.0, seed 42.
# No published figure. Measured with padding=scan: 46.5 box AP, 47.2 mask AP; the searched model, trained for as long
# from the exported weights, 46.9 and 48.3.
# See docs/search.md. Export afterwards:
#   python tools/search/export_directions.py configs/search/mask_rcnn_localvmamba_micro_shapes_search.py <checkpoint>
_base_ = ['../demo/mask_rcnn_localvmamba_micro_shapes.py']
candidates = ['h', 'h_flip', 'v', 'v_flip', 'w2', 'w2_flip', 'w7', 'w7_flip']
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, dims=[32, 64, 128, 256], depths=[1, 1, 2, 1], directions=[candidates] * 5),
        search=True,
    )
)
# A short training moves alpha too little at the weights' rate: AdamW's steps are about as long as the rate.
optim_wrapper = dict(paramwise_cfg=dict(lr_mult={'merge.alpha': 10.0}))
custom_hooks = [dict(type='mmlocalmamba.DirectionSearchHook', interval=10), dict(type='mmlocalmamba.NonFiniteHook')]
