"""`python -m probseq` is the command line."""

import sys

from probseq.cli import main

if __name__ == "__main__":
    sys.exit(main())
