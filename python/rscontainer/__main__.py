"""``python -m rscontainer``: the command line, where its program is not on PATH."""

import os
import sys

from rscontainer._binary import binary

program = binary()
os.execv(program, [program, *sys.argv[1:]])
