/**
 * Cases with DMA: what devices reach through attachments made by iommufd.
 * @module
 */
import { HWPT_ALLOC, IOAS_MAP, PAGE_BYTES } from '@iommukit/core';
import type { ConformanceCase } from './case.ts';

const BYTES = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
const FIXED_READ = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE;
const FIXED_WRITE = IOAS_MAP.FIXED_IOVA | IOAS_MAP.WRITEABLE;
const CONTRACT_ATTACH = 'driver contract, attach';

export const DMA_CASES: readonly ConformanceCase[] = [
  {
    name: 'a device that nobody attached reaches nothing',
    spec: CONTRACT_ATTACH,
    needs: [],
    run: (bench) => {
      const base = bench.machine.memory.allocPages(1);
      bench.equal(bench.device.dmaWrite(base, BYTES), 0, 'bytes written to physical memory');
      bench.equal(bench.device.dmaRead(base, new Uint8Array(8)), 0, 'bytes read');
      bench.machine.memory.freePages(base, 1);
    },
  },
  {
    name: 'DMA moves the bytes of the mapping, also across pages',
    spec: 'IOMMU_IOAS_MAP',
    needs: [],
    run: (bench) => {
      const { ioasId } = bench.attached();
      const iova = bench.usableIova(ioasId);
      bench.map(ioasId, iova, 4);
      bench.equal(bench.device.dmaWrite(iova + PAGE_BYTES - 3, BYTES), 8, 'bytes written');
      bench.equal(bench.user(0, PAGE_BYTES - 3, 8), BYTES, 'memory');
      const back = new Uint8Array(8);
      bench.equal(bench.device.dmaRead(iova + PAGE_BYTES - 3, back), 8, 'bytes read');
      bench.equal(back, BYTES, 'what the device reads');
      bench.equal(bench.device.dmaWrite(iova + 4 * PAGE_BYTES - 3, BYTES), 3, 'over the end');
    },
  },
  {
    name: 'after an unmap nothing is reached, not even through caches',
    spec: 'IOMMU_IOAS_UNMAP',
    needs: [],
    run: (bench) => {
      const { ioasId } = bench.attached();
      const iova = bench.usableIova(ioasId);
      for (let round = 0; round < 3; round++) {
        bench.map(ioasId, iova, 2, 2 * round);
        bench.equal(bench.device.dmaWrite(iova, BYTES), 8, `bytes written in round ${round}`);
        bench.equal(bench.user(2 * round, 0, 8), BYTES, `memory in round ${round}`);
        bench.context.ioasUnmap({ ioasId, iova, length: 2 * PAGE_BYTES });
        bench.equal(bench.device.dmaWrite(iova, BYTES), 0, `after the unmap in round ${round}`);
      }
    },
  },
  {
    name: 'a read-only mapping can be read and not written',
    spec: 'IOMMU_IOAS_MAP_READABLE',
    needs: [],
    run: (bench) => {
      const { ioasId } = bench.attached();
      const iova = bench.usableIova(ioasId);
      bench.map(ioasId, iova, 1, 0, FIXED_READ);
      bench.equal(bench.device.dmaRead(iova, new Uint8Array(8)), 8, 'bytes read');
      bench.equal(bench.device.dmaWrite(iova, BYTES), 0, 'bytes written');
    },
  },
  {
    name: 'a write-only mapping can be written and not read',
    spec: 'IOMMU_IOAS_MAP_WRITEABLE',
    needs: ['write-only'],
    run: (bench) => {
      const { ioasId } = bench.attached();
      const iova = bench.usableIova(ioasId);
      bench.map(ioasId, iova, 1, 0, FIXED_WRITE);
      bench.equal(bench.device.dmaWrite(iova, BYTES), 8, 'bytes written');
      bench.equal(bench.device.dmaRead(iova, new Uint8Array(8)), 0, 'bytes read');
    },
  },
  {
    name: 'a large mapping (2 MiB and a bit) reaches every page',
    spec: 'IOMMU_IOAS_MAP',
    needs: [],
    run: (bench) => {
      const { ioasId } = bench.attached();
      const iova = bench.usableIova(ioasId);
      const pages = 515;
      bench.map(ioasId, iova, pages);
      for (const page of [0, 1, 255, 511, 512, 514]) {
        const mark = Uint8Array.of(page & 255, page >> 8);
        bench.equal(bench.device.dmaWrite(iova + page * PAGE_BYTES, mark), 2, `page ${page}`);
        bench.equal(bench.user(page, 0, 2), mark, `memory of page ${page}`);
      }
    },
  },
  {
    name: 'devices on different IOASes are isolated, on one IOAS they share',
    spec: CONTRACT_ATTACH,
    needs: [],
    run: (bench) => {
      const one = bench.attached(bench.device);
      const two = bench.attached(bench.other);
      const iova = bench.usableIova(one.ioasId);
      bench.map(one.ioasId, iova, 1, 0);
      bench.equal(bench.other.dmaWrite(iova, BYTES), 0, 'the other device');
      bench.map(two.ioasId, iova, 1, 1);
      bench.equal(bench.other.dmaWrite(iova, BYTES), 8, 'with a mapping of its own');
      bench.equal(bench.user(0, 0, 8), new Uint8Array(8), 'memory of the first device');
      bench.context.deviceReplace(two.devId, one.ioasId);
      bench.equal(bench.other.dmaWrite(iova, BYTES), 8, 'after moving');
      bench.equal(bench.user(0, 0, 8), BYTES, 'memory of the shared IOAS');
    },
  },
  {
    name: 'replace switches to the new IOAS; detach blocks; attaching again works',
    spec: CONTRACT_ATTACH,
    needs: [],
    run: (bench) => {
      const { devId, ioasId } = bench.attached();
      const { outIoasId: second } = bench.context.ioasAlloc();
      const iova = bench.usableIova(ioasId);
      bench.map(ioasId, iova, 1, 0);
      bench.map(second, iova, 1, 1);
      bench.equal(bench.device.dmaWrite(iova, BYTES), 8, 'first IOAS');
      const { outHwptId: hwptId } = bench.context.hwptAlloc({ devId, ptId: second });
      bench.context.deviceReplace(devId, hwptId);
      bench.equal(bench.device.dmaWrite(iova, BYTES), 8, 'second IOAS');
      bench.equal(bench.user(1, 0, 8), BYTES, 'memory of the second');
      bench.context.deviceDetach(devId);
      bench.equal(bench.device.dmaWrite(iova, BYTES), 0, 'detached');
      bench.context.deviceAttach(devId, hwptId);
      bench.equal(bench.device.dmaWrite(iova, BYTES), 8, 'attached again');
    },
  },
  {
    name: 'a second HWPT over an IOAS holds what was mapped before it',
    spec: 'IOMMU_HWPT_ALLOC',
    needs: [],
    run: (bench) => {
      const { devId, ioasId } = bench.attached();
      const iova = bench.usableIova(ioasId);
      bench.map(ioasId, iova, 3);
      const { outHwptId } = bench.context.hwptAlloc({ devId, ptId: ioasId });
      bench.context.deviceReplace(devId, outHwptId);
      bench.equal(bench.device.dmaWrite(iova + 2 * PAGE_BYTES, BYTES), 8, 'bytes written');
    },
  },
  {
    name: 'each PASID has its own address space beside the RID',
    spec: 'IOMMU_HWPT_ALLOC_PASID',
    needs: ['pasid'],
    run: (bench) => {
      const { context } = bench;
      const devId = context.bindDevice(bench.device);
      const ids = [0, 1, 2].map(() => context.ioasAlloc().outIoasId);
      const hwpts = ids.map((ptId) => {
        const { outHwptId } = context.hwptAlloc({ devId, ptId, flags: HWPT_ALLOC.PASID });
        return outHwptId;
      });
      context.deviceAttach(devId, hwpts[0] as number);
      context.deviceAttach(devId, hwpts[1] as number, 1);
      context.deviceAttach(devId, hwpts[2] as number, 77);
      const iova = bench.usableIova(ids[0] as number);
      ids.forEach((ioasId, page) => {
        bench.map(ioasId, iova, 1, page);
      });
      [undefined, 1, 77].forEach((pasid, page) => {
        const options = pasid === undefined ? {} : { pasid };
        const mark = Uint8Array.of(10 + page);
        bench.equal(bench.device.dmaWrite(iova, mark, options), 1, `PASID ${pasid}`);
        bench.equal(bench.user(page, 0, 1), mark, `memory of PASID ${pasid}`);
      });
      bench.equal(bench.device.dmaWrite(iova, BYTES, { pasid: 2 }), 0, 'an unattached PASID');
      context.deviceDetach(devId, 1);
      bench.equal(bench.device.dmaWrite(iova, BYTES, { pasid: 1 }), 0, 'a detached PASID');
      bench.equal(bench.device.dmaWrite(iova, BYTES), 8, 'the RID afterwards');
    },
  },
];
