"""Optuna (with scikit-learn, by which it measures importance), cmaes and SciPy for what is
held against them, in build/optuna of the checkout. Where pip cannot, what needs them is
skipped by that name."""
import os

from venvs import Venv

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VERSION = "5.0.0"


def python():
    """The Python of the environment, and None; or None and why it cannot be had."""
    return Venv(os.path.join(CHECKOUT, "build", "optuna"),
                (f"optuna=={VERSION}", "cmaes", "scipy", "scikit-learn"),
                "import cmaes, optuna, scipy, sklearn").python()
