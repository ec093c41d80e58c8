"""Recording which experts a running torch model chooses: see `record`."""

from eplb.recording.record import record
from eplb.recording.recorder import Recorder

__all__ = ["Recorder", "record"]
