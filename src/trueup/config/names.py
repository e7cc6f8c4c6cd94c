"""Names that settings have in other tools and in courses, and what they are here.

From the documentation of TRL and transformers, axolotl, LLaMA-Factory, OpenRLHF, verl and peft. A name that is ours
too, only in another block, needs no line: it is looked for in all blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a foreign name is here: the first of ``paths`` that the method has, and what else there is to know."""

    paths: tuple[str, ...] = ()
    note: str = ""


_TABLE: tuple[tuple[str, str, str], ...] = (
    # names elsewhere, our settings in the order of preference, what else there is to know
    ("lr actor_learning_rate peak_lr initial_lr", "optim.learning_rate", ""),
    ("critic_learning_rate critic_lr", "optim.learning_rate", "one rate for both"),
    ("lr_scheduler_type lr_scheduler scheduler", "optim.schedule", ""),
    ("warmup_ratio lr_warmup_ratio lr_warmup_steps_ratio", "optim.warmup", "a share of all steps, as 0.1"),
    ("warmup_steps lr_warmup_steps num_warmup_steps", "optim.warmup", "a share of all steps, as 0.1"),
    ("min_lr_ratio min_lr_rate cosine_min_lr_ratio", "optim.final_fraction", ""),
    ("adam_beta1 adam_beta2 adam_betas", "optim.betas", "both, as [0.9, 0.95]"),
    ("adam_epsilon adam_eps epsilon", "optim.eps", ""),
    ("l2 adam_weight_decay", "optim.weight_decay", ""),
    ("max_norm grad_clip gradient_clipping clip_grad", "optim.max_grad_norm", ""),
    ("optimizer optim_args", "", "the optimizer is AdamW; its settings are in optim"),
    (
        "batch_size per_device_train_batch_size train_batch_size global_batch_size rollout_batch_size",
        "batch.size",
        "examples of a whole step, over all devices; micro-batches are cut by batch.micro_tokens",
    ),
    (
        "micro_batch_size micro_train_batch_size ppo_micro_batch_size per_device_eval_batch_size",
        "batch.micro_tokens",
        "counted in tokens, not in rows",
    ),
    (
        "gradient_accumulation_steps grad_accum accumulate_grad_batches",
        "",
        "not needed: batch.size is the whole step, and batch.micro_tokens says what fits at once",
    ),
    ("num_train_epochs num_epochs n_epochs max_epochs total_epochs train_epochs", "epochs", ""),
    (
        "max_steps total_steps train_steps num_steps total_episodes total_training_steps",
        "steps epochs",
        "the number of steps follows from epochs and batch.size in training on a file",
    ),
    (
        "fp16 bf16 precision mixed_precision torch_dtype tf32",
        "model.dtype",
        "model.dtype=bfloat16; float16 is not offered",
    ),
    (
        "max_seq_length max_seq_len max_sequence_length cutoff_len sequence_len max_len model_max_length "
        "block_size seq_length",
        "batch.max_length",
        "prompt and completion together",
    ),
    ("prompt_max_len max_prompt_len max_query_length", "batch.max_prompt_length", ""),
    (
        "max_completion_length max_response_length response_length generate_max_len max_gen_len max_tokens "
        "output_max_length",
        "sampling.max_new_tokens",
        "of sampling; in training on a file, batch.max_length counts",
    ),
    (
        "eval_steps eval_every evals_per_epoch eval_interval val_check_interval",
        "evaluate_every probe_every",
        "in steps; one measurement is always made at the end",
    ),
    ("eval_strategy evaluation_strategy do_eval", "validation", "held-out data is measured wherever it is given"),
    ("save_steps saves_per_epoch save_interval save_freq checkpoint_every save_strategy", "save_every", "in steps"),
    ("save_total_limit keep_last_n_checkpoints max_ckpt_num", "", "the two newest checkpoints are kept"),
    (
        "logging_steps log_every log_interval logging_strategy logging_first_step",
        "",
        "every step is logged, in metrics.jsonl of the run",
    ),
    (
        "report_to logger use_wandb wandb_project push_to_hub hub_model_id log_with",
        "",
        "nothing is uploaded or sent anywhere; `trueup report` draws what was logged",
    ),
    ("output_dir out_dir save_path run_name ckpt_path default_local_dir", "", "the run's directory is --out"),
    ("overwrite_output_dir", "", "--fresh moves a run that is there aside"),
    (
        "resume_from_checkpoint load_checkpoint auto_resume_from_checkpoints",
        "",
        "the same command goes on where it stopped; trueup resume RUN --from NAME takes an older one",
    ),
    (
        "model_name_or_path model_name base_model pretrain model_path actor_model sft_model_path",
        "model.name",
        "or --model",
    ),
    (
        "ref_model ref_model_name ref_model_name_or_path ref_pretrain ref_model_path reference_model ref_path",
        "reference",
        "or --reference",
    ),
    (
        "reward_model reward_funcs reward_model_path reward_pretrain rm_path reward_model_name_or_path",
        "reward",
        "or --reward",
    ),
    (
        "dataset dataset_name datasets train_file train_files data_path prompt_data train_dataset data_files",
        "data",
        "or --data",
    ),
    ("eval_dataset validation_file val_files eval_data test_data validation_data", "validation", "or --validation"),
    (
        "val_set_size val_size test_size eval_split",
        "validation",
        "held-out data is a file or a split (read.validation_split) of its own",
    ),
    ("dataset_split train_split dataset_train_split", "read.split", ""),
    ("field_mapping column_mapping input_key prompt_column", "read.columns", "ours: theirs, as {chosen: best_answer}"),
    ("lora_r lora_rank r", "model.lora.rank", ""),
    ("lora_alpha alpha", "model.lora.alpha", ""),
    (
        "use_peft use_lora adapter finetuning_type peft_config lora_config peft",
        "model.lora",
        "model.lora.rank=16 switches adapters on",
    ),
    ("lora_target_modules target_modules lora_target lora_target_linear", "", "adapters go on all linear layers"),
    ("lora_dropout dropout attention_dropout", "", "nothing is dropped in training"),
    (
        "load_in_4bit load_in_8bit quantization_bit bnb_4bit_quant_type",
        "",
        "weights are not quantised; model.dtype=bfloat16 and model.lora save memory",
    ),
    (
        "use_gradient_checkpointing activation_checkpointing enable_gradient_checkpointing",
        "model.gradient_checkpointing",
        "",
    ),
    (
        "attn_implementation flash_attention flash_attn use_flash_attention_2 torch_compile use_liger_kernel "
        "use_unsloth",
        "model.kernels",
        "the fastest exact ones are chosen by themselves; plain switches them off",
    ),
    ("deepspeed fsdp zero_stage fsdp_config ddp_backend", "model.engine", "under torchrun"),
    (
        "packing sample_packing padding_free group_by_length pad_to_sequence_len",
        "",
        "nothing is padded: batches are packed by themselves",
    ),
    ("use_cpu no_cuda device_map num_gpus", "model.device", ""),
    (
        "chat_template prompt_template",
        "model.template",
        "the tokenizer's own template is used; plain is for one that has none",
    ),
    (
        "rl stage task trainer training_type",
        "",
        "the method is the command: trueup sft, reward, dpo, kto, ppo, grpo ...",
    ),
    ("loss_type pref_loss dpo_loss_type loss", "objective.kind", ""),
    ("pref_beta dpo_beta kto_beta", "objective.beta beta", ""),
    ("label_smoothing_factor dpo_label_smoothing", "objective.label_smoothing", ""),
    ("pref_ftx rpo_alpha cpo_alpha nll_loss_coef", "objective.nll_weight", "of objective.kind=dpo-nll and cpo"),
    ("simpo_gamma gamma_beta_ratio", "objective.gamma", "of objective.kind=simpo"),
    ("orpo_alpha odds_ratio_weight", "objective.weight", "of objective.kind=orpo"),
    ("reference_free", "objective.kind", "simpo, orpo and cpo need no reference"),
    ("precompute_ref_log_probs", "", "always done, once a run"),
    ("kto_chosen_weight chosen_weight", "desirable_weight", ""),
    ("kto_rejected_weight rejected_weight", "undesirable_weight", ""),
    ("prompt_sample_size min_density_ratio max_density_ratio", "", "give rows their importance in the column weight"),
    ("center_rewards_coefficient", "centre", ""),
    ("train_on_inputs train_on_prompt loss_on_inputs", "loss_on_prompt", ""),
    ("completion_only_loss", "loss_on_prompt", "off: the loss is on completions only"),
    ("assistant_only_loss train_on_all_turns", "train_on", "all: the loss is on every turn of the assistant"),
    (
        "init_kl_coef kl_coef kl_coeff kl_penalty_coef kl_loss_coef init_kl_coeff kl_beta",
        "kl.beta objective.beta beta",
        "",
    ),
    ("adap_kl_ctrl kl_ctrl kl_controller adaptive_kl", "kl.kind", "adaptive or fixed"),
    ("kl_target ppo_target", "kl.target", "of kl.kind=adaptive"),
    ("kl_horizon", "kl.horizon", "of kl.kind=adaptive"),
    ("target_kl early_stopping max_kl", "kl_stop", "stops the run; the goal of the adaptive controller is kl.target"),
    ("ppo_epochs num_ppo_epochs", "epochs", ""),
    (
        "num_mini_batches n_minibatches ppo_mini_batch_size mini_batch_size",
        "mini_batches",
        "how many a pass, not their size",
    ),
    ("cliprange clip_ratio eps_clip clip_eps clip_epsilon clip_coef epsilon_clip", "clip_range clip_low", ""),
    ("cliprange_value value_clip cliprange_v", "value_clip_range", ""),
    ("vf_coef value_loss_coef critic_coef", "value_weight", ""),
    ("ent_coef entropy_coef entropy_coeff entropy_loss_coef", "entropy_weight", ""),
    ("gae_lambda lambd lambda lmbda", "lam", ""),
    ("discount discount_factor", "gamma", ""),
    ("whiten_rewards normalize_advantages advantage_norm", "whiten_advantages", ""),
    ("non_eos_penalty penalty_no_eos", "missing_eos_penalty", ""),
    ("do_sample", "sampling.temperature", "0 is greedy"),
    ("num_generations n_samples_per_prompt rollout_n rloo_k group_size best_of_n", "answers", ""),
    ("epsilon_low clip_ratio_low", "clip_low clip_range", ""),
    ("epsilon_high clip_ratio_high", "clip_high", ""),
    ("clip_ratio_c delta", "dual_clip", ""),
    ("scale_rewards norm_adv_by_std_in_grpo", "scale", ""),
    ("loss_agg_mode", "normalise", ""),
    ("ptx_coef ptx_weight", "ptx.weight", ""),
    ("overlong_buffer_len soft_overlong_punishment", "overlong_share", "as a share of sampling.max_new_tokens"),
    ("data_seed random_seed random_state world_seed", "seed", ""),
    (
        "dataloader_num_workers dataset_num_proc preprocessing_num_workers num_workers",
        "",
        "data is read and tokenized in the process itself",
    ),
)
FOREIGN = {name: Foreign(tuple(paths.split()), note) for names, paths, note in _TABLE for name in names.split()}


def normal(name: str) -> str:
    """A name as it is looked up: ``--Learning-Rate`` is ``learning_rate``."""
    return name.strip().lstrip("-").lower().replace("-", "_")


def explain(name: str, paths: Sequence[str]) -> str | None:
    """A sentence for a setting called ``name`` somewhere else, or None if the name is not known.

    Args:
        name: The last part of what was written.
        paths: All settings of the method, dotted.
    """
    wanted = normal(name)
    foreign = FOREIGN.get(wanted)
    if foreign is not None:
        own = next((path for path in foreign.paths if path in paths), None)
        if own is not None:
            return f"it is {own!r} here" + (f": {foreign.note}" if foreign.note else "")
        if not foreign.paths:
            return foreign.note
    elsewhere = [path for path in paths if normal(path.rpartition(".")[2]) == wanted]
    if elsewhere:
        return f"did you mean {' or '.join(map(repr, elsewhere))}?"
    if foreign is not None:
        return f"this method has no such setting; other methods have it as {foreign.paths[0]!r}"
    return None
