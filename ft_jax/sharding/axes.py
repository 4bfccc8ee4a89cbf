"""The closed list of logical axis names: what a dimension means, before any mesh exists.

Parameters carry bare names, activations names that begin with ``act_``. `rules.py` says to which
mesh axis each one goes; a name that is not in this list is an error, never a silent replication.
"""

PARAMETER_AXES = {
    "layers": "stacked blocks; the axis that `nn.scan` runs over, never sharded",
    "embed": "model width",
    "heads": "all heads of an attention together (heads x head width)",
    "mlp": "hidden width of a feed-forward network",
    "context_embed": "width of what is attended to: text, image, audio or identity tokens",
    "vocab": "rows of a token table",
    "conv_in": "input channels of a convolution",
    "conv_out": "output channels of a convolution",
    "norm": "the vector of a normalisation or a bias; always replicated",
    "spatial": "rows of a table of positions; always replicated",
}
ACTIVATION_AXES = {
    "act_batch": "samples",
    "act_seq": "video tokens; whole spatial positions, so that a position keeps all its frames",
    "act_rows": "rows of a picture, in pixels or latents; neighbours exchange their edges",
    "act_embed": "width of the residual stream",
    "act_heads": "attention heads",
    "act_mlp": "hidden width of a feed-forward network",
    "act_context": "tokens of text, image, audio or identity",
    "act_head_dim": "width of one head; never sharded",
}
AXES = frozenset(PARAMETER_AXES) | frozenset(ACTIVATION_AXES)
