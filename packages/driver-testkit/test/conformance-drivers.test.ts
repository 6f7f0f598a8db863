/** The suite on the drivers of this repository, in the modes that matter. */

import { encode } from '@iommukit/bits';
import { HWPT_DATA } from '@iommukit/core';
import { amdvi, DEFAULT_EFR, DEFAULT_EFR2 } from '@iommukit/driver-amdvi';
import { CD, encodeHwptArmSmmuv3, STE, STE_CONFIG, smmuv3 } from '@iommukit/driver-smmuv3';
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

/** A CD with ASID 1 at GPA 0x8000 and a table of four levels at 0x1000 to 0x4fff, as a guest's SMMUv3 driver builds them. */
const armNesting: NestingSupport = {
  dataType: HWPT_DATA.ARM_SMMUV3,
  buildGuestTable: (write, iova, gpa) => {
    const tables = [0x1000, 0x2000, 0x3000, 0x4000, gpa];
    for (let level = 0; level < 4; level++) {
      const index = Math.floor(iova / 2 ** (39 - 9 * level)) % 512;
      const table = tables[level] as number;
      write(table + 8 * index, word((tables[level + 1] as number) + (level === 3 ? 0xf43 : 3)));
    }
    const cd = encode(CD, {
      V: 1,
      T0SZ: 16,
      EPD1: 1,
      IPS: 5,
      AA64: 1,
      R: 1,
      A: 1,
      ASET: 1,
      ASID: 1,
    });
    write(0x8000, new Uint8Array(cd.buffer));
    write(0x8008, word(0x1000));
    return encodeHwptArmSmmuv3(encode(STE, { V: 1, CONFIG: STE_CONFIG.S1, S1CONTEXTPTR: 0x8000 }));
  },
};

/** A four-level table at GPA 0x1000 to 0x4fff below a GCR3 table at 0x8000, and a guest's entry. */
const amdNesting: NestingSupport = {
  dataType: HWPT_DATA.AMD_GUEST,
  viommuType: 3,
  buildGuestTable: (write, iova, gpa) => {
    vtdNesting.buildGuestTable(write, iova, gpa);
    write(0x8000, word(0x1001));
    const data = new Uint8Array(32);
    const view = new DataView(data.buffer);
    // V, TV, GV, GIoV, IR, IW; GCR3[30:15] = 1.
    view.setBigUint64(0, 0x60c0_0000_0000_0003n, true);
    view.setBigUint64(8, 0x1_0042n, true);
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
  { name: 'amdvi()', createDriver: () => amdvi(), nesting: amdNesting },
  {
    name: 'amdvi(), guest tables',
    createDriver: () => amdvi({ guestTablesByDefault: true }),
    writeOnly: false,
    nesting: amdNesting,
  },
  {
    name: 'amdvi(), host tables alone',
    createDriver: () => amdvi({ capabilities: { efr: DEFAULT_EFR, efr2: DEFAULT_EFR2 } }),
  },
  { name: 'smmuv3()', createDriver: () => smmuv3(), writeOnly: false },
  {
    name: 'smmuv3(), coherent devices',
    createDriver: () => smmuv3({ canWbs: true }),
    writeOnly: false,
    nesting: armNesting,
  },
];

for (const target of targets) describeConformance(target, { describe, it });
