// A machine with one unit, its domains and their tables: what every measurement begins with.
import { createMachine, PROT } from '@iommukit/core';
import { vtd } from '../dist/index.js';

const RW = PROT.READ | PROT.WRITE;
const NEST_PARENT = 1;
const PAGE = 4096;
const MIB = 2 ** 20;

/** One unit, one device with PASIDs, ATS and PRI. */
export function benchMachine({ ramMiB = 256, options = {}, device = {} } = {}) {
  const machine = createMachine({ ramBytes: ramMiB * MIB });
  const endpoint = machine.addEndpoint({ rid: '00:04.0', pasidBits: 20, ...device });
  const unit = machine.addUnit(vtd(options));
  return { machine, endpoint, unit };
}

/** A paging domain; second stage when `secondStage`. */
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

/** `struct iommu_hwpt_vtd_s1` for a 4-level table. */
function guestTables(rootGpa) {
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(8, BigInt(rootGpa), true);
  view.setUint32(16, 48, true);
  return { type: 1, length: 24, copyIn: () => bytes, copyOut() {} };
}

/**
 * A guest whose own 4-level table maps `count` pages from guest address 0 up, over a nest parent
 * with 4 KiB pages; attached. Guest address = IOVA: only tables stand elsewhere.
 */
export function nestedGuest(bench, count) {
  const { machine, unit, endpoint } = bench;
  const leafTables = Math.ceil(count / 512);
  const ram = count + leafTables + 3;
  const frame = frames(machine, 2 ** Math.ceil(Math.log2(ram)));
  const parent = paging(bench, NEST_PARENT);
  mapPages(parent, 0, frame, ram + (ram & 1));
  const hostOf = (gfn) => (frame + (gfn ^ 1)) * PAGE;
  const set = (table, index, gfn) => {
    const entry = gfn * PAGE + 0x67;
    machine.memory.write64(hostOf(table) + index * 8, entry % 2 ** 32, Math.floor(entry / 2 ** 32));
  };
  const [root, level3, level2] = [count, count + 1, count + 2];
  set(root, 0, level3);
  set(level3, 0, level2);
  for (let i = 0; i < leafTables; i++) set(level2, i, count + 3 + i);
  for (let page = 0; page < count; page++) set(count + 3 + (page >>> 9), page & 511, page);
  const nested = unit.nesting.allocNested(endpoint, parent, 0, guestTables(root * PAGE));
  unit.attach(endpoint, -1, nested);
  return { parent, nested, hostFrame: (gfn) => hostOf(gfn) / PAGE };
}
