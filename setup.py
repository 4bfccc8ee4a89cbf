"""Packaging of ft_jax: what is installed, and what each optional part needs.

Lower bounds stand here; the exact versions that were seen working together stand in
constraints-py311.txt and constraints-py312.txt, one file per Python, and the Makefile installs
with them. Tool settings live in pyproject.toml, which has no [project] table on purpose: one place
says what the package is.
"""

from setuptools import find_packages, setup

REQUIRES = [
    # the method
    "jax>=0.10.2",
    "flax>=0.12.8",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "tensorstore>=0.1.86",
    "ml-collections>=1.1.0",
    "absl-py>=2.5",
    "etils[epath]>=1.15.0",
    "ml-dtypes>=0.6",
    "jaxtyping>=0.3.11",
    "safetensors>=0.8.0",
    "numpy>=2.4",
    "scipy>=1.17",
    "transformers>=5.23",  # tokenizers only; the encoders are our own
    "ftfy>=6.3",  # cleans prompts as the released text encoder's were
    # pictures, sound, video
    "pillow>=12.3",
    "av>=18.1",
    "librosa>=0.11",
    "soundfile>=0.14",
    "soxr>=1.1",
    # 5.x dropped the cascades of the face detector from the wheel.
    "opencv-python-headless>=4.13,<5",
    # data, and numbers of a run
    "grain>=0.2.18",
    "array-record>=0.8.6",
    "tensorflow-datasets>=4.9.10",
    "importlib_resources",  # tensorflow-datasets imports it without declaring it
    "protobuf<7",
    "tensorboardX>=2.6.5",  # event files without TensorFlow
    "tqdm>=4.66",
]

EXTRAS = {
    # The drawn world's text-to-speech. espeak-ng is GPL-3.0: a tool that makes training data,
    # loaded on request, never imported by ft_jax and never part of what is shipped.
    "world": ["espeakng-loader>=0.2.4"],
    # Published weights that are not safetensors.
    "convert": ["torch==2.13.0", "onnx>=1.23"],
    # Reference implementations that the parity tests compare with.
    "parity": ["torch==2.13.0", "diffusers>=0.42"],
    "dev": [
        "basedpyright>=1.40",
        "beartype>=0.22",
        "pytest>=9.2",
        "pytest-xdist>=3.8",
        "PyYAML>=6.0",
        "ruff>=0.17",
        "setuptools>=84",
    ],
    # A frozen base in eight bits (--config.frozen_dtype=int8).
    "int8": ["qwix>=0.1.8"],
    # Runs and weights at gs://; google-cloud-storage, which Orbax asks too, comes with it.
    "gcs": ["gcsfs>=2026.10.1", "fsspec>=2026.9.0"],
    "tpu": ["jax[tpu]"],
    # The compiler for TPUs, for machines without one (python -m ft_jax.cli.plan). Beside it, plain
    # jax looks for a TPU at every start, unless JAX_PLATFORMS=cpu; so nothing else installs it.
    "plan": ["libtpu>=0.0.42"],
    "gpu": ["jax[cuda12]"],
}

setup(
    name="ft_jax",
    version="0.1.0",
    description="FantasyTalking in JAX and Flax: a portrait and speech become a talking clip",
    url="https://arxiv.org/abs/2504.04842",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["ft_jax*", "data_pipeline*", "configs*"]),
    package_data={"ft_jax": ["assets/*"], "data_pipeline.world": ["assets/*"]},
    entry_points={"console_scripts": ["ft-jax = ft_jax.cli.__main__:main"]},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
)
