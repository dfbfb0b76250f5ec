"""A campaign file as frozen models: read strictly, every error with its line and its cure."""

from leadline.spec.budget import Amounts, Budget
from leadline.spec.campaign import Campaign, Cell, Deployment
from leadline.spec.expectation import Expectation
from leadline.spec.frozen import MAX, NAME, Frozen, Name, TokenCount
from leadline.spec.gates import Gate, Gates, Timeouts
from leadline.spec.lengths import Distribution, Lognormal, Uniform, longest
from leadline.spec.load import Arrivals, Goals, Levels, Load, RateRange, Sweep, UserRange
from leadline.spec.order import Turn, order_work, take_turns
from leadline.spec.reading import parse_campaign, read_campaign
from leadline.spec.search import Search, level_cell, search_key
from leadline.spec.select import select_cells
from leadline.spec.target import (
    ContainerTarget,
    DockerTarget,
    EndpointTarget,
    KubernetesTarget,
    OfflineTarget,
    ProcessTarget,
    Target,
)
from leadline.spec.workload import Api, PromptForm, SharedPrefix, Workload

__all__ = [
    "MAX",
    "NAME",
    "Amounts",
    "Api",
    "Arrivals",
    "Budget",
    "Campaign",
    "Cell",
    "ContainerTarget",
    "Deployment",
    "Distribution",
    "DockerTarget",
    "EndpointTarget",
    "Expectation",
    "Frozen",
    "Gate",
    "Gates",
    "Goals",
    "KubernetesTarget",
    "Levels",
    "Load",
    "Lognormal",
    "Name",
    "OfflineTarget",
    "ProcessTarget",
    "PromptForm",
    "RateRange",
    "Search",
    "SharedPrefix",
    "Sweep",
    "Target",
    "Timeouts",
    "TokenCount",
    "Turn",
    "Uniform",
    "UserRange",
    "Workload",
    "level_cell",
    "longest",
    "order_work",
    "parse_campaign",
    "read_campaign",
    "search_key",
    "select_cells",
    "take_turns",
]
