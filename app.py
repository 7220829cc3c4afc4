"""The entry point of a Space, and of a checkout: the same as `python -m detector app`."""

import sys

from detector.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["app", *sys.argv[1:]]))
