"""Every Mixture-of-Experts architecture of transformers as a tiny random model."""

from dataclasses import dataclass, field

WIDTHS = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "intermediate_size", "ffn_hidden_size", "d_ff"), 32),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 32),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "router_hidden_size", "index_head_dim"), 16),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("head_dim", "d_kv", "kv_channels", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_d_state", "mamba_head_dim", "ssm_state_size", "mamba_chunk_size"), 8),
}
NUMBERS = {
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "num_heads", "num_key_value_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("num_hidden_layers", "n_layers", "num_layers", "num_decoder_layers"), 4),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 4),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "index_topk"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 8),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "moe_top_k", "top_k_experts", "n_group"), 2),
    **dict.fromkeys(("linear_num_key_heads", "index_n_heads", "zero_expert_num", "mamba_d_conv"), 2),
    **dict.fromkeys(("topk_group", "first_k_dense_replace", "n_shared_experts", "mamba_n_groups", "n_groups"), 1),
    **{"vocab_size": 99, "unpadded_vocab_size": 99, "max_position_embeddings": 64, "max_seq_len": 64},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
SIZES = {**WIDTHS, **NUMBERS}
HYBRID = ["linear_attention", "full_attention"] * 2


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How a tiny model is made: the class, its configuration, what differs from SIZES, and what `record` is told."""

    model: str
    config: str
    changes: dict = field(default_factory=dict)
    routers: str | None = None
    generates: bool = True


def sections(*sizes):
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(sizes)}


def architecture(model, config=None, *, routers=None, generates=None, **changes):
    config = config or f"{model.removesuffix('ForCausalLM').removesuffix('ForConditionalGeneration')}Config"
    generates = model.endswith(("ForCausalLM",)) if generates is None else generates
    return Architecture(model=model, config=config, changes=changes, routers=routers, generates=generates)


ARCHITECTURES = {
    entry.model: entry
    for entry in [
        architecture("AfmoeForCausalLM"),
        architecture("AriaTextForCausalLM"),
        architecture("AXK1ForCausalLM"),
        architecture("AXK2ForCausalLM"),
        architecture("BailingHybridForCausalLM", layer_types=HYBRID, n_group=1, num_experts_per_tok=2),
        architecture("BeamForCausalLM"),
        architecture("Cohere2MoeForCausalLM"),
        architecture("DbrxForCausalLM", attn_config={"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}),
        architecture(
            "DeepseekOcr2TextModel",
            "DeepseekOcr2TextConfig",
            num_experts_per_tok=2,
            mlp_layer_types=["dense", *["sparse"] * 3],
        ),
        architecture("DeepseekV2ForCausalLM", num_experts_per_tok=2),
        architecture("DeepseekV3ForCausalLM"),
        architecture("DeepseekV32ForCausalLM"),
        architecture("DeepseekV4ForCausalLM"),
        architecture(
            "DiffusionGemmaEncoderTextModel",
            "DiffusionGemmaTextConfig",
            num_experts=8,
            top_k_experts=2,
            moe_intermediate_size=16,
        ),
        architecture("Dots1ForCausalLM", n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2),
        architecture(
            "Dots3NoteForCausalLM",
            "Dots3NoteTextConfig",
            swa_num_attention_heads=4,
            swa_num_key_value_heads=4,
            swa_q_lora_rank=16,
            swa_kv_lora_rank=16,
        ),
        architecture("Ernie4_5_MoeForCausalLM"),
        architecture(
            "Ernie4_5_VLMoeTextModel",
            "Ernie4_5_VLMoeTextConfig",
            routers="layers.*.mlp.text_moe.gate",
            rope_parameters=sections(1, 1, 2),
        ),
        architecture("ExaoneMoeForCausalLM"),
        architecture("FlexOlmoForCausalLM"),
        architecture("FlintForCausalLM"),
        architecture(
            "Gemma4ForCausalLM",
            "Gemma4TextConfig",
            enable_moe_block=True,
            num_experts=8,
            top_k_experts=2,
            moe_intermediate_size=16,
            vocab_size_per_layer_input=99,
        ),
        architecture("Glm4MoeForCausalLM"),
        architecture("Glm4MoeLiteForCausalLM"),
        architecture("Glm4vMoeTextModel", "Glm4vMoeTextConfig", rope_parameters=sections(1, 1, 0)),
        architecture("Glm5NextTextModel", "Glm5NextTextConfig", index_topk=16, qk_rope_head_dim=0),
        architecture("GlmMoeDsaForCausalLM"),
        architecture("GptOssForCausalLM"),
        architecture("GraniteMoeForCausalLM"),
        architecture("GraniteMoeHybridForCausalLM", layer_types=HYBRID),
        architecture("GraniteMoeSharedForCausalLM"),
        architecture("GraniteMoeSWAForCausalLM"),
        architecture("HunYuanMoEV1ForCausalLM", head_dim=8),
        architecture("HYV3ForCausalLM"),
        architecture("HYV4ForCausalLM"),
        architecture("HYV4VLTextModel", "HYV4VLTextConfig", rope_parameters=sections(2, 1, 1)),
        architecture("InklingForCausalLM", "InklingTextConfig"),
        architecture("Inkling2ForCausalLM", "Inkling2TextConfig"),
        architecture("Inkling2LoopForCausalLM", "Inkling2LoopTextConfig"),
        architecture("JambaForCausalLM", attn_layer_period=2, attn_layer_offset=1),
        architecture("JetMoeForCausalLM", routers="model.layers.*.mlp.router"),
        architecture("KimiLinearForCausalLM", layer_types=HYBRID),
        architecture("Kimi_K25ForConditionalGeneration"),
        architecture("Kolibri1ForCausalLM"),
        architecture("LagunaForCausalLM"),
        architecture("LaraMiniForCausalLM"),
        architecture("Lfm2MoeForCausalLM", layer_types=["conv", "full_attention"] * 2),
        architecture("Llama4ForCausalLM", "Llama4TextConfig"),
        architecture("LongcatFlashForCausalLM"),
        architecture("MellumForCausalLM"),
        architecture("MiMoV2FlashForCausalLM", num_key_value_heads=2),
        architecture("MiniMaxForCausalLM"),
        architecture("MiniMaxM2ForCausalLM"),
        architecture("MiniMaxM3VLForCausalLM", "MiniMaxM3VLTextConfig"),
        architecture("Mistral4ForCausalLM", head_dim=16),
        architecture("MistralLarge4TextModel", "MistralLarge4TextConfig"),
        architecture("MixtralForCausalLM"),
        architecture("MuseSparkTextModel", "MuseSparkTextConfig"),
        architecture("NemotronHForCausalLM"),
        architecture("NllbMoeForConditionalGeneration", "NllbMoeConfig", routers="model.decoder.*"),
        architecture("OlmoeForCausalLM"),
        architecture("OpenAIPrivacyFilterForTokenClassification", "OpenAIPrivacyFilterConfig"),
        architecture("PhimoeForCausalLM"),
        architecture("Qwen2MoeForCausalLM"),
        architecture("Qwen3MoeForCausalLM"),
        architecture("Qwen3NextForCausalLM"),
        architecture("Qwen3_5MoeForCausalLM", "Qwen3_5MoeTextConfig"),
        architecture("Qwen3OmniMoeThinkerTextModel", "Qwen3OmniMoeTextConfig"),
        architecture("Qwen3VLMoeForConditionalGeneration"),
        architecture(
            "Qwen4ExpForCausalLM",
            "Qwen4ExpTextConfig",
            indexer_n_heads=2,
            indexer_kv_heads=1,
            indexer_head_dim=8,
            indexer_budget=16,
            indexer_compress_ratio=4,
        ),
        architecture("SolarOpenForCausalLM"),
        architecture("Step3p7TextModel", "Step3p7TextConfig", sliding_window=8),
        architecture("SwitchTransformersForConditionalGeneration", "SwitchTransformersConfig", routers="decoder.*"),
        architecture("UnlimitedOcrTextModel", "UnlimitedOcrTextConfig"),
        architecture("ZayaForCausalLM", num_experts_per_tok=1),
    ]
}


def find(name):
    """Return a class of transformers, also one that it does not show at its top."""
    import importlib
    import pkgutil

    import transformers

    if hasattr(transformers, name):
        return getattr(transformers, name)
    for folder in pkgutil.iter_modules(transformers.models.__path__):
        if name.lower().startswith(folder.name.replace("_", "").lower()):
            for kind in ("modeling", "configuration"):
                module = importlib.import_module(f"transformers.models.{folder.name}.{kind}_{folder.name}")
                if hasattr(module, name):
                    return getattr(module, name)
    raise LookupError(name)


def small(kind, **changes):
    """Return a configuration of the class `kind` with SIZES, and those of its parts."""
    from transformers import PreTrainedConfig

    default, given = kind(), {}
    for name, value in default.to_dict().items():
        if isinstance(value, dict) and isinstance(getattr(default, name, None), PreTrainedConfig):
            given[name] = small(type(getattr(default, name)))
        elif name in SIZES and value is not None and not isinstance(value, list | dict):
            given[name] = SIZES[name]
    return kind(**{**given, **changes})


def tiny_model(entry):
    """Return the model of an architecture, random but always the same."""
    import torch

    torch.manual_seed(0)
    return find(entry.model)(small(find(entry.config), **entry.changes)).eval()
