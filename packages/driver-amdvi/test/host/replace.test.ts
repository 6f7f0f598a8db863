/**
 * A DMA after every store: while one domain takes the place of another, a unit with cold caches sees
 * the old one or the new one at any moment, and never passes a request by.
 */
import type { Domain } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { createAmdviHardware } from '../../src/index.ts';
import {
  attach,
  type Bench,
  bench,
  Guest,
  GuestTable,
  HWPT,
  map,
  paging,
  SVA_DEVICE,
  stampedPage,
} from './fixture.ts';
import { guestDte, guestOf } from './guests.ts';

const IOVA = 7;
const BLOCKED = -1;
const READ = 1;
const CONTROL_KEPT = 0x0001_0001;
const PASID = 5;

/** A unit that knows nothing yet, on the tables as they are now. */
const coldUnit = ({ machine, unit }: Bench) => {
  const { hardware } = unit;
  const cold = createAmdviHardware({
    memory: machine.memory,
    capabilities: { efr: hardwareEfr(hardware.features), efr2: 0x808n, iotlbSup: true },
  });
  cold.writeReg64(0, hardware.readReg32(0), hardware.readReg32(4));
  // IommuEn, GTEn, GCR3TRPMode as they are; no rings.
  cold.writeReg64(
    0x18,
    hardware.readReg32(0x18) & CONTROL_KEPT,
    hardware.readReg32(0x1c) & (1 << 26),
  );
  return cold;
};

const hardwareEfr = ({ efrLo, efrHi }: { efrLo: number; efrHi: number }): bigint =>
  (BigInt(efrHi) << 32n) | BigInt(efrLo);

const seenBy = (at: Bench, pasid: number): number =>
  Math.max(coldUnit(at).translatePage(at.device.rid, pasid, IOVA, READ), BLOCKED);

interface State {
  readonly domain: Domain;
  readonly frame: number;
}

type Make = (at: Bench) => State;

const hostTable: Make = (at) => {
  const domain = paging(at);
  const frame = stampedPage(at.machine);
  map(domain, IOVA, frame);
  return { domain, frame };
};

const guestTable: Make = (at) => {
  const domain = paging(at, HWPT.PASID);
  const frame = stampedPage(at.machine);
  map(domain, IOVA, frame);
  return { domain, frame };
};

const nested =
  (q2: bigint): Make =>
  (at) => {
    const { parent, backend } = guestOf(at.unit, at.device);
    const guest = new Guest(at.machine, parent);
    const table = new GuestTable(guest);
    const gfn = guest.page();
    table.map(IOVA, gfn);
    const [q0 = 0n, q1 = 0n] = table.dte();
    const domain = backend.allocNested(at.device, 0, guestDte([q0, q1, q2, 0n]));
    // Five levels over a table of four: index 0 of the top leads astray, to nothing.
    return { domain, frame: q2 === 0n ? guest.hostFrame(gfn) : BLOCKED };
  };

const STATES: Readonly<Record<string, Make>> = {
  blocked: (at) => ({ domain: at.unit.blocking, frame: BLOCKED }),
  identity: (at) => ({ domain: at.unit.identity, frame: IOVA }),
  'host table': hostTable,
  'guest table': guestTable,
  'nested, four levels': nested(0n),
  'nested, five levels': nested(1n << 54n),
};

/** PASIDs of the host and a guest's entry exclude each other: by way of a blocked device. */
const isRefused = (from: string, to: string): boolean =>
  /identity|guest table/.test(from) && to.startsWith('nested');

const levels = (name: string): number | undefined => {
  if (/guest table|identity/.test(name) || name.endsWith('five levels')) return 5;
  return name.endsWith('four levels') ? 4 : undefined;
};

/** Both use GuestPagingMode, and not the same: the one case that blocks in between. */
const changesMode = (from: string, to: string): boolean => {
  const [a, b] = [levels(from), levels(to)];
  return a !== undefined && b !== undefined && a !== b;
};

const PAIRS = Object.keys(STATES).flatMap((from) =>
  Object.keys(STATES)
    .filter((to) => !isRefused(from, to))
    .map((to) => [from, to] as const),
);

describe('AMD IOMMU 2.2.2: a DMA after every store', () => {
  it.each(PAIRS)('%s to %s', (from, to) => {
    const at = bench({}, [SVA_DEVICE]);
    const [old, next] = [STATES[from]?.(at), STATES[to]?.(at)];
    if (!old || !next) throw new Error('unknown state');
    attach(at, old.domain);
    const seen = new Set<number>([seenBy(at, -1)]);
    let inside = false;
    at.machine.memory.onWrite = () => {
      if (inside) return;
      inside = true;
      seen.add(seenBy(at, -1));
      inside = false;
    };
    attach(at, next.domain);
    at.machine.memory.onWrite = undefined;
    const allowed = new Set([old.frame, next.frame]);
    if (changesMode(from, to)) allowed.add(BLOCKED);
    expect([...seen].filter((frame) => !allowed.has(frame))).toEqual([]);
    expect(seenBy(at, -1)).toBe(next.frame);
  });

  it.each([
    ['identity', 'guest table'],
    ['guest table', 'guest table'],
    ['guest table', 'identity'],
    ['guest table', 'blocked'],
    ['identity', 'blocked'],
  ])('%s to %s: a PASID beside it sees nothing of it', (from, to) => {
    const at = bench({}, [SVA_DEVICE]);
    const [old, next, kept] = [STATES[from]?.(at), STATES[to]?.(at), guestTable(at)];
    if (!old || !next) throw new Error('unknown state');
    attach(at, old.domain);
    attach(at, kept.domain, PASID);
    const seen = new Set<number>([seenBy(at, PASID)]);
    at.machine.memory.onWrite = () => seen.add(seenBy(at, PASID));
    attach(at, next.domain);
    at.machine.memory.onWrite = undefined;
    expect([...seen]).toEqual([kept.frame]);
  });

  it('a PASID goes from table to table in one store', () => {
    const at = bench({}, [SVA_DEVICE]);
    const [a, b] = [guestTable(at), guestTable(at)];
    attach(at, at.unit.identity);
    attach(at, a.domain, PASID);
    const seen = new Set<number>();
    at.machine.memory.onWrite = () => seen.add(seenBy(at, PASID));
    attach(at, b.domain, PASID);
    at.machine.memory.onWrite = undefined;
    expect([...seen]).toEqual([b.frame]);
  });
});
