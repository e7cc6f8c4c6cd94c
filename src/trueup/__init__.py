"""trueup: true up a language model to what people prefer.

Importing this package is cheap: nothing heavy is loaded until a command or a recipe needs it.
"""

__version__ = "0.1.0"
