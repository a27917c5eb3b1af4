"""The keyword arguments of `thalweg.train`, for completion and type checkers, which read only what is written out.

A test compares them with the options of every task.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class TrainKeywords(TypedDict, total=False):
    """Options that every task shares, then those of single tasks."""

    model: str | None
    model_kwargs: dict[str, Any]
    weights: str | None
    freeze: bool
    unfreeze_groups: int | None
    unfreeze_every: float | None
    layer_decay: float
    epochs: float | None
    steps: int | None
    time_budget: str | None
    batch_size: int | Literal["auto"] | None
    optimizer: Literal["sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "muon"] | None
    lr: float | Literal["auto"] | None
    momentum: float | None
    beta2: float | None
    weight_decay: float
    schedule: Literal["constant", "step", "linear", "cosine", "one-cycle"] | None
    warmup_fraction: float | None
    grad_clip: float | None
    ema_decay: float | None
    grad_accum: int
    patience: int | None
    keep_best: bool | None
    val_fraction: float
    strict: bool
    seed: int
    device: str
    precision: Literal["auto", "float32", "bfloat16"]
    cpu_threads: int | None
    compile: bool
    cuda_graph: bool
    checkpoint_every: float
    snapshots: int | None
    tracker: list[Literal["tensorboard", "mlflow", "wandb"]] | None
    tensorboard: bool
    report: bool
    offline: bool
    # classify, generate
    augment: str | Literal["none", "diff", "ada"]
    image_size: int | str | None
    loss: (
        Literal["cross-entropy", "squared-error"]
        | Literal["logistic", "hinge", "least_squares", "wasserstein", "relativistic"]
        | None
    )
    # classify
    label_smoothing: float
    balance_classes: bool
    tta: Literal["auto", "none", "flip", "flip-shift", "zoom"]
    fold: str | None
    cache_features: bool
    feature_views: int
    check_leakage: bool
    storage: Literal["auto", "memory", "disk"]
    cache_images: bool
    decode_threads: int | None
    # edit
    generator: str | None
    classifier: str | None
    attributes: str | None
    measure: list[str] | None
    axes: Literal["supervised", "pca", "sefa"]
    num_axes: int
    num_latents: int | None
    # forecast
    horizon: int | None
    lookback: int | None
    target: list[str] | None
    season: int | None
    past_covariates: list[str] | None
    future_covariates: list[str] | None
    static_covariates: list[str] | None
    split_rows: list[int] | None
    resample: str | None
    log: bool
    # generate
    r1: float | None
    r2: float | None
    penalty_interval: int | None
    gradient_penalty: float | None
    drift: float | None
    path_length: float | None
    mixing: float | None
    growth_images: int | None
    conditional: bool
    mirror: bool
    num_eval_samples: int
    feature_network: str | None
    # remember
    length: int | None
    symbols: int | None
    grow_every: int
    # translate
    languages: str | None
    reverse: bool
    max_length: int | None
    teacher_forcing: float
    # translate, write
    vocabulary: Literal["words", "sentencepiece"] | Literal["characters", "bytes", "sentencepiece"]
    vocabulary_size: int | None
    # write
    sequence_length: int | None
    dynamic_lr: float
