"""Attention with a bias, and inside windows only, by Triton kernels for CUDA.

Read windows/tile_schedule.py first (how the work is cut), then window_bias_kernels.py.
Only kernel_choice.py and kernel_sizes.py can be imported without Triton.
May import windows/.
"""
