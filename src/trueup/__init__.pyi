from trueup.commands.api.exporting import export_model as export_model
from trueup.commands.api.judging import compare as compare
from trueup.commands.api.models import LanguageModel as LanguageModel
from trueup.commands.api.models import Scorer as Scorer
from trueup.commands.api.models import open_policy as open_policy
from trueup.commands.api.models import open_reward as open_reward
from trueup.commands.api.runs import Columns as Columns
from trueup.commands.api.runs import Run as Run
from trueup.commands.api.runs import recipes as recipes
from trueup.commands.api.runs import train as train
from trueup.config.code import register as register
from trueup.data.read import read_demonstrations as read_demonstrations
from trueup.data.read import read_labelled as read_labelled
from trueup.data.read import read_pairs as read_pairs
from trueup.data.read import read_prompts as read_prompts
from trueup.data.read import read_ranked as read_ranked
from trueup.errors import TrueupError as TrueupError
from trueup.metrics import define_metric as define_metric
from trueup.types import Completion as Completion
from trueup.types import Demonstration as Demonstration
from trueup.types import Labelled as Labelled
from trueup.types import Message as Message
from trueup.types import PreferencePair as PreferencePair
from trueup.types import Ranked as Ranked

__version__: str
