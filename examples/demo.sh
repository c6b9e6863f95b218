#!/bin/sh
# The main job in one go: import a plan, build it, run it as two groups of instances, hear the verdict, keep the outputs.
set -eu
examples=$(dirname "$0")

step() {
    printf '\n$ %s\n' "$*"
    "$@"
}

step testground plan import --from "$examples/03-gossip"
step testground run composition --file "$examples/03-gossip/composition.toml" --wait --collect --collect-file gossip

cat <<EOT

24 instances in two groups spread a rumour until all had heard it. gossip.tgz has what each of them left. Next:

  tar -tzf gossip.tgz                   its outputs: run.out says what happened, results.out has the metrics
  cat $examples/03-gossip/main.py        the whole plan; README.md beside it says what to try
  ls $examples                           more plans, from hello to a key-value store whose bugs are found
EOT
