// A unit without a host half: tables and rings written by hand, as a guest's driver does.
import { PhysicalMemory } from '@iommukit/core';
import { createAmdviHardware, FULL_EFR, FULL_EFR2 } from '../dist/index.js';

export const RID = 0x20;
export const PASID = 5;
export const DOMAIN = 7;
const PAGE = 4096;
const BASE = 2 ** 32;
/** Offsets in RAM; data pages come last. */
const AT = { devices: 0, commands: 0x1_0000, gcr3: 0x2_0000, tables: 0x10_0000 };
const RW = 0x6000_0000;

/** Memory and a unit that nothing has programmed yet. */
export function bareUnit() {
  const memory = new PhysicalMemory();
  memory.addRegion({ name: 'ram', base: BASE, size: 512 << 20 });
  const unit = createAmdviHardware({
    memory,
    capabilities: { efr: FULL_EFR, efr2: FULL_EFR2, iotlbSup: true },
  });
  let next = AT.tables;
  /** A page for a table. */
  const page = () => {
    next += PAGE;
    return BASE + next - PAGE;
  };
  const put = (pa, lo, hi) => memory.write64(pa, lo, hi);
  return { memory, unit, page, put };
}

/** A table of `levels` levels for pages 0 to `count - 1`; `point` makes an entry of a level. */
function table({ page }, levels, count, point, frameOf) {
  if (levels === 0) return undefined;
  const root = page();
  const span = 512 ** (levels - 1);
  for (let index = 0; index * span < count; index++) {
    if (levels === 1) point(root + index * 8, frameOf(index) * PAGE, 0);
    else {
      const first = index * span;
      const below = table({ page }, levels - 1, Math.min(span, count - first), point, (pfn) =>
        frameOf(first + pfn),
      );
      point(root + index * 8, below, levels - 1);
    }
  }
  return root;
}

const hiOf = (pa) => Math.floor(pa / 2 ** 32);
const loOf = (pa) => (pa % 2 ** 32) | 0;

/** A host table of `levels` levels. */
export function hostTable(bench, levels, count, frameOf) {
  const point = (at, pa, next) => bench.put(at, loOf(pa) | (next << 9) | 0x21, hiOf(pa) | RW);
  return table(bench, levels, count, point, frameOf);
}

/** A guest table of four levels, accessed and dirty bits set. */
export function guestTable(bench, count, frameOf) {
  const point = (at, pa) => bench.put(at, loOf(pa) | 0x67, hiOf(pa));
  return table(bench, 4, count, point, frameOf);
}

/** Frame of a data page; neighbours do not follow each other. */
export const dataFrame = (pfn) => (BASE + (128 << 20)) / PAGE + (pfn ^ 1);

/** Device table entry, rings, enables. `gcr3` is the guest's CR3 for PASID 5. */
export function program({ unit, put }, { mode = 0, root = 0, cr3 = 0 }) {
  const entry = BASE + AT.devices + RID * 32;
  const gcr3 = BASE + AT.gcr3;
  put(gcr3 + PASID * 8, loOf(cr3) | 1, hiOf(cr3));
  const guest = cr3 === 0 ? 0 : (1 << 23) | (((gcr3 / PAGE) & 7) << 26);
  put(entry, loOf(root) | (mode << 9) | 3, hiOf(root) | guest | RW);
  put(
    entry + 8,
    DOMAIN | (cr3 === 0 ? 0 : (Math.floor(gcr3 / 2 ** 15) & 0xffff) << 16),
    cr3 === 0 ? 0 : Math.floor(gcr3 / 2 ** 31) << 11,
  );
  unit.writeReg64(0x0, 0xf, 1);
  unit.writeReg64(0x8, AT.commands, 0x0c00_0001);
  unit.writeReg64(0x18, 0x1_1001, 0);
}

/** The command ring of 4096 entries. */
export function commandRing({ unit, memory }) {
  let tail = 0;
  return {
    push(w0, w1, w2, w3) {
      memory.write64(BASE + AT.commands + tail, w0, w1);
      memory.write64(BASE + AT.commands + tail + 8, w2, w3);
      tail = (tail + 16) % 0x1_0000;
    },
    ring: () => unit.writeReg32(0x2008, tail),
    isDone: () => unit.readReg32(0x2000) === tail,
  };
}
