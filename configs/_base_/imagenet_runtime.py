default_scope = 'mmengine'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='mmlocalmamba.AtomicCheckpointHook',
        interval=1,
        max_keep_ckpts=3,
        save_best='accuracy/top1',
        rule='greater',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    resume=dict(type='mmlocalmamba.ResumeHook'),
    iteration_seed=dict(type='mmlocalmamba.IterationSeedHook'),
    num_classes=dict(type='mmlocalmamba.NumClassesHook'),
)
# EMA with decay 0.9999 per update, which rises from 0, so that short runs have an average too: what is evaluated, and
# saved under 'state_dict', are the averaged weights. Detectors start from those; the last ones are under
# 'ema_state_dict'. It averages in every iteration, so where gradients are accumulated over n iterations,
# custom_hooks.0.interval=n keeps the decay per update.
custom_hooks = [
    dict(type='EMAHook', ema_type='mmlocalmamba.WarmupEMA', momentum=0.0001, priority='ABOVE_NORMAL'),
    dict(type='mmlocalmamba.NonFiniteHook'),
]
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
randomness = dict(seed=42)
log_level = 'INFO'
load_from = None
resume = False
