/** Commands of a guest: the bits that each may have, what reaches the queue, and how many count. */
import { isIommuError, type UserArray } from '@iommukit/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { GuestFeatures } from '../../src/host/guest-features.ts';
import type { Invalidate } from '../../src/host/invalidate.ts';
import { checkCommand } from '../../src/host/user-commands.ts';
import { invalidateForGuest } from '../../src/host/user-invalidation.ts';
import { veventOf } from '../../src/host/vevents.ts';
import { bytesOf, NESTING_VECTORS, wordsOf } from '../vector-data.ts';

const FEATURES: GuestFeatures = {
  bothStages: true,
  ssidBits: 20,
  asid16: true,
  commandQueueLg2: 8,
  ats: true,
  ranges: true,
  wide: true,
};
const NH_ASID = ['0x1000000000011', '0x0'];
const CFGI_STE = ['0x1000000003', '0x1'];

/** An owner as in the vectors (VMID 9, vSID 0x10 is 0x1700), and what its queue was given. */
const setUp = (features = FEATURES, refuseBatch = -1) => {
  const batches: number[][] = [[]];
  const invalidate = {
    raw: (words: ArrayLike<number>, at: number) => {
      batches.at(-1)?.push(...Array.from(words).slice(at, at + 4));
    },
    submit: () => {
      if (batches.length - 1 === refuseBatch) throw new Error('refused');
      batches.push([]);
    },
    discard: () => {
      batches[batches.length - 1] = [];
    },
  } as unknown as Invalidate;
  const streamsOf = (vsid: number): number[] => (vsid === 0x10 ? [0x1700] : []);
  const owner = { features, invalidate, vmid: 9, streamsOf };
  return { owner, executed: () => batches.slice(0, -1).map((batch) => batch.length / 4), batches };
};

const arrayOf = (commands: readonly (readonly string[])[]): UserArray => ({
  type: 1,
  entryLength: 16,
  entryCount: commands.length,
  done: 0,
  copyEntry: () => new Uint8Array(16),
  copyAll: () => bytesOf(commands.flat()),
});

const run = (
  commands: readonly (readonly string[])[],
  { features = FEATURES, likeLinux73 = false, refuseBatch = -1 } = {},
) => {
  const { owner, executed, batches } = setUp(features, refuseBatch);
  const array = arrayOf(commands);
  let error = '';
  try {
    invalidateForGuest(owner, array, likeLinux73);
  } catch (thrown) {
    error = isIommuError(thrown) ? `${thrown.code} ${thrown.reason.rule}` : String(thrown);
  }
  return { error, done: array.done, executed: executed(), batches };
};

describe('commands of a guest (G.3)', () => {
  test.each(NESTING_VECTORS.uapiInvalidate.cases)('$name', ({ user, host, errno }) => {
    const { error, done, batches } = run([user]);
    expect([error.split(' ')[0], done]).toEqual([errno ?? '', host ? 1 : 0]);
    if (host) expect(batches[0]).toEqual([...wordsOf(host)]);
    else expect(batches.flat()).toEqual([]);
  });

  /** Dwords 0 to 3 of every bit that a command may have, besides its opcode. */
  const ranges = 0x3f1f000;
  test.each<readonly [string, number, Partial<GuestFeatures>, readonly number[]]>([
    ['NSNH_ALL', 0x30, {}, [0, 0, 0, 0]],
    ['NH_ALL', 0x10, {}, [0, 0xffff, 0, 0]],
    ['NH_ASID', 0x11, {}, [0, 0xffff_ffff, 0, 0]],
    ['NH_ASID, 8-bit ASIDs', 0x11, { asid16: false }, [0, 0xff_ffff, 0, 0]],
    ['NH_VA', 0x12, {}, [ranges, 0xffff_ffff, 0xffff_ff01, 0xffff_ffff]],
    ['NH_VA without DS', 0x12, { wide: false }, [0x1f1f000, 0xffff_ffff, 0xffff_ff01, 0xffff_ffff]],
    ['NH_VA without RIL', 0x12, { ranges: false }, [0, 0xffff_ffff, 0xffff_f001, 0xffff_ffff]],
    ['NH_VAA', 0x13, {}, [ranges, 0xffff, 0xffff_ff01, 0xffff_ffff]],
    ['CFGI_CD', 0x05, {}, [0xffff_f000, 0xffff_ffff, 1, 0]],
    ['CFGI_CD without substreams', 0x05, { ssidBits: 0 }, [0, 0xffff_ffff, 1, 0]],
    ['CFGI_CD_ALL', 0x06, {}, [0, 0xffff_ffff, 0, 0]],
    ['ATC_INV', 0x40, {}, [0xffff_fa00, 0xffff_ffff, 0xffff_f03f, 0xffff_ffff]],
    ['ATC_INV, no substreams', 0x40, { ssidBits: 0 }, [0, 0xffff_ffff, 0xffff_f03f, 0xffff_ffff]],
  ])('%s: bits', (_, opcode, changes, masks) => {
    const features = { ...FEATURES, ...changes };
    const found = [0, 0, 0, 0];
    for (let bit = 0; bit < 128; bit++) {
      if (bit < 8) continue;
      const words = Uint32Array.of(opcode, 0, 0, 0);
      words[bit >> 5] = ((words[bit >> 5] as number) | (1 << (bit & 31))) >>> 0;
      try {
        checkCommand(words, 0, features);
      } catch (error) {
        if (isIommuError(error) && error.reason.rule === 'guest-command-bits') continue;
      }
      found[bit >> 5] = ((found[bit >> 5] as number) | (1 << (bit & 31))) >>> 0;
    }
    // The opcode's own bits (w0[7:0]) were not tried; bits 3 and 2 of TTL and TG are bits 11:8.
    expect(found).toEqual(masks.map((mask) => mask >>> 0));
  });

  test.each<readonly [string, readonly string[], Partial<GuestFeatures>, string]>([
    ['TG 2, TTL 1 without DS', ['0x12', '0x900'], { wide: false }, 'EIO guest-range'],
    ['TG 2, TTL 1 with DS', ['0x12', '0x900'], {}, ''],
    ['TG 2, TTL 2 without DS', ['0x12', '0xa00'], { wide: false }, ''],
    ['NUM without TG', ['0x1012', '0x1000'], {}, 'EIO guest-range'],
    ['SCALE without TG', ['0x100013', '0x1000'], {}, 'EIO guest-range'],
    ['TG 3 and TTL alone', ['0x12', '0x1f00'], {}, ''],
    ['ATC_INV of size 52', ['0x1000000040', '0x34'], {}, ''],
    ['ATC_INV of size 63', ['0x1000000040', '0x3f'], {}, 'EIO guest-atc-size'],
    ['ATC_INV on a unit without ATS', ['0x1000000040', '0x34'], { ats: false }, 'EIO guest-opcode'],
    ['PRI_RESP', ['0x1000000041', '0x2000'], {}, 'EIO guest-opcode'],
    ['EL2_ALL', ['0x20', '0x0'], {}, 'EIO guest-opcode'],
    ['opcode 0', ['0x0', '0x0'], {}, 'EIO guest-opcode'],
  ])('%s', (_, command, changes, error) => {
    expect(run([command], { features: { ...FEATURES, ...changes } }).error).toBe(error);
  });
});

