"""What holds for all tests: nothing is ever sent, unless a test asks for it.

The application configures logging when it is imported, before any test begins. It needs no key to print what it would
send; pytest shows that with a failure.
"""

import os

os.environ.setdefault("KM_MODE", "print")
