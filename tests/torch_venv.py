"""PyTorch for the tests that train with it, of exactly one version, beside
scikit-learn, which brings the data, and safetensors, which reads what was saved; in
build/torch of the checkout or what PIOCHE_TORCH names. Where pip cannot, the test is
skipped by that name."""
import os

from harness import ROOT, Skip
from venvs import Venv

VERSION = "2.13.0"
VENV = Venv(os.environ.get("PIOCHE_TORCH") or os.path.join(ROOT, "build", "torch"),
            (f"torch=={VERSION}", "numpy", "safetensors", "scikit-learn"),
            "import numpy, safetensors.torch, sklearn.datasets, torch, torch._dynamo, torch.distributed.run\n"
            f"import torch.nn.parallel, torch.optim; assert torch.__version__.split('+')[0] == '{VERSION}'")


def home():
    """The environment's folder; its bin/python imports torch, safetensors and sklearn."""
    if os.environ.get("SAN"):
        raise Skip("python3 is not built with the sanitizers")
    path, why = VENV.python()
    if not path:
        raise Skip(f"torch=={VERSION}: pip cannot install it ({why})")
    return VENV.home
