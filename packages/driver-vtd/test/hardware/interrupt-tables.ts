/** Interrupt remapping for tests: entries by name, requests as devices write them. */
import { encode } from '@iommukit/bits';
import { createInterruptMessage, type InterruptMessage } from '@iommukit/core';
import type { VtdHardwareOptions } from '../../src/hardware/index.ts';
import {
  GCMD,
  IRTA,
  IRTE,
  IRTE_POSTED,
  POSTED_INTERRUPT_DESCRIPTOR,
} from '../../src/spec/index.ts';
import { BenchUnit } from './bench-unit.ts';
import { RID } from './tables.ts';

/** Where the table stands, and a posted interrupt descriptor. */
export const TABLE = 0x6_0000;
export const DESCRIPTOR = 0x7_0040;

/** Everything that interrupt remapping has. */
export const INTERRUPT_OPTIONS: Partial<VtdHardwareOptions> = {
  capabilities: { cap: { PI: 1 }, ecap: { IR: 1, EIM: 1, MHMV: 15 } },
};

const { IRE, CFI, SIRTP } = GCMD.fields;

type Entry = Partial<Record<keyof typeof IRTE.fields, number>>;
type Posted = Partial<Record<keyof typeof IRTE_POSTED.fields, number>>;

/** Dwords at a byte address, as 64-bit words. */
export const put = (address: number, dwords: ArrayLike<number>): Record<number, bigint> => {
  const words: Record<number, bigint> = {};
  for (let i = 0; i < dwords.length; i += 2)
    words[address + i * 4] =
      (BigInt((dwords[i + 1] as number) >>> 0) << 32n) | BigInt((dwords[i] as number) >>> 0);
  return words;
};

/** Entry of a remapped interrupt: vector 51h to APIC id 3 of any requester, but for `fields`. */
export const entry = (index: number, fields: Entry = {}, base = TABLE) =>
  put(base + index * 16, encode(IRTE, { P: 1, V: 0x51, DST: 0x300, ...fields }));

/** Entry of a posted interrupt: vector 42h into {@link DESCRIPTOR}. */
export const postedEntry = (index: number, fields: Posted = {}) =>
  put(
    TABLE + index * 16,
    encode(IRTE_POSTED, { P: 1, IM: 1, VV: 0x42, PDAL: DESCRIPTOR >>> 6, ...fields }),
  );

/** A posted interrupt descriptor: notification vector F2h to APIC id 5. */
export const descriptor = (
  fields: Partial<Record<'ON' | 'SN' | 'NV' | 'NDST', number>> = {},
  address = DESCRIPTOR,
) => put(address, encode(POSTED_INTERRUPT_DESCRIPTOR, { NV: 0xf2, NDST: 0x500, ...fields }));

/** Address of a remappable request. */
export const remappable = (handle: number, shv = false): number =>
  (0xfee0_0010 | ((handle & 0x7fff) << 5) | (handle >>> 15 ? 4 : 0) | (shv ? 8 : 0)) >>> 0;

/** How a table is latched and remapping switched on. */
export interface InterruptSetup {
  readonly base?: number | bigint;
  /** S: 2^(S+1) entries. */
  readonly size?: number;
  readonly extended?: boolean;
  readonly compatibility?: boolean;
}

/** A bench with interrupts, the queue on, remapping off. */
export const interruptBench = (
  memory: Record<number, bigint>,
  options = INTERRUPT_OPTIONS,
): BenchUnit => new BenchUnit(options).poke(memory).setRoot(0x3400).enableQueue();

/** Latch the table and enable remapping. */
export function enableInterrupts(
  bench: BenchUnit,
  { base = TABLE, size = 7, extended = false, compatibility = false }: InterruptSetup = {},
): BenchUnit {
  bench.unit.writeRegister64(IRTA.offset, BigInt(base) | BigInt(size | (extended ? 0x800 : 0)));
  bench.command(SIRTP.mask);
  bench.command((IRE.mask | (compatibility ? CFI.mask : 0)) >>> 0);
  return bench;
}

/** What became of a request: the message, 0 for "taken", or the reason as a negative number. */
export function interrupt(
  bench: BenchUnit,
  address: number,
  data = 0,
  rid = RID,
  bytes = 4,
): InterruptMessage | number {
  const message = createInterruptMessage();
  const answer = bench.unit.remapInterrupt(rid, address, data, bytes, message);
  return answer === 1 ? message : answer;
}
