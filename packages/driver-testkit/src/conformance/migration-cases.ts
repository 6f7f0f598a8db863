/**
 * Cases on scenarios that go on on another machine, whether the driver brings bytes of its own or is
 * rebuilt by calls.
 * @module
 */
import { DIRTY_TRACKING, PAGE_BYTES, PAGE_RESPONSE } from '@iommukit/core';
import type { ConformanceBench } from './bench.ts';
import type { ConformanceCase } from './case.ts';
import { dirtySetup, faultSetup } from './feature-cases.ts';

const BYTES = Uint8Array.of(1, 2, 3, 4);
const CONTRACT = 'driver contract, migration';

/** Move; a driver that brings its own bytes must give them again. */
const move = (bench: ConformanceBench, onPageResponse?: (code: number) => void): void => {
  const isSame = bench.migrate(onPageResponse);
  bench.check(isSame || !bench.unit.migration, 'saving again gives other bytes');
};

/**
 * A driver that is rebuilt by calls has lost what was dirty. Where mapping a page writable counts as
 * writing it (Arm's DBM), all of them are.
 */
const checkRebuiltDirty = (bench: ConformanceBench, pages: number): void =>
  bench.check([0b10_0000, 0xff].includes(pages), `dirty pages: ${pages.toString(2)}`);

export const MIGRATION_CASES: readonly ConformanceCase[] = [
  {
    name: 'migration: mappings translate as before, unmapping and mapping go on',
    spec: CONTRACT,
    needs: [],
    run: (bench) => {
      const { ioasId, devId, hwptId } = bench.attached();
      const iova = bench.usableIova(ioasId);
      bench.map(ioasId, iova, 600);
      bench.map(ioasId, iova + 0x100_0000, 3, 700);
      bench.device.dmaWrite(iova + 599 * PAGE_BYTES, BYTES);
      move(bench);
      const { context, device } = bench;
      const out = new Uint8Array(4);
      bench.equal(device.dmaRead(iova + 599 * PAGE_BYTES, out), 4, 'bytes read');
      bench.equal(out, BYTES, 'what was written before');
      bench.equal(device.dmaWrite(iova + 0x100_2000, BYTES), 4, 'the second mapping');
      bench.equal(bench.user(702, 0, 4), BYTES, 'its memory');
      bench.equal(device.dmaWrite(iova + 0x100_3000, BYTES), 0, 'behind it');
      context.ioasUnmap({ ioasId, iova, length: 600 * PAGE_BYTES });
      bench.equal(device.dmaRead(iova, out), 0, 'unmapped');
      bench.map(ioasId, iova, 2, 10);
      bench.equal(device.dmaWrite(iova + PAGE_BYTES, BYTES), 4, 'mapped anew');
      bench.equal(context.find('test', hwptId, 'HWPT_PAGING').users, 1, 'users of the HWPT');
      context.deviceDetach(devId);
      bench.equal(device.dmaRead(iova, out), 0, 'detached');
    },
  },
  {
    name: 'migration: a second device joins the restored address space',
    spec: CONTRACT,
    needs: [],
    run: (bench) => {
      const { ioasId } = bench.attached();
      const iova = bench.usableIova(ioasId);
      bench.map(ioasId, iova, 4);
      move(bench);
      move(bench);
      const devId = bench.context.bindDevice(bench.other);
      bench.context.deviceAttach(devId, ioasId);
      bench.equal(bench.other.dmaWrite(iova, BYTES), 4, 'the second device');
      bench.equal(bench.device.dmaWrite(iova + 8, BYTES), 4, 'the first device');
    },
  },
  {
    name: 'migration: dirty tracking goes on, with the dirty bits where the driver carries them',
    spec: CONTRACT,
    needs: ['dirty'],
    run: (bench) => {
      const { iova, hwptId, track } = dirtySetup(bench);
      track(true);
      bench.device.dmaWrite(iova + 3 * PAGE_BYTES, BYTES);
      move(bench);
      bench.device.dmaWrite(iova + 5 * PAGE_BYTES, BYTES);
      const data = new Uint8Array(8);
      const range = { iova, length: 16 * PAGE_BYTES, pageSize: PAGE_BYTES };
      bench.context.hwptGetDirtyBitmap({ hwptId, ...range, data });
      if (bench.unit.migration) bench.equal(data[0], 0b10_1000, 'dirty pages');
      else checkRebuiltDirty(bench, data[0] as number);
      bench.context.hwptSetDirtyTracking({ hwptId, flags: 0 });
      bench.context.hwptSetDirtyTracking({ hwptId, flags: DIRTY_TRACKING.ENABLE });
    },
  },
  {
    name: 'migration: a page request on its way is read and answered on the other machine',
    spec: CONTRACT,
    needs: ['pri'],
    run: (bench) => {
      const { attach, faultId } = faultSetup(bench);
      attach();
      const codes: number[] = [];
      const note = (code: number) => codes.push(code);
      bench.device.requestPages([{ iova: 0x1234_5000, write: true }], {}, note);
      move(bench, note);
      const queue = bench.context.find('test', faultId, 'FAULT');
      const records = queue.readFaults();
      bench.equal(records.map(({ addr }) => addr >> 12n).join(), '74565', 'pages');
      bench.equal(queue.respond(records[0]?.cookie ?? 0, PAGE_RESPONSE.SUCCESS), 0, 'respond');
      bench.equal(codes.join(), '0', 'answer');
      bench.device.requestPages([{ iova: 0x1000, write: false }], {}, note);
      bench.equal(queue.readFaults().length, 1, 'a request on the other machine');
    },
  },
];
