// A region's side of the hand-off for Node, with nothing but its standard
// library, held against the vectors beside it: node verify.mjs
//
// docs/HANDOFF.md is the contract. The functions are meant to be copied.

import { createHmac, createPublicKey, timingSafeEqual, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'

// ---- the contract ----------------------------------------------------------

const ASSERTION_TYPE = 'edge-assertion+jwt'
const MAX_BYTES = 16 * 1024
const SAFE = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE'])

class Refused extends Error {
  constructor(status, reason) { super(reason); this.status = status }
}
const refuse = (reason) => { throw new Refused(401, reason) }

/** checkPath throws unless target is one path to every reader. */
export function checkPath(target) {
  const bad = (reason) => { throw new Refused(400, reason) }
  if (/[\x00-\x20\x7f#]/.test(target)) bad('a control character, a space or a fragment')
  const path = target.split('?', 1)[0]
  if (!path.startsWith('/')) bad('not a path')
  if (path.includes('//')) bad('an empty segment')
  if (/[\\;]|%3b/i.test(path)) bad('a backslash or a parameter')
  if (/%(?![0-9a-f]{2})|%(2f|5c|2e|[01][0-9a-f]|7f)/i.test(path)) bad('an escape that is none, or of a slash, dot or control')
  if (path.split('/').some((s) => s === '.' || s === '..')) bad('a dot segment')
  let decoded
  try { decoded = decodeURIComponent(path) } catch { bad('not UTF-8') }
  if (/%[0-9a-f]{2}/i.test(decoded)) bad('encoded twice')
}

/** returnTo keeps a path of this site and answers fallback for all else. */
export function returnTo(target, fallback) {
  if (target.length > 2048 || /[^\x21-\x7e]|\\/.test(target)) return fallback
  try { checkPath(target); return target } catch { return fallback }
}

const PROTECTED = new Set(['x-request-id', 'x-tenant-id', 'x-home-region', 'traceparent', 'tracestate', 'baggage'])

/** isProtected reports whether only the edge may set that header. */
export function isProtected(name) {
  const folded = name.toLowerCase().replace(/[^a-z0-9]/g, '-')
  return PROTECTED.has(folded) || /^x-edge-./.test(folded)
}

export const isRequestID = (id) => /^[A-Za-z0-9._-]{8,128}$/.test(id) && !id.endsWith('\n')
export const isName = (name) => /^[a-z0-9-]{1,63}$/.test(name) && !name.endsWith('\n')

/** single reads a header that may stand once. headers is a list of pairs. */
function single(headers, name) {
  const values = headers.filter(([n]) => n.toLowerCase() === name).map(([, v]) => v)
  if (values.length > 1) refuse(`${name} twice`)
  return values[0] ?? ''
}

function decodePart(part) {
  const bytes = Buffer.from(part, 'base64url')
  if (bytes.toString('base64url') !== part) refuse('not base64url')
  return bytes
}

function parseObject(bytes) {
  let value
  try { value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)) } catch { refuse('not JSON') }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) refuse('not a JSON object')
  return value
}

/** verifySignature checks the token with the keys of the POP that it names. */
function verifySignature(header, claims, signed, signature, pops) {
  const pop = typeof claims.iss === 'string' && Object.hasOwn(pops, claims.iss) ? pops[claims.iss] : undefined
  if (!pop) refuse('unknown POP')
  if (pop.secret !== undefined) { // the key says which algorithm, never the token
    if (header.alg !== 'HS256') refuse('algorithm')
    const want = createHmac('sha256', pop.secret).update(signed).digest()
    if (signature.length !== want.length || !timingSafeEqual(signature, want)) refuse('signature')
    return
  }
  if (header.alg !== 'EdDSA') refuse('algorithm')
  const jwk = pop.keys.find((k) => k.kid === header.kid && k.kty === 'OKP' && k.crv === 'Ed25519')
  if (!jwk) refuse('unknown key')
  if (!verify(null, Buffer.from(signed), createPublicKey({ key: jwk, format: 'jwk' }), signature)) refuse('signature')
}

