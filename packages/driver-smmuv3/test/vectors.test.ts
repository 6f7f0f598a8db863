import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { isStalled, RAZ_WI } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { type Features, resolveFeatures } from '../src/hardware/capabilities.ts';
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
    readonly stag?: string;
  };
  /** Descriptors that hardware updates. */
  readonly writes?: readonly { readonly addr: string; readonly value: string }[];
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

/** The vectors' profile. */
const CAPABILITIES = {
  idr0: { HTTU: 2, HYP: 1, STALL_MODEL: 0, TERM_MODEL: 0 },
  idr3: { HAD: 1, XNX: 1, FWB: 1, STT: 1, RIL: 1, BBML: 2, E0PD: 1, PTWNNC: 1 },
  idr5: { OAS: 6, DS: 1, VAX: 1, STALL_MAX: 64 },
  aidr: 3,
} as const;

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

/** Ends of a walk that has no frame. */
const outcomeOf = (frame: number): string => {
  if (frame >= 0) return 'ok';
  if (isStalled(frame)) return 'stall';
  return frame === RAZ_WI ? 'raz/wi' : 'abort';
};

/** The event of a vector, with the tag that this unit gives its first stall. */
const eventOf = ({ event, request }: Walk): readonly bigint[] | null => {
  const words = event?.map(BigInt) ?? null;
  if (words === null || request.stag === undefined) return words;
  return words.map((word, at) => (at === 1 ? word - BigInt(request.stag as string) : word));
};

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
  expect(recorded ? words : null).toEqual(eventOf(walk));
  expect(outcomeOf(frame)).toBe(walk.result);
  if (frame >= 0) expect((BigInt(frame) << 12n) | (address & 0xfffn)).toBe(BigInt(walk.pa ?? -1));
  const changed = Object.fromEntries((walk.writes ?? []).map(({ addr, value }) => [addr, value]));
  for (const [pa, before] of Object.entries(walk.memory)) {
    expect([pa, memory.load(Number(pa))]).toEqual([pa, BigInt(changed[pa] ?? before)]);
  }
};

describe('SMMUv3 3.4: worked translations', () => {
  test.each(data.walks)('$name', checkWalk);
});

const wordsOf = (qwords: readonly string[]): Uint32Array => {
  const words = new Uint32Array(16);
  qwords.forEach((qword, at) => {
    words[2 * at] = Number(BigInt(qword) & 0xffff_ffffn);
    words[2 * at + 1] = Number(BigInt(qword) >> 32n);
  });
  return words;
};

const verdictOf = (check: ConfigCheck, features: Features): string => {
  const stream = resolveStreamEntry(wordsOf(check.ste), features);
  if (stream.bad) return 'C_BAD_STE';
  if (check.cd === null) return 'legal';
  const { bad } = resolveContextDescriptor(wordsOf(check.cd), features, stream);
  return bad ? 'C_BAD_CD' : 'legal';
};

describe('SMMUv3 5.2.2, 5.4.1: validity of STE and CD', () => {
  test.each(data.configChecks)('$name', (check) => {
    const idr0 = { ...CAPABILITIES.idr0, ...check.idrOverride };
    const features = resolveFeatures({ ...CAPABILITIES, idr0 });
    expect(verdictOf(check, features)).toBe(check.verdict);
  });
});
