// A machine with one unit, its domains and their tables: what every measurement begins with.
import { encode } from '@iommukit/bits';
import { createMachine, PROT } from '@iommukit/core';
import { CD, encodeHwptArmSmmuv3, STE, smmuv3 } from '../dist/index.js';

const RW = PROT.READ | PROT.WRITE;
const NEST_PARENT = 1;
const PAGE = 4096;
const MIB = 2 ** 20;

/** One unit, one device with PASIDs. */
export function benchMachine({ ramMiB = 256, options = {}, device = {} } = {}) {
  const machine = createMachine({ ramBytes: ramMiB * MIB });
  const endpoint = machine.addEndpoint({ rid: '00:04.0', pasidBits: 20, ...device });
  const unit = machine.addUnit(smmuv3({ canWbs: true, ...options }));
  return { machine, endpoint, unit };
}

/** A paging domain: stage 1, or stage 2 where the unit has no other. */
export const paging = ({ unit, endpoint }, flags = 0) => unit.allocPaging(endpoint, { flags });

/** Map `count` pages, each by an entry of its own, to one stretch of frames. */
export function mapPages(domain, iovaPfn, frame, count) {
  // Frames that do not follow each other: no page is joined with its neighbour.
  const runs = new Float64Array(count * 2);
  for (let i = 0; i < count; i++) {
    runs[i * 2] = frame + (i ^ 1);
    runs[i * 2 + 1] = 1;
  }
  const result = domain.mapRuns(iovaPfn, runs, count, RW);
  if (result !== 0) throw new Error(`mapping ${count} pages failed: ${result}`);
}

/** Frames of RAM, aligned to their number. */
export function frames(machine, count) {
  const pa = machine.memory.allocPages(count, { alignPages: 2 ** Math.ceil(Math.log2(count)) });
  if (pa < 0) throw new Error(`no ${count} frames are left`);
  return pa / PAGE;
}

/** `struct iommu_hwpt_arm_smmuv3` of a guest that has one context descriptor. */
function guestEntry(cdGpa) {
  const bytes = encodeHwptArmSmmuv3(encode(STE, { V: 1, CONFIG: 5, S1CONTEXTPTR: cdGpa }));
  return { type: 2, length: bytes.length, copyIn: () => bytes, copyOut() {} };
}

/**
 * A guest whose own 4-level table maps `count` pages from guest address 0 up, over a nest parent
 * with 4 KiB pages; attached. Guest address = IOVA: only tables stand elsewhere.
 */
export function nestedGuest(bench, count) {
  const { machine, unit, endpoint } = bench;
  const leafTables = Math.ceil(count / 512);
  const ram = count + leafTables + 4;
  const frame = frames(machine, 2 ** Math.ceil(Math.log2(ram)));
  const parent = paging(bench, NEST_PARENT);
  mapPages(parent, 0, frame, ram + (ram & 1));
  const hostOf = (gfn) => (frame + (gfn ^ 1)) * PAGE;
  const store = (pa, value) =>
    machine.memory.write64(pa, value % 2 ** 32, Math.floor(value / 2 ** 32));
  const set = (table, index, gfn, bits) => store(hostOf(table) + index * 8, gfn * PAGE + bits);
  const [descriptor, root, level1, level2] = [count, count + 1, count + 2, count + 3];
  set(root, 0, level1, 3);
  set(level1, 0, level2, 3);
  for (let i = 0; i < leafTables; i++) set(level2, i, count + 4 + i, 3);
  for (let page = 0; page < count; page++) set(count + 4 + (page >>> 9), page & 511, page, 0xf43);
  const context = { V: 1, T0SZ: 16, EPD1: 1, IPS: 5, AA64: 1, R: 1, A: 1, ASID: 1 };
  const words = encode(CD, { ...context, TTB0: root * PAGE });
  for (let at = 0; at < words.length; at++)
    machine.memory.write32(hostOf(descriptor) + at * 4, words[at]);
  const nested = unit.nesting.allocNested(endpoint, parent, 0, guestEntry(descriptor * PAGE));
  unit.attach(endpoint, -1, nested);
  return { parent, nested, hostFrame: (gfn) => hostOf(gfn) / PAGE };
}
