import fc from 'fast-check';
import { expect, test } from 'vitest';
import { chainBytes, encodeChain } from '../../src/uapi/cap-chain.ts';

const capabilities = fc.array(
  fc.record({
    id: fc.integer({ min: 0, max: 0xffff }),
    version: fc.integer({ min: 0, max: 0xffff }),
    body: fc.uint8Array({ minLength: 8, maxLength: 60 }),
  }),
  { maxLength: 6 },
);

/** Walk a chain as a user does, from its first offset along `next`. */
const walk = (answer: Uint8Array, first: number) => {
  const view = new DataView(answer.buffer);
  const found: { id: number; version: number; at: number }[] = [];
  for (let at = first; at !== 0; at = view.getUint32(at + 4, true)) {
    expect(found.length).toBeLessThan(100);
    found.push({ id: view.getUint16(at, true), version: view.getUint16(at + 2, true), at });
  }
  return found;
};

test('a walk along next meets every capability, 8-byte aligned, with its bytes', () => {
  fc.assert(
    fc.property(capabilities, fc.integer({ min: 1, max: 4 }), (list, words) => {
      const base = 8 * words;
      const answer = new Uint8Array(base + chainBytes(list));
      answer.set(encodeChain(list, base), base);
      const found = list.length === 0 ? [] : walk(answer, base);
      expect(found.map(({ id, version }) => ({ id, version }))).toEqual(
        list.map(({ id, version }) => ({ id, version })),
      );
      found.forEach(({ at }, index) => {
        const body = list[index]?.body as Uint8Array;
        expect(at % 8).toBe(0);
        expect(answer.subarray(at + 8, at + body.length)).toEqual(body.subarray(8));
      });
    }),
  );
});
