// Login by JWT with tokens that backends make: by jose in Node.js, and by PyJWT in Python if PYJWT_PYTHON names an interpreter
// that has it (scripts/test does).

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, webcrypto } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';

import { exportJWK, importPKCS8, importSPKI, SignJWT } from 'jose';

import { connectNode, freshId, RELAY_EVENT } from './support/node.js';
import { suiteBroker } from './support/suite.js';

// Node.js 18 has it only there.
globalThis.crypto ??= webcrypto;

const PYTHON = process.env.PYJWT_PYTHON;
const SECRET = 'a secret of more than thirty-two bytes';
const PEM = { publicKeyEncoding: { type: 'spki', format: 'pem' }, privateKeyEncoding: { type: 'pkcs8', format: 'pem' } };
const KEYS = {
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048, ...PEM }),
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256', ...PEM }),
  EdDSA: generateKeyPairSync('ed25519', PEM),
};
const folder = mkdtempSync(join(tmpdir(), 'crolang-login-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function fileOf(name, text) {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function byJose(algorithm, claims, kid) {
  const key = KEYS[algorithm] ? await importPKCS8(KEYS[algorithm].privateKey, algorithm) : new TextEncoder().encode(SECRET);
  return new SignJWT(claims).setProtectedHeader({ alg: algorithm, kid }).setExpirationTime('1m').sign(key);
}

function byPyJwt(algorithm, claims) {
  const key = KEYS[algorithm]?.privateKey ?? SECRET;
  const script = [
    'import json, sys, time, jwt',
    'algorithm, key, claims = json.load(sys.stdin)',
    'print(jwt.encode({**claims, "exp": int(time.time()) + 60}, key, algorithm=algorithm), end="")',
  ].join('\n');
  return execFileSync(PYTHON, ['-c', script], { input: JSON.stringify([algorithm, key, claims]), encoding: 'utf8' });
}

/** A node that logs in with a token for `sub`. */
function logIn(broker, id, token) {
  return connectNode(broker, id, { query: { data: token } });
}

const refused = { message: 'authentication failed' };

for (const algorithm of ['HS256', 'RS256', 'ES256', 'EdDSA']) {
  describe(`login with ${algorithm}`, () => {
    const key = KEYS[algorithm];
    const broker = suiteBroker(
      key ? { JWT_PUBLIC_KEY_FILE: fileOf(`${algorithm}.pem`, key.publicKey) } : { JWT_SECRET: SECRET },
    );
    const makers = { jose: byJose, PyJWT: PYTHON && byPyJwt };
    for (const [name, make] of Object.entries(makers)) {
      test(`a token by ${name}`, { skip: !make && 'PYJWT_PYTHON is not set' }, async () => {
        const [alice, bob] = [freshId('alice'), freshId('bob')];
        const node = await logIn(broker, alice, await make(algorithm, { sub: alice, to: bob }));
        const other = await logIn(broker, bob, JSON.stringify({ token: await make(algorithm, { nodes: 'bob-*' }) }));
        const message = (to) => JSON.stringify({ from: alice, to, content: 'hi' });
        assert.equal(await node.ask(RELAY_EVENT, message(bob)), 'OK');
        assert.deepEqual(await other.next(), { event: RELAY_EVENT, args: [message(bob)] });
        assert.equal(await node.ask(RELAY_EVENT, message('carol')), 'UNAUTHORIZED');
        await assert.rejects(logIn(broker, freshId('mallory'), await make(algorithm, { sub: alice })), refused);
      });
    }

    test('tokens of other algorithms are refused', async () => {
      for (const other of ['HS256', ...Object.keys(KEYS)].filter((it) => it !== algorithm)) {
        const id = freshId('mallory');
        await assert.rejects(logIn(broker, id, await byJose(other, { sub: id })), refused, other);
      }
    });
  });
}

describe('login with a set of keys', async () => {
  const keys = [];
  for (const [alg, { publicKey }] of Object.entries(KEYS)) {
    keys.push({ ...(await exportJWK(await importSPKI(publicKey, alg, { extractable: true }))), kid: `the ${alg}`, alg, use: 'sig' });
  }
  const broker = suiteBroker({ JWT_PUBLIC_KEY_FILE: fileOf('keys.json', JSON.stringify({ keys })) });

  test('the kid says which key', async () => {
    for (const algorithm of Object.keys(KEYS)) {
      const id = freshId(algorithm);
      await logIn(broker, id, await byJose(algorithm, { sub: id }, `the ${algorithm}`));
      for (const kid of [undefined, 'unknown', `the ${algorithm === 'RS256' ? 'ES256' : 'RS256'}`]) {
        const mallory = freshId('mallory');
        await assert.rejects(logIn(broker, mallory, await byJose(algorithm, { sub: mallory }, kid)), refused, kid);
      }
    }
  });
});
