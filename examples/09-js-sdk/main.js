#!/usr/bin/env node
// A plan on the published JavaScript SDK. A case with two parameters gets a client of the sync service.
'use strict'

const { invokeMap, network } = require('@testground/sdk')

invokeMap({ meet, failure })

// Publish a greeting, hear those of all others, and leave together with them.
async function meet (env, client) {
  const { globalSeq, groupSeq } = await init(env, client)
  const all = env.testInstanceCount
  env.recordMessage(`I am number ${globalSeq} of ${all}`)

  const greeting = { From: `js-${groupSeq}`, Text: env.testInstanceParams.greeting }
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
  const { globalSeq } = await init(env, client)
  if (globalSeq === 1) {
    throw new Error(`heard 0 greetings, wanted ${env.testInstanceParams.wanted}`)
  }
  const { wait } = await client.subscribe('greetings')
  for await (const greeting of wait) {
    env.recordMessage(`heard ${greeting}`)
  }
}

// What other SDKs do before a case starts: wait for the network, and take a number among all and one in the group.
async function init (env, client) {
  await network.newClient(client, env).waitNetworkInitialized()
  return {
    globalSeq: await client.signalEntry('initialized_global'),
    groupSeq: await client.signalEntry(`initialized_group_${env.testGroupId}`)
  }
}
