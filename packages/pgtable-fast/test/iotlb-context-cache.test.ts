import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ANY_TAG, ContextCache, NO_PASID } from '../src/iotlb/index.ts';

function add(cache: ContextCache, source: number, pasid: number, tagA: number, value: number) {
  const at = cache.insert(source, pasid, tagA, pasid);
  cache.words[at] = value;
}

function read(cache: ContextCache, source: number, pasid: number): number | undefined {
  const at = cache.lookup(source, pasid);
  return at < 0 ? undefined : cache.words[at];
}

describe('ContextCache', () => {
  it('finds by source and PASID alone, and replaces in place', () => {
    const cache = new ContextCache();
    add(cache, 0x10, NO_PASID, 5, 111);
    add(cache, 0x10, 0, 6, 222);
    expect(read(cache, 0x10, NO_PASID)).toBe(111);
    expect(read(cache, 0x10, 0)).toBe(222);
    expect(read(cache, 0x11, 0)).toBeUndefined();
    add(cache, 0x10, 0, 7, 333);
    expect(read(cache, 0x10, 0)).toBe(333);
    expect(cache.invalidateTag(6)).toBe(0);
  });

  it('hands out zeroed payloads', () => {
    const cache = new ContextCache({ payloadWords: 12 });
    const at = cache.insert(1, NO_PASID, 0, 0);
    cache.words.fill(-1, at, at + 12);
    const again = cache.insert(1, NO_PASID, 0, 0);
    expect([...cache.words.subarray(again, again + 12)]).toEqual(Array(12).fill(0));
  });

  const rows: [string, (c: ContextCache) => number, number[]][] = [
    ['all', (c) => c.invalidateAll(), []],
    ['VT-d 6.5.2.1 device, FM=0', (c) => c.invalidateSource(0x10), [0x11, 0x18, 0x20]],
    ['VT-d 6.5.2.1 device, FM=3: all functions', (c) => c.invalidateSource(0x10, ~7), [0x18, 0x20]],
    [
      'VT-d 6.5.2.1 legacy device: DID too',
      (c) => c.invalidateSource(0x10, ~7, ANY_TAG, 6),
      [0x10, 0x18, 0x20],
    ],
    ['VT-d 6.5.2.1 domain', (c) => c.invalidateTag(5), [0x11, 0x20]],
    ['SMMUv3 4.3 CFGI_STE_RANGE of 32', (c) => c.invalidateSource(0x1f, ~31), [0x20]],
    ['SMMUv3 4.3 CFGI_CD', (c) => c.invalidateSource(0x20, -1, 9), [0x10, 0x11, 0x18]],
    ['VT-d 6.5.2.2 PASID-selective', (c) => c.invalidateTag(6, 9), [0x10, 0x11, 0x18]],
  ];
  it.each(rows)('%s', (_title, command, left) => {
    const cache = new ContextCache();
    add(cache, 0x10, NO_PASID, 5, 1);
    add(cache, 0x11, NO_PASID, 6, 1);
    add(cache, 0x18, NO_PASID, 5, 1);
    add(cache, 0x20, 9, 6, 1);
    expect(command(cache)).toBe(4 - left.length);
    const found = [0x10, 0x11, 0x18].filter((s) => cache.lookup(s, NO_PASID) >= 0);
    if (cache.lookup(0x20, 9) >= 0) found.push(0x20);
    expect(found).toEqual(left);
  });

  it('answers only what was put in last, whatever was evicted', () => {
    const operation = fc.record({
      source: fc.nat(12),
      pasid: fc.integer({ min: -1, max: 2 }),
      value: fc.nat(),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 80 }), (list) => {
        const cache = new ContextCache({ sets: 2, ways: 3 });
        const model = new Map<string, number>();
        for (const { source, pasid, value } of list) {
          add(cache, source, pasid, 0, value);
          model.set(`${source}/${pasid}`, value);
          expect(read(cache, source, pasid)).toBe(value);
        }
        for (const [key, value] of model) {
          const [source, pasid] = key.split('/').map(Number) as [number, number];
          expect([undefined, value]).toContain(read(cache, source, pasid));
        }
      }),
    );
  });

  it.each([
    [{ sets: 3 }, /power of two, got 3/],
    [{ ways: 17 }, /ways must be 1 to 16, got 17/],
    [{ payloadWords: 61 }, /payloadWords must be 1 to 60, got 61/],
  ])('refuses %o', (options, message) => {
    expect(() => new ContextCache(options)).toThrow(message);
  });
});
