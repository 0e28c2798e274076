"""``python -m cnnhw`` is the ``cnnhw`` command."""

from cnnhw.cli import main

if __name__ == "__main__":
    main()
