// What the files of this suite have in common: one broker per group of tests, started before and ended after it.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';

import { Broker } from './broker.js';
import { disconnectAll } from './node.js';

/** A broker for the tests of the surrounding `describe`. */
export function suiteBroker(variables = {}) {
  const broker = new Broker(variables);
  before(() => broker.start());
  after(async () => {
    disconnectAll();
    // A broker that the tests above brought down shows here, even if each of them got its answer.
    if (broker.started) assert.equal(await broker.stop(), 0, `exit code\n${broker.output}`);
  });
  return broker;
}
