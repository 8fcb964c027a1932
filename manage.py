#!/usr/bin/env python3
"""Django's command line for OpenLedger. `dev.py manage ARGS` runs it against a running site."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
