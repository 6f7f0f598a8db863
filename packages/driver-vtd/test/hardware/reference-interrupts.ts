/**
 * Interrupt remapping, slow and obvious: bigint, no cache, no code shared with the model. Posted
 * interrupts are judged, not posted.
 */
import type { Features } from '../../src/hardware/index.ts';

/** A message as `[upper address, address, data]`, `'posted'`, or a reason as a negative number. */
export type ReferenceInterrupt = readonly [number, number, number] | 'posted' | number;

/** What is latched and enabled. */
export interface ReferenceInterruptUnit {
  readonly enabled: boolean;
  readonly compatibility: boolean;
  /** IRTA as latched by SIRTP. */
  readonly irta: bigint;
}

const field = (value: bigint, hi: number, lo: number): number =>
  Number((value >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n));
const anyOf = (value: bigint, ...ranges: readonly (readonly [number, number])[]): boolean =>
  ranges.some(([hi, lo]) => field(value, hi, lo) !== 0);

const sourceMatches = (entry: bigint, rid: number): boolean => {
  const sid = field(entry, 79, 64);
  switch (field(entry, 83, 82)) {
    case 0:
      return true;
    case 1: {
      const kept = [0xffff, 0xfffb, 0xfff9, 0xfff8][field(entry, 81, 80)] as number;
      return (sid & kept) === (rid & kept);
    }
    default:
      return rid >> 8 >= sid >> 8 && rid >> 8 <= (sid & 0xff);
  }
};

const remapped = (entry: bigint, extended: boolean): ReferenceInterrupt => {
  const reserved =
    anyOf(entry, [15, 12], [31, 24], [127, 84]) ||
    (!extended && anyOf(entry, [63, 48], [39, 32])) ||
    [3, 6].includes(field(entry, 7, 5));
  if (reserved) return -0x24;
  const id = extended ? field(entry, 63, 32) : field(entry, 47, 40);
  return [
    id - (id % 256),
    0xfee0_0000 + (id % 256) * 4096 + field(entry, 3, 3) * 8 + field(entry, 2, 2) * 4,
    field(entry, 4, 4) * 0x8000 + 0x4000 + field(entry, 7, 5) * 256 + field(entry, 23, 16),
  ];
};

const posted = (
  read: (pa: bigint) => bigint | undefined,
  entry: bigint,
  f: Features,
  extended: boolean,
): ReferenceInterrupt => {
  if (anyOf(entry, [7, 2], [13, 12], [37, 24], [95, 84], [127, 64 + f.hawBits])) return -0x24;
  const at = (BigInt(field(entry, 127, 96)) << 32n) | (BigInt(field(entry, 63, 38)) << 6n);
  const words = Array.from({ length: 8 }, (_, i) => read(at + BigInt(8 * i)));
  if (words.includes(undefined)) return -0x27;
  const pid = words.reduce<bigint>(
    (all, word, i) => all | ((word as bigint) << BigInt(64 * i)),
    0n,
  );
  const reserved =
    anyOf(pid, [271, 258], [287, 280], [383, 320], [447, 384], [511, 448]) ||
    (!extended && anyOf(pid, [319, 304], [295, 288]));
  return reserved ? -0x28 : 'posted';
};

/** What becomes of a write of four bytes to FEEx_xxxxh. */
export const referenceInterrupt = (
  read: (pa: bigint) => bigint | undefined,
  f: Features,
  unit: ReferenceInterruptUnit,
  rid: number,
  address: number,
  data: number,
): ReferenceInterrupt => {
  const asIs = [0, address, data] as const;
  if (!unit.enabled) return f.remappingRequired ? -0x2b : asIs;
  const extended = field(unit.irta, 11, 11) === 1;
  if (f.extendedInterruptsRequired && !extended) return -0x2a;
  const a = BigInt(address);
  if (field(a, 4, 4) === 0) return extended || !unit.compatibility ? -0x25 : asIs;
  const shv = field(a, 3, 3) === 1;
  if (shv && data > 0xffff) return -0x20;
  const index = field(a, 19, 5) + field(a, 2, 2) * 0x8000 + (shv ? data : 0);
  if (index >= 2 ** (field(unit.irta, 3, 0) + 1)) return -0x21;
  const at = ((unit.irta >> 12n) << 12n) + BigInt(index) * 16n;
  if (at >> BigInt(f.hawBits) !== 0n) return -0x21;
  const [lo, hi] = [read(at), read(at + 8n)];
  if (lo === undefined || hi === undefined) return -0x23;
  const entry = (hi << 64n) | lo;
  if (field(entry, 0, 0) === 0) return -0x22;
  if (field(entry, 83, 82) === 3) return -0x24;
  if (!sourceMatches(entry, rid)) return -0x26;
  return field(entry, 15, 15) === 1 && f.postedInterrupts
    ? posted(read, entry, f, extended)
    : remapped(entry, extended);
};