/** verifyRequest gives the claims of a request that came through a POP. */
export function verifyRequest(request, { region, pops, now, leeway, maxLife }) {
  checkPath(request.target)                                                            // 1
  const token = single(request.headers, 'x-edge-assertion')                            // 2
  if (token === '') refuse('no assertion')
  if (token.length > MAX_BYTES) refuse('too large')
  const parts = token.split('.')
  if (parts.length !== 3) refuse('not three parts')
  const [head, body, signature] = parts.map(decodePart)
  const header = parseObject(head)                                                     // 3
  if ('crit' in header || 'b64' in header) refuse('critical header')
  if (typeof header.typ !== 'string' || header.typ.toLowerCase() !== ASSERTION_TYPE) refuse('type')
  const claims = parseObject(body)                                                     // 4, 5
  verifySignature(header, claims, `${parts[0]}.${parts[1]}`, signature, pops)

  const audiences = [claims.aud].flat()                                                // 6
  if (audiences.length !== 1 || audiences[0] !== region) refuse('audience')
  if (!Number.isFinite(claims.exp) || !Number.isFinite(claims.iat)) refuse('exp and iat are required')
  if (now >= claims.exp + leeway) refuse('expired')                                    // 7
  if (claims.iat > now + leeway || (claims.nbf ?? 0) > now + leeway) refuse('not yet')
  if (claims.exp - claims.iat > maxLife) refuse('lives too long')

  const tenant = claims.tenant_id ?? ''                                                // 8
  const sub = claims.sub ?? ''
  if (claims.pop !== claims.iss) refuse('pop is not iss')
  if (!isName(claims.home ?? '') || (tenant !== '' && !isName(tenant))) refuse('home or tenant_id')
  if (sub !== '' && !claims.sub_iss) refuse('sub without sub_iss')
  if (tenant === '' && sub === '' && (claims.sid || claims.sub_iss || claims.roles?.length)) refuse('roles of nobody')

  if (single(request.headers, 'x-tenant-id') !== tenant) refuse('X-Tenant-Id')         // 9
  if (single(request.headers, 'x-home-region') !== claims.home) refuse('X-Home-Region')
  const id = single(request.headers, 'x-request-id')
  if (!isRequestID(id)) refuse('X-Request-Id')

  const bound = claims.rid || claims.mth || claims.pth                                 // 10
  if (!bound && !SAFE.has(request.method)) refuse('a write needs an assertion of its own')
  if (bound && (claims.rid !== id || claims.mth !== request.method || claims.pth !== request.target)) refuse('made for another request')
  return claims
}

// ---- the vectors -----------------------------------------------------------

const read = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url), 'utf8'))
const count = {}
let failed = 0
function check(kind, name, got, want) {
  count[kind] = (count[kind] ?? 0) + 1
  if (JSON.stringify(got) === JSON.stringify(want)) return
  failed++
  console.error(`${kind}: ${name}: ${JSON.stringify(got)}, want ${JSON.stringify(want)}`)
}
function attempt(f) {
  try { return [200, f()] } catch (error) {
    if (error instanceof Refused) return [error.status]
    throw error
  }
}

const file = read('assertions.json')
const pops = { ...file.keys_by_pop }
for (const [pop, secret] of Object.entries(file.secrets_by_pop)) pops[pop] = { secret }
for (const { name, request, status, claims } of file.cases) {
  const policy = { region: file.region, pops, now: file.now, leeway: file.leeway_seconds, maxLife: file.max_life_seconds }
  check('assertions', name, attempt(() => verifyRequest(request, policy)), claims ? [status, claims] : [status])
}

const site = 'https://site.example'
for (const { target, accepted } of read('paths.json').cases) {
  check('paths', target, attempt(() => checkPath(target))[0] === 200, accepted)
  if (!accepted) continue
  // The parser of the WHATWG, which is that of browsers, reads the same path.
  const url = new URL(site + target)
  check('paths read by the WHATWG parser', target,
    [url.origin, decodeURIComponent(url.pathname), url.hash], [site, decodeURIComponent(target.split('?', 1)[0]), ''])
}

const places = read('return_to.json')
for (const { target, answer } of places.cases) {
  check('return_to', target, returnTo(target, places.fallback), answer)
  check('return_to read by the WHATWG parser', target, new URL(answer, `${site}/login`).origin, site)
}

const names = read('names.json')
for (const [list, rule, want] of [
  ['protected_headers', isProtected, true], ['unprotected_headers', isProtected, false],
  ['request_ids', isRequestID, true], ['not_request_ids', isRequestID, false],
  ['tenants', isName, true], ['not_tenants', isName, false],
]) for (const name of names[list]) check('names', name, rule(name), want)

console.log(Object.entries(count).map(([kind, n]) => `${n} ${kind}`).join(', ') + (failed ? `: ${failed} FAILED` : ': all as the vectors say'))
process.exit(failed ? 1 : 0)
