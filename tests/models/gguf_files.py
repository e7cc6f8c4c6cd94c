"""GGUF files of a tiny model, written by the package ``gguf`` as llama.cpp's converter would."""

import json

import numpy as np
import torch


def write_gguf(
    policy, path, kind="F32", *, architecture="llama", edit=None, tensors=None, template=None, vocabulary=True
):
    """Write ``policy``, a tiny Llama, to ``path``; matrices as ``kind``, whatever else in float32.

    Args:
        policy: An opened policy.
        path: The file.
        kind: Storage type of the matrices.
        architecture: What the file says that it is.
        edit: Called with the writer, to add further metadata.
        tensors: Called with the dict of arrays by name, to change it.
        template: Chat template.
        vocabulary: Whether the tokenizer is written.
    """
    import gguf

    config = policy.model.config
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name("tiny")
    writer.add_license("apache-2.0")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    if vocabulary:
        _write_vocabulary(writer, policy, template)
    if edit is not None:
        edit(writer)
    arrays = weights(policy)
    if tensors is not None:
        tensors(arrays)
    stored = gguf.GGMLQuantizationType[kind]
    for name, array in arrays.items():
        if array.ndim == 2 and kind != "F32":
            writer.add_tensor(name, gguf.quantize(array, stored), raw_dtype=stored)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def weights(policy):
    """The policy's weights by ggml's names, rotary halves interleaved as llama.cpp wants them."""
    config, arrays = policy.model.config, {}
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for name, tensor in policy.model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.detach().float().numpy()
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part in name:
                array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        plain = name.removesuffix(".weight").replace("model.layers.", "blk.")
        for theirs, ggml in names.items():
            plain = plain.replace(theirs, ggml)
        arrays[f"{plain}.weight"] = np.ascontiguousarray(array)
    return arrays


def dequantised(policy, kind):
    """Weights of ``policy`` as they are after a stay in ``kind``."""
    import gguf

    stored = gguf.GGMLQuantizationType[kind]
    state = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    for name, tensor in state.items():
        if tensor.ndim == 2:
            state[name] = torch.from_numpy(gguf.dequantize(gguf.quantize(tensor.numpy(), stored), stored))
    return state


def _write_vocabulary(writer, policy, template):
    import gguf

    tokenizer = policy.tokenizer
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    size = policy.model.config.vocab_size
    names = {index: token for token, index in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([names.get(i, f"[PAD{i}]") for i in range(size)])
    writer.add_token_types([control if i in special or i not in names else normal for i in range(size)])
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]])
    writer.add_add_bos_token(False)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if template is not None:
        writer.add_chat_template(template)
