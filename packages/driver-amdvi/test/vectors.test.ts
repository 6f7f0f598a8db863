import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { encode, u64 } from '@iommukit/bits';
import { describe, expect, test } from 'vitest';
import { decodeRange } from '../src/hardware/invalidation-range.ts';
import { AmdviHardware } from '../src/hardware/iommu.ts';
import { COMPLETION_WAIT, DTE, EVENT_ENTRY, INVALIDATE_IOMMU_PAGES } from '../src/spec/index.ts';
import { SparseMemory } from './sparse-memory.ts';

interface Vector {
  readonly name: string;
  readonly registers: Readonly<Record<string, string>>;
  readonly memory: Readonly<Record<string, string>>;
  readonly cases: readonly VectorCase[];
}

interface VectorCase {
  readonly request: {
    readonly device_id: string;
    readonly pasid: string | null;
    readonly address: string;
    readonly write: boolean;
    readonly kind: string;
  };
  readonly expect: {
    readonly fault: boolean;
    readonly spa?: string;
    readonly event?: { readonly qwords: readonly [string, string] };
    readonly memory_after?: Readonly<Record<string, string>>;
  };
}

const data = JSON.parse(
  gunzipSync(readFileSync(new URL('data/amdvi-vectors.json.gz', import.meta.url))).toString(),
) as {
  translation: Vector[];
  size_encoding: { name: string; address_and_S: string; covers: [string, string] }[];
};

const GT_EN = 1n << 16n;
const LOG = 0x7_0000;
const CONTROL = 0x18;

/** Why a vector is left out; undefined = it runs. */
const needs = ({ registers, cases }: Vector): string | undefined => {
  if ((BigInt(registers['0x0018'] ?? 0) & GT_EN) !== 0n) return 'guest tables (EFR.GTSup)';
  return cases.every(({ request }) => request.kind === 'untranslated') ? undefined : 'ATS';
};

const write64 = (unit: AmdviHardware, offset: number, value: bigint) =>
  unit.writeReg64(offset, Number(value & 0xffff_ffffn), Number(value >> 32n));

const boot = (vector: Vector) => {
  const memory = new SparseMemory();
  for (const [pa, value] of Object.entries(vector.memory)) memory.store(Number(pa), BigInt(value));
  const unit = new AmdviHardware({ memory });
  write64(unit, 0x10, 0x0800_0000_0000_0000n | BigInt(LOG));
  for (const [offset, value] of Object.entries(vector.registers)) {
    const extra = Number(offset) === CONTROL ? 4n : 0n;
    write64(unit, Number(offset), BigInt(value) | extra);
  }
  return { memory, unit };
};

const word = (value: bigint) => `0x${value.toString(16).padStart(16, '0')}`;

describe('AMD IOMMU 2.1.3, 2.2.2, 2.2.3: worked translations', () => {
  for (const vector of data.translation) {
    const missing = needs(vector);
    if (missing !== undefined) test.skip(`${vector.name}: needs ${missing}`, () => undefined);
    else test(vector.name, () => checkVector(vector));
  }
});

const checkVector = (vector: Vector): void => {
  for (const { request, expect: expected } of vector.cases) {
    const { memory, unit } = boot(vector);
    const address = BigInt(request.address);
    const frame = unit.translatePage(
      Number(request.device_id),
      -1,
      Number(address >> 12n),
      request.write ? 2 : 1,
      Number(address & 0xfffn),
    );
    if (expected.fault) {
      expect(frame).toBeLessThan(0);
      expect([word(memory.load(LOG)), word(memory.load(LOG + 8))]).toEqual(expected.event?.qwords);
    } else {
      expect(unit.readReg32(0x2018)).toBe(0);
      expect(word((BigInt(frame) << 12n) | (address & 0xfffn))).toBe(expected.spa);
    }
    for (const [pa, value] of Object.entries(expected.memory_after ?? {})) {
      expect(word(memory.load(Number(pa)))).toBe(value);
    }
  }
};

test.each(data.size_encoding.map((item) => [item.name, item] as const))(
  'AMD IOMMU 2.4.3: range of %s',
  (_, { address_and_S, covers }) => {
    const value = BigInt(address_and_S);
    const range = decodeRange(Number(value & 0xffff_ffffn), Number(value >> 32n));
    const first = BigInt(range?.firstPfn ?? -1) << 12n;
    expect([word(first), word(first + (1n << BigInt(range?.sizeLg2 ?? 0)) - 1n)]).toEqual(covers);
  },
);

const qwords = (words: Uint32Array): string[] =>
  Array.from({ length: words.length / 2 }, (_, at) =>
    word(u64(words[2 * at] as number, words[2 * at + 1] as number)),
  );

test.each([
  [
    'DTE host table, mode 4, dirty tracking, ATS',
    encode(DTE, {
      V: 1,
      TV: 1,
      HAD: 3,
      MODE: 4,
      HOST_ROOT: 0x123456000,
      IR: 1,
      IW: 1,
      DOMAIN_ID: 0x11,
      I: 1,
    }),
    ['0x6000000123456983', '0x0000000100000011', '0x0000000000000000', '0x0000000000000000'],
  ],
  [
    'COMPLETION_WAIT store',
    encode(COMPLETION_WAIT, { S: 1, ADDR: 0x1_0000_2008, OPCODE: 1, DATA: 0x1122334455667788n }),
    ['0x1000000100002009', '0x1122334455667788'],
  ],
  [
    'INVALIDATE_IOMMU_PAGES whole domain',
    encode(INVALIDATE_IOMMU_PAGES, {
      OPCODE: 3,
      DOMAIN_ID: 0x11,
      S: 1,
      PDE: 1,
      ADDR: 0x7ffffffffffff000n,
    }),
    ['0x3000001100000000', '0x7ffffffffffff003'],
  ],
  [
    'IO_PAGE_FAULT write',
    encode(EVENT_ENTRY, {
      CODE: 2,
      DEVICE_ID: 0x108,
      DOMAIN_ID: 0x11,
      PE: 1,
      PR: 1,
      RW: 1,
      ADDR: 0x1234567n,
    }),
    ['0x2070001100000108', '0x0000000001234567'],
  ],
])('bits of %s', (_, words, expected) => {
  expect(qwords(words)).toEqual(expected);
});
