"""``python -m tfcert`` is the command line."""

import sys

from tfcert.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
