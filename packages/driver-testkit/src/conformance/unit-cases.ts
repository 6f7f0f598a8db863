/**
 * Cases on the unit itself: what it says about itself must be what it does.
 * @module
 */
import { HW_CAP, HWPT_ALLOC } from '@iommukit/core';
import type { ConformanceCase } from './case.ts';

const CONTRACT = 'driver contract, IommuUnit';

export const UNIT_CASES: readonly ConformanceCase[] = [
  {
    name: 'hw_info has the type of the driver and refuses other types',
    spec: 'IOMMU_GET_HW_INFO',
    needs: [],
    run: (bench) => {
      const { unit, device } = bench;
      const info = unit.hwInfo(device, 0);
      bench.equal(info.type, unit.driver.hwInfoType, 'type');
      bench.check(info.data.length > 0 && info.data.length % 4 === 0, 'data must be whole words');
      bench.equal(unit.hwInfo(device, info.type).data, info.data, 'data when asked by type');
      const foreign = info.type === 1 ? 4 : 1;
      bench.refused(() => unit.hwInfo(device, foreign), ['EOPNOTSUPP'], 'a foreign type');
    },
  },
  {
    name: 'page sizes ascend and fit into the address widths',
    spec: CONTRACT,
    needs: [],
    run: (bench) => {
      const { caps } = bench.unit;
      const sorted = [...caps.pageSizesLg2].sort((a, b) => a - b);
      bench.equal(caps.pageSizesLg2.join(), sorted.join(), 'order of page sizes');
      bench.check(sorted.length > 0, 'at least one page size');
      bench.check((sorted[0] as number) <= 12, 'the smallest page is at most 4096 bytes');
      bench.check((sorted.at(-1) as number) < caps.iovaBits, 'the largest page is below the width');
      bench.check(caps.pasidBits >= 0 && caps.pasidBits <= 20, 'PASIDs have at most 20 bits');
    },
  },
  {
    name: 'the dirty capability and domains that track agree',
    spec: 'IOMMU_HW_CAP_DIRTY_TRACKING',
    needs: [],
    run: (bench) => {
      const { unit, device } = bench;
      const flags = HWPT_ALLOC.DIRTY_TRACKING;
      if (unit.hwCapabilities(device) & HW_CAP.DIRTY_TRACKING) {
        const domain = unit.allocPaging(device, { flags });
        bench.check(domain.dirty !== undefined, 'a domain made for tracking must track');
        domain.free();
      } else {
        bench.refused(() => unit.allocPaging(device, { flags }), ['EOPNOTSUPP'], 'tracking');
      }
    },
  },
  {
    name: 'unknown allocation flags are refused',
    spec: 'IOMMU_HWPT_ALLOC, EOPNOTSUPP',
    needs: [],
    run: (bench) => {
      const alloc = () => bench.unit.allocPaging(bench.device, { flags: 0x8000_0000 });
      bench.refused(alloc, ['EOPNOTSUPP'], 'flag bit 31');
    },
  },
  {
    name: 'vendor data on a plain paging HWPT of a foreign type is refused',
    spec: 'IOMMU_HWPT_ALLOC, EOPNOTSUPP',
    needs: [],
    run: (bench) => {
      const { context, device } = bench;
      const devId = context.bindDevice(device);
      const { outIoasId: ptId } = context.ioasAlloc();
      const data = new Uint8Array(8);
      const alloc = () => context.hwptAlloc({ devId, ptId, dataType: 0x7777, data });
      bench.refused(alloc, ['EOPNOTSUPP', 'EINVAL'], 'data type 0x7777');
    },
  },
  {
    name: 'reserved regions are not offered for mapping while the device is attached',
    spec: 'IOMMU_IOAS_IOVA_RANGES',
    needs: [],
    run: (bench) => {
      const { unit, device, context } = bench;
      const { ioasId } = bench.attached();
      const { ranges } = context.ioasIovaRanges({ ioasId });
      for (const { start, last, kind } of unit.reservedRegions(device)) {
        if (kind === 'relaxable') continue;
        const offered = ranges.some((range) => range.start <= last && BigInt(start) <= range.last);
        bench.check(!offered, `${kind} region at ${start} is offered`);
      }
    },
  },
];
