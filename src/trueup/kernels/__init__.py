"""Fast paths for CPU and memory behind one door: ``kernels.apply(model, only=...)``.

Each kernel stands in a file of its own, computes what PyTorch's or transformers' own code does, and checks that when a
model is opened; where it does not, the plain code runs and the log says why. Nothing here knows a policy, a recipe or a
data format.
"""

from trueup.kernels.door import KERNELS, Kernels, apply, selected

__all__ = ["KERNELS", "Kernels", "apply", "selected"]
