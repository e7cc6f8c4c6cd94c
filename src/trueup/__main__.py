"""The ``trueup`` command, which is also ``python -m trueup``."""

from trueup.allocator import restart


def main() -> None:
    """Settle the heap, then run the command."""
    restart()
    from trueup.cli import main as run

    run()


if __name__ == "__main__":
    main()
