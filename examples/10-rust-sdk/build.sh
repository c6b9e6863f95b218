#!/bin/sh
# Compiles into a directory that outlives the build, so that the next one compiles only what has changed.
set -eu
export CARGO_TARGET_DIR="$TESTGROUND_CACHE"
cargo build
cp "$CARGO_TARGET_DIR/debug/plan" plan
