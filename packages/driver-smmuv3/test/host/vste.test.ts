/** Stream table entries of a guest: what is accepted, and what the hardware is given for it. */
import { decode } from '@iommukit/bits';
import { isIommuError } from '@iommukit/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type GuestFeatures, guestFeatures } from '../../src/host/guest-features.ts';
import { nestedEntry, readVste } from '../../src/host/vste.ts';
import { STE, STE_CONFIG } from '../../src/spec/stream-table-entry.ts';
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

/** The entry of the vectors' S2: VMID 9, 39-bit IPAs from level 1, root 0x2_0000_0000. */
const STAGE2 = Uint32Array.from(wordsOf(NESTING_VECTORS.physicalNestedSte.words));
STAGE2[0] = 0xd;
STAGE2[1] = 0;
STAGE2[2] = 0;
STAGE2[3] = 1 << 12;

const EFFECTIVE: Readonly<Record<string, string>> = {
  nested: 's1',
  'stage 2 only': 'bypass',
  abort: 'abort',
};

const refusal = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    if (isIommuError(error)) return `${error.code} ${error.reason.rule}`;
    throw error;
  }
  return 'accepted';
};

describe('vSTE (5.2, arm_smmu_validate_vste)', () => {
  test.each(NESTING_VECTORS.vste.cases)('$name', ({ ste, accepted, effective, errno }) => {
    const read = () => readVste(bytesOf(ste), FEATURES);
    if (accepted) expect(read().config).toBe(EFFECTIVE[effective as string]);
    else expect(refusal(read)).toMatch(new RegExp(`^${errno} `));
  });

  test('exactly the bits of the mask are the guest’s', () => {
    const mask = NESTING_VECTORS.vste.mask.map(BigInt);
    for (let bit = 1; bit < 128; bit++) {
      const words = [0x6000bn, 0n];
      const word = bit >> 6;
      words[word] = (words[word] as bigint) | (1n << BigInt(bit & 63));
      const isAllowed = (((mask[word] as bigint) >> BigInt(bit & 63)) & 1n) === 1n;
      const bytes = bytesOf(words.map(String));
      const answer = refusal(() => readVste(bytes, FEATURES));
      expect(answer === 'EIO vste-bits', `bit ${bit}: ${answer}`).toBe(!isAllowed);
    }
  });

  test.each([
    [20, 20, 'accepted'],
    [20, 21, 'EIO vste-s1cdmax'],
    [5, 6, 'EIO vste-s1cdmax'],
    [5, 5, 'accepted'],
    [0, 3, 'accepted'],
  ])('SSIDSIZE %i, S1CDMax %i: %s', (ssidBits, cdMax, answer) => {
    const word = 0x6000bn | (BigInt(cdMax) << 59n);
    const features = { ...FEATURES, ssidBits };
    expect(refusal(() => readVste(bytesOf([String(word), '0']), features))).toBe(answer);
  });

  test('EATS counts for a CD table only', () => {
    expect(readVste(bytesOf(['0x6000b', '0x10000000']), FEATURES).ats).toBe(true);
    expect(readVste(bytesOf(['0x6000b', '0x0']), FEATURES).ats).toBe(false);
    expect(readVste(bytesOf(['0x9', '0x10000000']), FEATURES).ats).toBe(false);
  });
});

describe('the physical entry (G.2)', () => {
  test('vector: Config 7, MEV, the stage 2 of the host', () => {
    const { user, words } = NESTING_VECTORS.physicalNestedSte;
    const entry = nestedEntry(readVste(bytesOf(user), FEATURES), STAGE2, false);
    expect([...entry]).toEqual([...wordsOf(words)]);
  });

  test('EATS is the host’s: 1 only when ATS is on', () => {
    const vste = readVste(bytesOf(['0x6000b', '0x10000000']), FEATURES);
    expect(decode(STE, nestedEntry(vste, STAGE2, true)).EATS).toBe(1);
    expect(decode(STE, nestedEntry(vste, STAGE2, false)).EATS).toBe(0);
  });

  test('any words of a guest: refused with EIO, or nothing of the host’s bits changes', () => {
    const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    const likely = fc.tuple(u64, u64).map(([a, b]) => {
      const [m0 = 0n, m1 = 0n] = NESTING_VECTORS.vste.mask.map(BigInt);
      return [(a & m0 & ~0xen) | 0xbn, b & m1 & ~0x20000000n] as [bigint, bigint];
    });
    fc.assert(
      fc.property(fc.oneof(fc.tuple(u64, u64), likely), ([w0, w1]) => {
        const bytes = bytesOf([String(w0), String(w1)]);
        const answer = refusal(() => readVste(bytes, FEATURES));
        if (answer !== 'accepted') return answer.startsWith('EIO ');
        const vste = readVste(bytes, FEATURES);
        if (vste.config !== 's1') return true;
        const entry = decode(STE, nestedEntry(vste, STAGE2, false));
        const host = decode(STE, STAGE2);
        for (const name of ['S2VMID', 'S2TTB', 'S2T0SZ', 'S2SL0', 'S2PTW', 'S2R', 'S2S'] as const) {
          if (entry[name] !== host[name]) return false;
        }
        return (
          entry.CONFIG === STE_CONFIG.NESTED &&
          entry.MEV === 1 &&
          entry.EATS === 0 &&
          entry.STRW === 0 &&
          BigInt(entry.S1CONTEXTPTR) === (w0 & 0xf_ffff_ffff_ffc0n)
        );
      }),
      { numRuns: 2000 },
    );
  });
});

test('guestFeatures reads the identification registers of the vectors (A.2)', () => {
  // S1P, S2P, ATS, ASID16; SSIDSIZE 20; RIL; DS.
  const idr = [0x84d369b, 0x1084510, 0, 0x7734, 0, 0x4004f6];
  expect(guestFeatures(idr)).toEqual(FEATURES);
});
