"""Test, benchmark and simulate distributed and peer-to-peer systems.

The package is a command line (`testground.cli`), a daemon (`testground.daemon`) and an SDK for plans written in
Python (`testground.sdk`). This file stays empty of imports: a plan pays only for the SDK.
"""

__version__ = "0.1.0"
