// A provider plugin for loomproxy with nothing but node's own modules (node 18 or later).
//
// loomproxy starts this program and tells it by its environment where to listen
// (LOOM_PLUGIN_SOCKET, or LOOM_PLUGIN_HOST and LOOM_PLUGIN_PORT) and which token each call must
// show (LOOM_PLUGIN_TOKEN). Then it makes six calls: metadata, initialize, health, models,
// chat/completions and cleanup. `loomproxy plugins test .` holds this file to all of it.
//
// Where your own provider comes in: `MODELS`, `configure` and `words`. The rest can stay.

'use strict'

const crypto = require('node:crypto')
const fs = require('node:fs')
const http = require('node:http')
const { setTimeout: wait } = require('node:timers/promises')

const BODY_BYTES_MAX = 8 * 1024 * 1024

const METADATA = {
  name: 'example-node',
  version: '1.0.0',
  plugin_api_version: '1.0.0',
  provider_type: 'example-node', // the same as in plugin.yaml
  description: 'Greets whoever writes to it, word by word.',
  capabilities: { streaming: true },
  config_schema: [
    { name: 'greeting', type: 'string', default: 'Hello', validation: { min_length: 1, max_length: 100 } },
    { name: 'delay_ms', type: 'int', default: 0, validation: { min: 0, max: 10000 } },
  ],
}

const MODELS = [{ id: 'greeter-1', name: 'Greeter', context_window: 8192, capabilities: { streaming: true } }]

let config = null // null until POST /initialize

// What goes wrong, as the contract says it. `transient`: the same request may succeed in a moment.
class PluginError extends Error {
  constructor (status, code, message, transient = false) {
    super(message)
    this.status = status
    this.body = { code, message, transient }
  }
}

const invalid = (message) => new PluginError(400, 'invalid_request', message)

// --- What this plugin does --------------------------------------------------------------------

// The configuration, checked. loomproxy has checked it, too; this is for who runs it by hand.
function configure (given) {
  const { greeting = 'Hello', delay_ms: delayMs = 0, ...others } = given
  if (typeof greeting !== 'string' || greeting === '' || greeting.length > 100) {
    throw invalid('greeting: must be a text of 1 to 100 characters')
  }
  if (!Number.isInteger(delayMs) || delayMs < 0 || delayMs > 10000) {
    throw invalid('delay_ms: must be a whole number from 0 to 10000')
  }
  for (const name of Object.keys(others)) throw invalid(`${name}: there is no such key`)
  return { greeting, delayMs }
}

// The answer, a word at a time. `signal` is aborted when the client has left: pass it on to
// whatever you wait for, as to `fetch(url, { signal })`, and nobody pays for what nobody reads.
async function * words (messages, signal) {
  const said = [config.greeting, ...textOf(messages.at(-1)).split(/\s+/).filter(Boolean)]
  for (const [index, word] of said.entries()) {
    if (config.delayMs) await wait(config.delayMs, undefined, { signal })
    yield index === 0 ? word : ` ${word}`
  }
}

// The text of a message, whose content may be a text, a list of parts, or nothing.
function textOf (message) {
  if (typeof message.content === 'string') return message.content
  return (message.content ?? []).map((part) => part?.text ?? '').join('')
}

// A real provider counts its tokens and says how many they were: hand that on instead.
const tokensOf = (text) => Math.ceil(text.length / 4)

function usageOf (messages, answer) {
  const prompt = messages.reduce((sum, message) => sum + tokensOf(textOf(message)), 0)
  const completion = tokensOf(answer)
  return { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion }
}

// --- The contract -----------------------------------------------------------------------------

const CALLS = {
  'GET /metadata': () => METADATA,
  'GET /models': () => MODELS,
  'GET /health': () => ({
    healthy: config !== null, // 200 also when it is not
    message: config === null ? 'not initialised' : 'OK',
    timestamp: new Date().toISOString(),
  }),
  'POST /initialize': async (request) => {
    config = configure(await object(request))
    return {}
  },
  'POST /cleanup': () => {
    config = null
    return {}
  },
  'POST /chat/completions': chat,
}

async function chat (request, response) {
  const asked = check(await object(request))
  if (config === null) throw new PluginError(503, 'provider_unavailable', 'not initialised yet', true)
  const leaving = new AbortController()
  response.on('close', () => leaving.abort()) // at the end of an answer, too, when it means nothing
  const base = { id: `chatcmpl-${crypto.randomUUID()}`, created: Math.floor(Date.now() / 1000), model: asked.model }
  if (asked.stream === true) return stream(asked, response, base, leaving.signal)
  let answer = ''
  for await (const word of words(asked.messages, leaving.signal)) answer += word
  const message = { role: 'assistant', content: answer }
  return {
    ...base,
    object: 'chat.completion',
    choices: [{ index: 0, message, finish_reason: 'stop' }],
    usage: usageOf(asked.messages, answer),
  }
}

