"""Every setting of a training run; the other files say what differs.

    :mini        the model that ships with the package, trained on two CPU cores
    :tiny        seconds; the sizes of the tests
    :wan_1_3b    Wan2.1 T2V-1.3B as the base
    :wan_14b     Wan2.1 I2V-14B as the base (also without an argument)

Groups: `task` belongs to the stage (its Config in ft_jax/training/stages), `model` is the system
(configs/models.py), the rest is read by ft_jax/training/loop.py and ft_jax/cli/train.py.
"""

from ml_collections import ConfigDict

from configs import models

SMALL = ("mini", "tiny")
SIZES = {
    "": "wan_14b",
    "mini": "mini",
    "tiny": "tiny",
    "wan_14b": "wan_14b",
    "wan_1_3b": "wan_1_3b",
}


def get_config(arg: str = "") -> ConfigDict:
    """Settings that most phases share, at the size `arg`."""
    c = ConfigDict()
    is_small, is_tiny = arg in SMALL, arg == "tiny"

    c.stage = ""  # which loss on what: a key of ft_jax/training/stages KINDS
    c.train = "full"  # what learns: adapter | lora | full, a row of optim.groups
    c.seed = 0  # of weights, data order and every draw
    c.num_steps = 4 if is_tiny else 1000
    c.init_from = ""  # an earlier run, RUN/checkpoints/STEP or /best, or other weights
    c.init_require = ""  # regex of the parameters that init_from must have
    c.frozen_dtype = "float32" if is_small else "bfloat16"  # or int8; "" keeps the stored type

    c.model = models.get_config(SIZES.get(arg, arg))
    c.task = ConfigDict()  # settings of the stage itself

    c.data = ConfigDict()
    c.data.path = ""  # folder made by data_pipeline.build; several, of any shapes: with commas
    c.data.weights = ()  # share of the samples from each folder; () by their sizes
    c.data.held_out = ""  # the same, of people and speech that are never trained on; "" for none
    c.data.held_out_batches = 1 if is_tiny else 4
    c.data.batch_size = 2 if is_tiny else (16 if is_small else 64)  # over all hosts
    c.data.cache = is_small  # keep records in memory
    c.data.threads = 0 if is_tiny else 2
    c.data.prefetch = 4

    c.optim = ConfigDict()
    c.optim.groups = ConfigDict()  # (regex, rate multiplier); first match wins; 0 freezes
    c.optim.groups.full = ((".*", 1.0),)
    c.optim.b1 = 0.9
    c.optim.b2 = 0.99 if is_small else 0.999
    c.optim.eps = 1e-8
    c.optim.weight_decay = 1e-2
    c.optim.clip_norm = 1.0
    c.optim.accumulate = 1  # micro-batches of one step
    c.optim.ema = 0.998 if is_small else 0.9999  # 0 keeps no average
    c.optim.schedule = ConfigDict()
    c.optim.schedule.kind = "cosine"  # constant | cosine, both after a linear warm-up
    c.optim.schedule.rate = 1e-3 if is_small else 1e-4
    c.optim.schedule.warmup_steps = 1 if is_tiny else (100 if is_small else 500)
    c.optim.schedule.final_rate = 1e-5

    c.mesh = ConfigDict()  # sizes of the axes; -1 takes what is left
    c.mesh.data = -1
    c.mesh.fsdp = 1
    c.mesh.context = 1
    c.mesh.tensor = 1
    c.mesh.rules = "fsdp"  # a table of ft_jax/sharding/rules.py

    c.every = ConfigDict()  # steps; 0 means never
    c.every.log = 1 if is_tiny else (20 if is_small else 50)
    c.every.evaluate = 2 if is_tiny else 500
    c.every.save = 2 if is_tiny else 250
    c.every.keep = 2  # newest checkpoints that stay
    c.every.keep_every = 0  # and those of every so many steps, a multiple of save
    c.every.best = ""  # and the one with the lowest held-out metric of this name ("loss")
    c.watch = watch()
    return c


def watch() -> ConfigDict:
    """What is looked at while a run goes on, and put up with (ft_jax/training/watch.py)."""
    c = ConfigDict()
    c.bad_steps = 3  # steps in a row that may be not finite; they change nothing
    c.hang_seconds = 600.0  # without a step, after which all stacks are written; 0: never
    c.profile = (0, 0)  # steps from the first to before the second; equal: none
    c.tensorboard = True
    c.wandb = ""  # project of Weights & Biases (pip install wandb); "": none
    c.preview = ConfigDict()  # clips in WORKDIR/previews, for stages that train a denoiser
    c.preview.every = 0  # steps; 0: none
    c.preview.picture = ""  # file of a portrait
    c.preview.speech = ""  # file of a recording
    c.preview.prompt = "A person talks to the camera."
    c.preview.weights = ""  # bundle of the encoders; "": the one that ships
    c.preview.hearing = "clip"  # "frame" for stage 2
    return c
