#!/usr/bin/env node
// A plan on the published JavaScript SDK. A case with two parameters gets a client of the sync service; the SDK numbers
// nobody, so instances take a number by signalling a state.
'use strict'

const { invokeMap, network } = require('@testground/sdk')

invokeMap({ meet, failure })

// Publish a greeting, hear those of all others, and leave together with them.
async function meet (env, client) {
  await network.newClient(client, env).waitNetworkInitialized()
  const number = await client.signalEntry('arrived')
  const all = env.testInstanceCount
  env.recordMessage(`I am number ${number} of ${all}`)

  const greeting = { From: `js-${number}`, Text: env.testInstanceParams.greeting }
  const { sub } = await client.publishSubscribe('greetings', greeting)
  const heard = new Set()
  for await (const { From } of sub.wait) {
    heard.add(From)
    if (heard.size === all) break
  }
  sub.cancel()
  env.recordMessage(`heard ${[...heard].sort().join(' ')}`)

  await client.signalAndWait('done', all)
}

// One instance fails while the others listen for what it would have said.
async function failure (env, client) {
  const number = await client.signalEntry('arrived')
  if (number === 1) {
    throw new Error(`heard 0 greetings, wanted ${env.testInstanceParams.wanted}`)
  }
  const { wait } = await client.subscribe('greetings')
  for await (const greeting of wait) {
    env.recordMessage(`heard ${greeting}`)
  }
}
