"""What can go wrong in the lab. Every message is one line: what, where, allowed."""


class LabError(Exception):
    """Root of every error this package raises."""


class BarsError(LabError):
    """Bars, instruments or a timeframe that cannot be used as given."""


class CalendarError(BarsError):
    """An unknown market calendar, or a time outside the calendars' years."""


class ForecastError(LabError):
    """A forecast that cannot be made, or that is not a forecast."""


class CheckpointError(LabError):
    """Weights or their configuration that are damaged, or not the model's."""


class TrainingError(LabError):
    """A training that cannot be run as asked."""


class FeatureError(LabError):
    """Features that cannot be built as given."""


class ScoringError(LabError):
    """Forecasts or outcomes that cannot be scored as given."""


class DecisionError(LabError):
    """A decision that cannot be recorded as given."""


class BacktestError(LabError):
    """A panel, positions or windows that cannot be simulated as given."""


class SleeveError(LabError):
    """A sleeve or its parameters that cannot be used as given."""


class ValidationError(LabError):
    """Returns or trials that a statistic cannot judge as given."""


class EvolutionError(LabError):
    """A genome, or a search, that cannot be run as given."""


class LifecycleError(LabError):
    """A stage, rule or transition that cannot be used as given."""


class PaperError(LabError):
    """A paper book, signal or weight that cannot be traded as given."""


class ModelError(LabError):
    """A learnt model that is damaged, or rows that it cannot be asked about."""


class DriftError(LabError):
    """A reference or a window that cannot be compared as given."""


class PolicyError(LabError):
    """Sleeve returns, a network or a lookup table that no policy can work with."""
