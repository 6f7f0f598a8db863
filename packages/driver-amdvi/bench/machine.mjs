// A machine with one unit, its domains and their tables: what every measurement begins with.
import { createMachine, PROT } from '@iommukit/core';
import { amdvi } from '../dist/index.js';

const RW = PROT.READ | PROT.WRITE;
const PAGE = 4096;
const MIB = 2 ** 20;

/** One unit, one device with PASIDs. */
export function benchMachine({ ramMiB = 256, options = {} } = {}) {
  const machine = createMachine({ ramBytes: ramMiB * MIB });
  const endpoint = machine.addEndpoint({ rid: '00:04.0', pasidBits: 16 });
  const unit = machine.addUnit(amdvi(options));
  return { machine, endpoint, unit };
}

/** A paging domain. */
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
