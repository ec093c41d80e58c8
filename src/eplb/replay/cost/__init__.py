"""What a forward pass takes: from rank loads and moves to seconds, with figures that are published or measured."""

from eplb.replay.cost.calibration import Calibration, calibrate
from eplb.replay.cost.cost_model import CostModel
from eplb.replay.cost.hardware import Hardware
from eplb.replay.cost.measurements import Measurements, read_measurements
from eplb.replay.cost.model_shape import ModelShape
from eplb.replay.cost.presets import HARDWARE, MODELS, hardware_named, model_named
from eplb.replay.cost.rates import Rates, rates_of, rows_of_slots
from eplb.replay.cost.step_times import ReplayCost, StepTimes

__all__ = [
    "HARDWARE",
    "MODELS",
    "Calibration",
    "CostModel",
    "Hardware",
    "Measurements",
    "ModelShape",
    "Rates",
    "ReplayCost",
    "StepTimes",
    "calibrate",
    "hardware_named",
    "model_named",
    "rates_of",
    "read_measurements",
    "rows_of_slots",
]
