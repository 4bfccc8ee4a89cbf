"""A trained system at work: conditions -> latents -> frames, for clips of any length.

sampler.py      the denoising loop, for one batch of windows
long_video.py   how a long clip is cut into windows and put together again
pipeline.py     picture + speech + prompt -> frames
"""
