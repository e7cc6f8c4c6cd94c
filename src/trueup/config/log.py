"""Settings of the copies of a run's numbers that other tools show."""

from __future__ import annotations

from pydantic import Field, model_validator

from trueup.config import Settings
from trueup.ledger.mirrors import holds_key


class Log(Settings):
    """Copies of the run's numbers for other tools, written by processes of their own that read the run directory. All
    are off; each lies in ``mirrors/`` of the run and needs its package (``pip install 'trueup[tensorboard]'``)."""

    tensorboard: bool = False
    """Event files for TensorBoard."""
    trackio: bool = False
    """A database for trackio."""
    wandb: bool = False
    """An offline run of Weights & Biases."""
    mlflow: bool = False
    """A database for MLflow."""
    trackio_remote: str | None = None
    """Send the trackio mirror there instead: ``owner/space`` on Hugging Face, private if it is new, or the address of a
    trackio server. Keys come from the environment."""
    wandb_remote: str | None = None
    """Send the Weights & Biases mirror to this user or team instead. The key comes from the environment."""
    mlflow_remote: str | None = None
    """Send the MLflow mirror to this tracking address instead. Keys come from the environment."""
    project: str = Field(default="trueup", pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,127}$")
    """The name under which trackio, Weights & Biases and MLflow file the run."""

    @model_validator(mode="after")
    def _remotes_are_places(self) -> Log:
        for name in ("trackio", "wandb", "mlflow"):
            remote = getattr(self, f"{name}_remote")
            if remote is not None and not getattr(self, name):
                raise ValueError(f"{name}_remote says where {name} is sent, but {name} is false; set log.{name}=true")
            if remote is not None and holds_key(remote):
                raise ValueError(
                    f"{name}_remote holds a password or key, and run.json would keep it; put it into the environment"
                )
        return self

    def targets(self) -> dict[str, str | None]:
        """The mirrors that are asked for; a place elsewhere for those that are sent there."""
        places = {
            "tensorboard": None,
            "trackio": self.trackio_remote,
            "wandb": self.wandb_remote,
            "mlflow": self.mlflow_remote,
        }
        return {name: place for name, place in places.items() if getattr(self, name)}
