"""The released FantasyTalking weights (speech branch) <-> `audio/...`.

Pass `{"audio": params["audio"]}`. `OFFICIAL` is the `.safetensors` form, and also the `.ckpt` form
once its two dictionaries are joined by their names (`proj_model.`, `audio_processor.`); `COMFYUI`
is the community's single file. All 2 layers + 3 tensors are demanded: the official loader ignores a
misspelt one, and the lips stay still.

Tests: tests/models/audio_test.py (released sizes), tests/parity/dit_parity_test.py.
"""

from ft_jax.convert.table import LINEAR, Row, Table
from ft_jax.models.audio import Config

_PROJECTOR = (
    Row("proj_model.proj.weight", "audio/projector/kernel", LINEAR),
    Row("proj_model.norm.weight", "audio/norm/scale"),
    Row("proj_model.norm.bias", "audio/norm/bias"),
)
_OFFICIAL = "audio_processor.blocks.{n}.cross_attn.processor"
_COMFYUI = "blocks.{n}.cross_attn"


def _rows(prefix: str) -> tuple[Row, ...]:
    return (
        *_PROJECTOR,
        Row(f"{prefix}.k_proj.weight", "audio/key/kernel", LINEAR),
        Row(f"{prefix}.v_proj.weight", "audio/value/kernel", LINEAR),
    )


OFFICIAL = Table("FantasyTalking speech branch, official names", _rows(_OFFICIAL))
COMFYUI = Table("FantasyTalking speech branch, ComfyUI names", _rows(_COMFYUI))


def metadata(cfg: Config) -> dict[str, str]:
    """How the weights hear, for the metadata of a file of ours; published files have the default's.

    Tests: tests/parity/torch_addon_parity_test.py.
    """
    return {
        "audio.clip": cfg.clip,
        "audio.padding": cfg.padding,
        "audio.silence": cfg.silence,
    }
