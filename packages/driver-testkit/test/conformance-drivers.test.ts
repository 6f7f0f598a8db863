/** The suite on the drivers of this repository, in the modes that matter. */

import { HWPT_DATA } from '@iommukit/core';
import { amdvi } from '@iommukit/driver-amdvi';
import { smmuv3 } from '@iommukit/driver-smmuv3';
import {
  type ConformanceTarget,
  describeConformance,
  type NestingSupport,
} from '@iommukit/driver-testkit';
import { vtd } from '@iommukit/driver-vtd';
import { describe, it } from 'vitest';

const ENTRY_FLAGS = 0x67; // P, RW, US, A, D

/** A little-endian 64-bit word. */
const word = (value: number): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
};

/** A four-level x86 table at GPA 0x1000 to 0x4fff, as a guest's VT-d driver builds it. */
const vtdNesting: NestingSupport = {
  dataType: HWPT_DATA.VTD_S1,
  buildGuestTable: (write, iova, gpa) => {
    const tables = [0x1000, 0x2000, 0x3000, 0x4000, gpa];
    for (let level = 0; level < 4; level++) {
      const index = Math.floor(iova / 2 ** (39 - 9 * level)) % 512;
      const table = tables[level] as number;
      write(table + 8 * index, word((tables[level + 1] as number) + ENTRY_FLAGS));
    }
    const data = new Uint8Array(24);
    const view = new DataView(data.buffer);
    view.setBigUint64(8, 0x1000n, true);
    view.setUint32(16, 48, true);
    return data;
  },
};

const targets: readonly ConformanceTarget[] = [
  // First-stage and VMSAv8 tables have no write-only leaves.
  { name: 'vtd()', createDriver: () => vtd(), writeOnly: false, nesting: vtdNesting },
  {
    name: 'vtd(), nesting with a PASID',
    createDriver: () => vtd(),
    writeOnly: false,
    nesting: { ...vtdNesting, pasid: 5 },
  },
  { name: 'vtd(), legacy mode', createDriver: () => vtd({ scalable: false }) },
  { name: 'vtd(), second stage', createDriver: () => vtd({ firstStageByDefault: false }) },
  { name: 'amdvi()', createDriver: () => amdvi() },
  { name: 'smmuv3()', createDriver: () => smmuv3(), writeOnly: false },
];

for (const target of targets) describeConformance(target, { describe, it });