function check (asked) {
  if (typeof asked.model !== 'string' || asked.model === '') throw invalid('model: must be a text')
  if (!Array.isArray(asked.messages) || asked.messages.length === 0) {
    throw invalid('messages: must be a list with at least one message')
  }
  for (const message of asked.messages) {
    const content = message?.content ?? ''
    if (typeof message?.role !== 'string' || !(typeof content === 'string' || Array.isArray(content))) {
      throw invalid('messages: each must have a role, and a text or a list of parts as content')
    }
  }
  if (!MODELS.some((model) => model.id === asked.model)) {
    throw new PluginError(404, 'model_not_found', `there is no model ${JSON.stringify(asked.model).slice(0, 100)}`)
  }
  return asked // fields that we do not know are no mistake
}

// An event per word, then one with finish_reason and usage, then [DONE].
async function stream (asked, response, base, signal) {
  const send = async (data) => {
    if (response.write(`data: ${data}\n\n`) || signal.aborted) return
    await new Promise((resolve) => { // the client reads slowly: wait for it, or for its leaving
      response.once('drain', resolve)
      signal.addEventListener('abort', resolve, { once: true })
    })
  }
  const chunk = (delta, finish = null, more = {}) => send(JSON.stringify({
    ...base,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, finish_reason: finish }],
    ...more,
  }))
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' })
  try {
    let answer = ''
    await chunk({ role: 'assistant', content: '' })
    for await (const word of words(asked.messages, signal)) {
      if (signal.aborted) return
      answer += word
      await chunk({ content: word })
    }
    await chunk({}, 'stop', { usage: usageOf(asked.messages, answer) })
    await send('[DONE]')
  } catch (error) { // too late for a status: the error is the last event, and there is no [DONE]
    if (!signal.aborted) await send(JSON.stringify({ error: errorOf(error).body }))
  }
  response.end()
}

// --- HTTP -------------------------------------------------------------------------------------

async function answer (request, response) {
  try {
    if (!allowed(request)) throw new PluginError(401, 'authentication_failed', 'the token is not ours')
    const path = request.url.split('?')[0]
    const call = CALLS[`${request.method} ${path}`]
    if (call === undefined) throw new PluginError(404, 'invalid_request', `there is no ${request.method} ${path}`)
    const body = await call(request, response)
    if (!response.headersSent) say(response, 200, body)
  } catch (error) {
    const { status, body } = errorOf(error)
    if (!response.headersSent) say(response, status, body)
  }
}

function say (response, status, body) {
  const text = JSON.stringify(body)
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) })
  response.end(text)
}

// Any error as a PluginError; what we did not foresee is told to the log, not to the client.
function errorOf (error) {
  if (error instanceof PluginError) return error
  if (error.name !== 'AbortError') console.error(error)
  return new PluginError(500, 'internal_error', 'the plugin failed; its log says why')
}

const digest = (text) => crypto.createHash('sha256').update(text).digest()
const expected = process.env.LOOM_PLUGIN_TOKEN ? digest(`Bearer ${process.env.LOOM_PLUGIN_TOKEN}`) : null

// Whether a call shows our token; the comparison takes as long for any wrong one.
function allowed (request) {
  return expected === null || crypto.timingSafeEqual(digest(request.headers.authorization ?? ''), expected)
}

// The body of a request, which must be a JSON object.
async function object (request) {
  const parts = []
  let size = 0
  for await (const part of request) {
    size += part.length
    if (size > BODY_BYTES_MAX) throw new PluginError(413, 'invalid_request', `the body is above ${BODY_BYTES_MAX} bytes`)
    parts.push(part)
  }
  let value
  try {
    value = JSON.parse(Buffer.concat(parts).toString('utf8'))
  } catch {
    throw invalid('the body is no JSON')
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw invalid('the body is no JSON object')
  return value
}

const server = http.createServer(answer)
server.keepAliveTimeout = 65_000 // longer than loomproxy keeps an idle connection, so that it closes first

const { LOOM_PLUGIN_SOCKET: socket, LOOM_PLUGIN_HOST: host = '127.0.0.1', LOOM_PLUGIN_PORT: port = '8090' } = process.env
process.umask(0o077) // the socket is for our own user only
if (socket) {
  fs.rmSync(socket, { force: true })
  server.listen(socket)
} else {
  server.listen(Number(port), host)
}
server.on('listening', () => console.log(`listening on ${socket ?? `${host}:${port}`}`))

// Finish what is under way, then leave. loomproxy sends SIGKILL after `stop_timeout`.
process.on('SIGTERM', () => {
  server.keepAliveTimeout = 1 // a connection that has nothing more to do is closed at once
  server.close(() => process.exit(0))
  server.closeIdleConnections()
})
