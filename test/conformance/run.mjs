// Runs the tests of http-cache-tests against a cache.
//
//	node run.mjs list            prints the tests: id, name, whether corrected
//	node run.mjs [host [id …]]   starts the suite's origin and prints its address, a
//	                             line; reads the cache's address, a line, from standard
//	                             input; asks the cache as host; prints what became of
//	                             each test, true or [kind, message], by its id
import http from 'node:http'
import { createInterface } from 'node:readline'

import fetch from 'node-fetch'

import * as config from 'http-cache-tests/client/config.mjs'
import { getResults } from 'http-cache-tests/client/runner.mjs'
import { makeCacheTest } from 'http-cache-tests/client/test.mjs'
import handleConfig from 'http-cache-tests/server/handle-config.mjs'
import handleState from 'http-cache-tests/server/handle-state.mjs'
import handleTest from 'http-cache-tests/server/handle-test.mjs'
import suites from 'http-cache-tests/tests/index.mjs'

import { answered, correct, corrected, withdrawn } from './corrections.mjs'

const parallel = 40

const print = console.log
console.log = console.error // the suite's own remarks

// The suite's server listens where its npm script says: its handlers are asked here.
const handlers = { config: handleConfig, state: handleState, test: handleTest }

function origin (request, response) {
  const [, first, ...rest] = new URL(request.url, 'http://origin').pathname.split('/')
  if (first in handlers) {
    handlers[first](rest, request, response)
  } else {
    response.writeHead(404).end()
  }
}

async function line () {
  for await (const read of createInterface({ input: process.stdin })) return read
}

async function run (tests, host, address) {
  config.setBaseUrl(`http://${address}`)
  config.setFetch(async (url, { headers = [], ...init } = {}) => {
    const response = await fetch(url, { ...init, headers: [...headers, ['Host', host]], timeout: 10_000 })
    answered(headers.find(([name]) => name === 'Test-ID')?.[1], response.status)
    return response
  })
  const waiting = [...tests]
  const take = async () => {
    while (waiting.length) await makeCacheTest(waiting.shift())
  }
  await Promise.all(Array.from({ length: parallel }, take))
  return getResults()
}

const [host, ...ids] = process.argv.slice(2)
const tests = suites.flatMap(suite => suite.tests)
  .filter(test => !test.browser_only && !withdrawn.includes(test.id))
  .filter(test => !ids.length || ids.includes(test.id))
tests.forEach(correct)

if (host === 'list') {
  print(JSON.stringify(tests.map(({ id, name }) => ({ id, name, corrected: corrected.includes(id) || undefined }))))
} else {
  // Longer than any pause of the suite: a connection that ends while a request is on
  // its way would look like an answer of the cache.
  const server = http.createServer({ keepAliveTimeout: 60_000 }, origin)
  server.listen(0, '127.0.0.1', () => print(`127.0.0.1:${server.address().port}`))
  print(JSON.stringify(await run(tests, host, await line())))
  process.exit()
}
