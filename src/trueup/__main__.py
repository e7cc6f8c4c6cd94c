"""The ``trueup`` command, which is also ``python -m trueup``."""

from trueup.commands.app import main

if __name__ == "__main__":
    main()