describe('entry_num (J.2)', () => {
  const good = (count: number) => Array.from({ length: count }, () => NH_ASID);

  test('the commands before a bad one are executed and counted', () => {
    const { error, done, executed } = run([...good(2), CFGI_STE, NH_ASID]);
    expect([error, done, executed]).toEqual(['EIO guest-opcode', 2, [2]]);
  });

  test('as Linux 7.3: they are counted and not executed', () => {
    const { error, done, executed } = run([...good(2), CFGI_STE], { likeLinux73: true });
    expect([error, done, executed]).toEqual(['EIO guest-opcode', 2, []]);
  });

  test('as Linux 7.3: earlier blocks of 63 are executed', () => {
    const { done, executed } = run([...good(64), CFGI_STE], { likeLinux73: true });
    expect([done, executed]).toEqual([64, [63]]);
  });

  test('a bad one at the start: nothing is sent, not even a SYNC', () => {
    expect(run([CFGI_STE])).toMatchObject({ done: 0, executed: [] });
  });

  test('blocks of 63, one SYNC each', () => {
    expect(run(good(130))).toMatchObject({ error: '', done: 130, executed: [63, 63, 4] });
  });

  test.each([
    [false, 63],
    [true, 125],
  ])('hardware refuses the second block (as Linux 7.3: %s): %i done', (likeLinux73, done) => {
    const result = run(good(130), { likeLinux73, refuseBatch: 1 });
    expect(result).toMatchObject({ error: 'Error: refused', done, executed: [63] });
  });

  test('more than 4 MiB: ENOMEM, and the count is left as it was', () => {
    const array = { ...arrayOf([]), entryCount: 2 ** 18 + 1 };
    expect(() => invalidateForGuest(setUp().owner, array, false)).toThrow('no memory');
    expect(array.done).toBe(2 ** 18 + 1);
  });
});

test('any command: EIO, or the queue gets the host’s VMID or StreamID and no other opcode', () => {
  const word = fc.nat({ max: 0xffff_ffff });
  const opcode = fc.constantFrom(0x30, 0x10, 0x11, 0x12, 0x13, 0x40, 0x05, 0x06, 0x03, 0x28);
  const sparse = fc.oneof(fc.constant(0), fc.constant(0x10), fc.nat({ max: 0xffff }), word);
  const legal = new Set([0x10, 0x11, 0x12, 0x13, 0x40, 0x05, 0x06]);
  let executedCount = 0;
  fc.assert(
    fc.property(opcode, sparse, sparse, sparse, sparse, (op, a, b, c, d) => {
      const hex = (lo: number, hi: number) =>
        `0x${((BigInt(hi) << 32n) | BigInt(lo)).toString(16)}`;
      const { error, batches } = run([[hex((op | (a << 8)) >>> 0, b), hex(c, d)]]);
      if (error !== '') return error.startsWith('EIO ');
      executedCount++;
      const [w0 = 0, w1 = 0] = batches[0] as number[];
      const isStream = [0x40, 0x05, 0x06].includes(w0 & 0xff);
      return legal.has(w0 & 0xff) && (isStream ? w1 === 0x1700 : (w1 & 0xffff) === 9);
    }),
    { numRuns: 5000 },
  );
  expect(executedCount).toBeGreaterThan(100);
});

describe('events for guests (G.3)', () => {
  test.each(NESTING_VECTORS.vevent)('$name', ({ physical, toGuest }) => {
    const bytes = veventOf(wordsOf(physical), 0x10);
    expect(bytes).toEqual(toGuest ? bytesOf(toGuest) : undefined);
  });

  test.each(Array.from({ length: 256 }, (_, code) => code))('code %i', (code) => {
    const forGuests = [0x04, 0x06, 0x08, 0x0a, 0x10, 0x11, 0x12, 0x13];
    const words = Uint32Array.of(code, 0x17, 0, 0, 0, 0, 0, 0);
    expect(veventOf(words, 1) !== undefined).toBe(forGuests.includes(code));
  });
});
