# Direction search with 2 of the 8 branches of each block computed per step, drawn by their probabilities: less memory.
# Our addition: the paper (4.2, scalability) names single-path sampling and leaves it open. No published figure.
_base_ = ['./local_vim_search.py']
custom_hooks = [
    dict(type='mmlocalmamba.DirectionSearchHook', interval=500, num_sampled=2),
    dict(type='mmlocalmamba.NonFiniteHook'),
]
