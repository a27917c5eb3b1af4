"""Who is compared: name -> command. The first word is a file in `programs/`, run by the Python of the environment.

Every program takes the arguments of `programs/contract.py`; what a measurement appends has precedence. It
prints one line of JSON on stdout, which for

    TIME, MEMORY            has "seconds_to_target" (null if missed), "accuracy" (then, or the best) and "epochs"
    THROUGHPUT, OVERHEAD    has "samples_per_second", of training from the second epoch on
    FINETUNING              has "seconds"
    DECODING                has "images_per_second" and "level", the mean of all bytes
    INFERENCE               has "images_per_second" and "logit", the first of them
    START                   has "label"

A contender is one line here and one file there. Those of OVERHEAD also take `--model lenet|mlp`.
"""

OURS = "Thalweg"
BARE = "bare loop"

TIME = {
    OURS: "thalweg_race.py",
    "PyTorch example": "pytorch_example.py --epochs 8",
    "Keras 3 (JAX)": "keras_convnet.py --epochs 12",
    "Lightning": "lightning_mnist.py --epochs 8",
    "fastai, cycle of 5": "fastai_cnn.py --epochs 5",
    "fastai, cycle of 8": "fastai_cnn.py --epochs 8",
    "fastai, cycle of 8, 2 workers": "fastai_cnn.py --epochs 8 --workers 2",
}

THROUGHPUT = {
    OURS: "thalweg_lenet.py",
    "Thalweg, float32": "thalweg_lenet.py --precision float32",
    "PyTorch example loop": "lenet_pytorch.py",
    "Keras 3 (JAX)": "lenet_keras.py",
}

OVERHEAD = {
    OURS: "thalweg_lenet.py --precision float32",
    BARE: "bare_loop.py",
}

#: trained for one epoch, so the length of a cycle makes no difference
MEMORY = {name: command for name, command in TIME.items() if name != "fastai, cycle of 5"}

FINETUNING = {
    "Thalweg, features computed once": "thalweg_finetuning.py --cache-features yes",
    "Thalweg, computed in every epoch": "thalweg_finetuning.py --cache-features no",
}

PILLOW = "PIL in a loop"
EAGER = "PyTorch eager"
PLAIN = "torch and PIL"

DECODING = {
    OURS: "thalweg_decoding.py",
    PILLOW: "pillow_decoding.py",
}

INFERENCE = {
    OURS: "thalweg_inference.py",
    EAGER: "eager_inference.py",
    "PyTorch eager, channels last": "eager_inference.py --last",
}

START = {
    OURS: "thalweg_start.py predict squeezenet1_1 --json",
    PLAIN: "plain_start.py",
}
