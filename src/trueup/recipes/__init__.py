"""One file, one method, read top to bottom: the config first, ``train(config, run)`` below."""
