import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import {
  type Features,
  resolveFeatures,
  type SmmuCapabilities,
} from '../src/hardware/capabilities.ts';
import { resolveContextDescriptor } from '../src/hardware/context-descriptor-check.ts';
import { SmmuHardware } from '../src/hardware/iommu.ts';
import { resolveStreamEntry } from '../src/hardware/stream-entry-check.ts';
import { SparseMemory } from './sparse-memory.ts';

interface Walk {
  readonly name: string;
  readonly regs: Readonly<Record<string, string>>;
  readonly memory: Readonly<Record<string, string>>;
  readonly request: {
    readonly sid: string;
    readonly va: string;
    readonly write?: boolean;
    readonly ssid?: string;
    readonly priv?: string;
  };
  readonly result: string;
  readonly pa?: string;
  readonly event: readonly string[] | null;
  readonly externalAbortPages?: readonly string[];
}

interface ConfigCheck {
  readonly name: string;
  readonly ste: readonly string[];
  readonly cd: readonly string[] | null;
  readonly idrOverride: Readonly<Record<string, number>>;
  readonly verdict: string;
}

const data = JSON.parse(
  gunzipSync(readFileSync(new URL('data/smmuv3-vectors.json.gz', import.meta.url))).toString(),
) as { walks: Walk[]; configChecks: ConfigCheck[] };

/** The vectors' profile, as far as it is modelled: 52-bit addresses for the 64K granule. */
const CAPABILITIES: SmmuCapabilities = { idr5: { OAS: 6, VAX: 1 } };

/** What a vector needs that this unit does not have. */
const MISSING: Readonly<Record<string, string>> = {
  'nested-httu-af-s2-readonly': 'access flag updates (IDR0.HTTU)',
  'nested-httu-af-ok': 'access flag updates (IDR0.HTTU)',
  's1-af0-ha': 'access flag updates (IDR0.HTTU)',
  's1-dbm-write': 'dirty state updates (IDR0.HTTU)',
  's1-dbm-read': 'dirty state updates (IDR0.HTTU)',
  's1-dbm-nohd': 'access flag updates (IDR0.HTTU)',
  's1-4k-lpa2': '52-bit addresses with 4K (IDR5.DS)',
  's1-ro-write-raz': 'termination without abort (IDR0.TERM_MODEL 0)',
  's1-ro-write-stall': 'stalling (IDR0.STALL_MODEL 0)',
  's1-ro-write-stalld': 'stalling (IDR0.STALL_MODEL 0)',
};

const EVENT_QUEUE = 0xff_0000;

const write64 = (unit: SmmuHardware, offset: number, value: bigint) =>
  unit.writeReg64(offset, Number(value & 0xffff_ffffn), Number(value >> 32n));

const boot = (walk: Walk) => {
  const memory = new SparseMemory();
  for (const [pa, value] of Object.entries(walk.memory)) memory.store(Number(pa), BigInt(value));
  const holes = new Set((walk.externalAbortPages ?? []).map(Number));
  const unit = new SmmuHardware({
    capabilities: CAPABILITIES,
    memory: {
      regionAt: (pa) => (holes.has(pa - (pa % 4096)) ? undefined : memory.regionAt(pa)),
    },
  });
  const { regs } = walk;
  write64(unit, 0x80, BigInt(regs['STRTAB'] ?? 0));
  unit.writeReg32(
    0x88,
    Number(regs['LOG2SIZE']) | (Number(regs['SPLIT']) << 6) | (Number(regs['FMT']) << 16),
  );
  unit.writeReg32(0x2c, Number(regs['RECINVSID'] ?? 0) << 1);
  write64(unit, 0xa0, BigInt(EVENT_QUEUE) | 4n);
  unit.writeReg32(0x20, 0x4 | Number(regs['SMMUEN']));
  return { memory, unit };
};

describe('SMMUv3 3.4: worked translations', () => {
  for (const walk of data.walks) {
    const missing = MISSING[walk.name];
    if (missing !== undefined) test.skip(`${walk.name}: needs ${missing}`, () => undefined);
    else test(walk.name, () => checkWalk(walk));
  }
});

const checkWalk = (walk: Walk): void => {
  const { memory, unit } = boot(walk);
  const { sid, va, write, ssid, priv } = walk.request;
  const address = BigInt(va);
  const access = (write === true ? 2 : 1) | (priv === undefined ? 0 : 8);
  const frame = unit.translatePage(
    Number(sid),
    ssid === undefined ? -1 : Number(ssid),
    Number(address >> 12n),
    access,
    Number(address & 0xfffn),
  );
  const recorded = unit.readReg32(0x100a8) === 1;
  const words = Array.from({ length: 4 }, (_, at) => memory.load(EVENT_QUEUE + 8 * at));
  expect(recorded ? words : null).toEqual(walk.event?.map(BigInt) ?? null);
  expect(frame >= 0).toBe(walk.result === 'ok');
  if (frame >= 0) expect((BigInt(frame) << 12n) | (address & 0xfffn)).toBe(BigInt(walk.pa ?? -1));
};

const wordsOf = (qwords: readonly string[]): Uint32Array => {
  const words = new Uint32Array(16);
  qwords.forEach((qword, at) => {
    words[2 * at] = Number(BigInt(qword) & 0xffff_ffffn);
    words[2 * at + 1] = Number(BigInt(qword) >> 32n);
  });
  return words;
};

/** Checks that rest on features that this unit does not have. */
const NEEDS: Readonly<Record<string, string>> = {
  'STRW=1': 'EL2 stream worlds (IDR0.HYP)',
  'STRW=2': 'EL2 stream worlds (IDR0.HYP)',
  'S2S=0 with stall model 2': 'forced stalling',
  'CD.S=0 with stall model 2': 'forced stalling',
  'S1STALLD=1 with CD.S=1': 'stalling (IDR0.STALL_MODEL 0)',
};

const verdictOf = (check: ConfigCheck, features: Features): string => {
  const stream = resolveStreamEntry(wordsOf(check.ste), features);
  if (stream.bad) return 'C_BAD_STE';
  if (check.cd === null) return 'legal';
  return resolveContextDescriptor(wordsOf(check.cd), features).bad ? 'C_BAD_CD' : 'legal';
};

describe('SMMUv3 5.2.2, 5.4.1: validity of STE and CD', () => {
  for (const check of data.configChecks) {
    const missing = NEEDS[check.name];
    if (missing !== undefined) {
      test.skip(`${check.name}: needs ${missing}`, () => undefined);
      continue;
    }
    test(check.name, () => {
      const { VMID16, ASID16 } = check.idrOverride;
      const idr0 = {
        ...(VMID16 === undefined ? {} : { VMID16 }),
        ...(ASID16 === undefined ? {} : { ASID16 }),
      };
      const features = resolveFeatures({ ...CAPABILITIES, idr0 });
      expect(verdictOf(check, features)).toBe(check.verdict);
    });
  }
});
