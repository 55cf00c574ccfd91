"""The LM Studio of the settings."""

from functools import partial

from api.native.lmstudio import Probe, probe
from api.settings import Settings


def lm_studio(settings: Settings) -> Probe:
    """Asks it for its state."""
    return partial(probe, settings.lm_studio_base_url, settings.lm_studio_model)
