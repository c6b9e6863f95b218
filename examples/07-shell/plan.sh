#!/bin/sh
# A plan without any SDK. All it needs is the environment that the runner sets: it reads its parameters, leaves a file
# among the outputs, and says how it ended with one line of JSON.
set -eu

# param NAME: its value, from "name=value|other=value".
param() {
    printf '%s' "$TEST_INSTANCE_PARAMS" | tr '|' '\n' | sed -n "s/^$1=//p"
}

# finish EVENT MEMBERS: the line that tells the runner how this instance ended.
finish() {
    printf '{"event":{"%s":{"group":"%s"%s}}}\n' "$1" "$TEST_GROUP_ID" "$2"
}

limit=$(param limit)
echo "instance of group $TEST_GROUP_ID, one of $TEST_INSTANCE_COUNT, looks for the primes up to $limit"

primes=0
n=2
while [ "$n" -le "$limit" ]; do
    divisor=2
    while [ $((divisor * divisor)) -le "$n" ] && [ $((n % divisor)) -ne 0 ]; do
        divisor=$((divisor + 1))
    done
    if [ $((divisor * divisor)) -gt "$n" ]; then
        primes=$((primes + 1))
        echo "$n" >>"$TEST_OUTPUTS_PATH/primes.txt"
    fi
    n=$((n + 1))
done

expected=$(param expected)
if [ "$primes" -eq "$expected" ]; then
    finish success_event ''
else
    finish failure_event ",\"error\":\"found $primes primes up to $limit, expected $expected\""
    exit 1
fi
