/**
 * Software nesting end to end, on every driver: flows 5.1 to 5.3 of the /dev/ioasid proposal with
 * its addresses. Guest RAM is 1 GiB: GPA 0 = HVA 0x4000_0000 = HPA 0x1_0000_0000.
 */
import {
  createMachine,
  createProcess,
  defineDriver,
  FrameRuns,
  HwptPaging,
  IOAS_MAP,
  type IommuDriver,
  MAP_FLAG,
  openIommufd,
  SoftwareNesting,
} from '@iommukit/core';
import { amdvi } from '@iommukit/driver-amdvi';
import { smmuv3 } from '@iommukit/driver-smmuv3';
import { mockDriver } from '@iommukit/driver-testkit';
import { vtd } from '@iommukit/driver-vtd';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FIXED_RW, refusalOf } from './machine.ts';

const GIB = 2 ** 30;
const HVA = 0x4000_0000;
const HPA = 0x1_0000_0000;

/** A driver whose units offer no nested translation. */
const withoutNesting = (sound: IommuDriver): IommuDriver =>
  defineDriver({
    ...sound,
    create: (host) => {
      const unit = sound.create(host);
      for (const group of ['nesting', 'viommu']) Object.defineProperty(unit, group, {});
      return unit;
    },
  });

/** A guest of `bytes`, its RAM at `HPA`, two devices behind the driver; dev1 and dev2 on GPA. */
const guest = (driver: IommuDriver, bytes: number, gpa = 0) => {
  const machine = createMachine({ ramBase: HPA, ramBytes: bytes });
  const dev1 = machine.addEndpoint({ rid: '00:04.0', pasidBits: 16 });
  const dev2 = machine.addEndpoint({ rid: '00:05.0', pasidBits: 16 });
  const process = createProcess(machine, { uid: 1000, rlimitMemlockBytes: 2 * bytes });
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  process.mmap({ addr: HVA, length: bytes, flags });
  // Touch all of it in order, before tables and others take frames.
  expect(process.pinRange(HVA / 4096, bytes / 4096, true, new FrameRuns())).toBe(0);
  machine.memory.addRegion({ name: 'tables', base: 0x2_0000_0000, size: 2 ** 24 });
  machine.addUnit(driver);
  const context = openIommufd(process, machine);
  const ids = [context.bindDevice(dev1), context.bindDevice(dev2)] as const;
  const ioasId = context.ioasAlloc().outIoasId;
  for (const id of ids) context.deviceAttach(id, ioasId);
  const mapGpa = () =>
    context.ioasMap({ ioasId, flags: FIXED_RW, userVa: HVA, length: bytes, iova: gpa });
  return { machine, dev1, dev2, process, context, ids, ioasId, mapGpa };
};

type Guest = ReturnType<typeof guest>;

/** Where a device's write to an IOVA lands, or -1 when it is blocked. */
const hpaOf = ({ machine }: Guest, device: Guest['dev1'], iova: number, at: readonly number[]) => {
  const marker = new TextEncoder().encode(`${device.name}${iova}`);
  if (device.dmaWrite(iova, marker) === 0) return -1;
  const bytes = new Uint8Array(marker.length);
  for (const hpa of at) {
    machine.memory.copyOut(hpa, bytes);
    if (bytes.join() === marker.join()) return hpa;
  }
  return -2;
};

/** Drivers, and where guest RAM starts: on Arm behind the window for MSI doorbells. */
const DRIVERS: readonly (readonly [string, () => IommuDriver, number])[] = [
  ['VT-d', () => vtd(), 0],
  ['VT-d without nested translation', () => withoutNesting(vtd()), 0],
  ['SMMUv3', () => smmuv3(), GIB],
  ['AMD-Vi', () => amdvi(), 0],
];

describe.each(DRIVERS)('flow 5.3, a child table over 1 GiB of guest RAM, %s', (_, driver, gpa) => {
  it('GIOVA 0x2abc goes to HPA 0x1_0000_1abc; 262144 pages are charged, once', () => {
    const made = guest(driver(), GIB, gpa);
    const { context, dev1, dev2, ids, ioasId, process, mapGpa } = made;
    mapGpa();
    expect(hpaOf(made, dev1, gpa + 0x1234, [HPA + 0x1234])).toBe(HPA + 0x1234);
    expect(hpaOf(made, dev1, gpa + GIB, [])).toBe(-1);
    const child = new SoftwareNesting(context, ioasId);
    const hwptId = child.attachDevice(ids[1]);
    expect(hpaOf(made, dev2, 0x2abc, [])).toBe(-1);
    child.map({ iova: 0x2000, parentIova: gpa + 0x1000, length: 0x1000 });
    expect(hpaOf(made, dev2, 0x2abc, [HPA + 0x1abc])).toBe(HPA + 0x1abc);
    expect(hpaOf(made, dev2, 0x1000, [])).toBe(-1);
    expect(hpaOf(made, dev1, gpa + 0x1abc, [HPA + 0x1abc])).toBe(HPA + 0x1abc);
    const hwpt = context.find('test', hwptId, 'HWPT_PAGING');
    expect(hwpt).toBeInstanceOf(HwptPaging);
    expect(hwpt.domain.iovaToFrame(2)).toBe((HPA + 0x1000) / 4096);
    expect([process.user.lockedPages, process.pinnedPages]).toEqual([262_144, 262_144]);
    // The parent goes: never a stale hit. It comes back: so does the child's page.
    context.ioasUnmap({ ioasId, iova: gpa, length: GIB });
    expect([hpaOf(made, dev2, 0x2abc, []), process.user.lockedPages]).toEqual([-1, 0]);
    mapGpa();
    expect(hpaOf(made, dev2, 0x2abc, [HPA + 0x1abc])).toBe(HPA + 0x1abc);
    child.unmap(0x2000, 0x1000);
    expect(hpaOf(made, dev2, 0x2abc, [])).toBe(-1);
  });
});

describe('around flow 5.3', () => {
  it('flow 5.2, a shadow that the user builds, charges 262145 pages', () => {
    const made = guest(vtd(), GIB);
    const { context, dev1, dev2, ids, process, mapGpa } = made;
    mapGpa();
    const { outIoasId: giova } = context.ioasAlloc();
    context.deviceReplace(ids[1], giova);
    const map = { ioasId: giova, flags: FIXED_RW, userVa: 0x4000_1000, length: 0x1000 };
    context.ioasMap({ ...map, iova: 0x2000 });
    expect(hpaOf(made, dev1, 0x1000, [HPA + 0x1000])).toBe(HPA + 0x1000);
    expect(hpaOf(made, dev2, 0x2000, [HPA + 0x1000])).toBe(HPA + 0x1000);
    expect(hpaOf(made, dev2, 0x1000, [])).toBe(-1);
    expect(process.user.lockedPages).toBe(262_145);
  });

  const small = () => {
    const made = guest(vtd(), 64 * 4096);
    made.mapGpa();
    return { ...made, child: new SoftwareNesting(made.context, made.ioasId) };
  };

  it('a device must be on the parent before the child', () => {
    const { context, ids, child } = small();
    context.deviceDetach(ids[1]);
    expect(refusalOf(() => child.attachDevice(ids[1]))).toBe('EINVAL parent-attachment');
    expect(refusalOf(() => child.attachDevice(99))).toBe('ENOENT object-id');
  });

  it('goes back to the parent, and ends when nobody is attached', () => {
    const made = small();
    const { context, dev2, ids, ioasId, child } = made;
    child.map({ iova: 0x2000, parentIova: 0x1000, length: 0x1000 });
    child.attachDevice(ids[1]);
    expect(refusalOf(() => child.close())).toBe('EBUSY object-users');
    expect(refusalOf(() => context.destroy({ id: ioasId }))).toBe('EBUSY object-users');
    child.detachDevice(ids[1]);
    expect(hpaOf(made, dev2, 0x2000, [HPA + 0x2000])).toBe(HPA + 0x2000);
    child.close();
    for (const id of ids) context.deviceDetach(id);
    context.destroy({ id: ioasId });
    expect(made.process.user.lockedPages).toBe(0);
  });

  it('a PASID goes through the child while the rest of the device stays on the parent', () => {
    const made = guest(vtd(), 64 * 4096);
    const { context, dev2, ids } = made;
    const { outIoasId: ioasId } = context.ioasAlloc();
    const { outHwptId } = context.hwptAlloc({ devId: ids[1], ptId: ioasId, flags: 8 });
    context.deviceReplace(ids[1], outHwptId);
    context.ioasMap({ ioasId, flags: FIXED_RW, userVa: HVA, length: 64 * 4096, iova: 0 });
    const child = new SoftwareNesting(context, ioasId);
    child.map({ iova: 0x2000, parentIova: 0x1000, length: 0x1000 });
    const { outHwptId: shadow } = context.hwptAlloc({
      devId: ids[1],
      ptId: child.shadow.id,
      flags: 8,
    });
    context.deviceAttach(ids[1], shadow, 7);
    const seen = new Uint8Array(4);
    made.process.poke(HVA + 0x1000, Uint8Array.of(1, 2, 3, 4));
    expect([dev2.dmaRead(0x2000, seen, { pasid: 7 }), ...seen]).toEqual([4, 1, 2, 3, 4]);
    expect(dev2.dmaRead(0x1000, seen, { pasid: 7 })).toBe(0);
    expect(hpaOf(made, dev2, 0x2000, [HPA + 0x2000])).toBe(HPA + 0x2000);
  });

  it.each([
    ['no length', { iova: 0, parentIova: 0, length: 0 }, 'EINVAL page-alignment'],
    ['half a page', { iova: 0x800, parentIova: 0, length: 0x1000 }, 'EINVAL page-alignment'],
    ['no number', { iova: Number.NaN, parentIova: 0, length: 0x1000 }, 'EINVAL u64'],
    [
      'wrapping',
      { iova: 2n ** 64n - 4096n, parentIova: 0, length: 0x2000 },
      'EOVERFLOW range-wraps',
    ],
    ['above', { iova: 0, parentIova: 2n ** 64n - 4096n, length: 0x2000 }, 'EOVERFLOW range-wraps'],
    ['taken', { iova: 0x2000, parentIova: 0, length: 0x1000 }, 'EEXIST iova-mapped'],
    ['MSI', { iova: 0xfee0_0000, parentIova: 0, length: 0x1000 }, 'EINVAL iova-reserved'],
  ])('refuses a mapping: %s', (_, mapping, refusal) => {
    const { child, ids } = small();
    child.map({ iova: 0x1000, parentIova: 0x1000, length: 0x2000 });
    child.attachDevice(ids[1]);
    expect(refusalOf(() => child.map(mapping))).toBe(refusal);
    expect(child.mappingCount).toBe(1);
    expect(refusalOf(() => child.unmap(0x1000, 0x1000))).toBe('ENOENT area-cut');
    expect(refusalOf(() => child.unmap(0x8000, 0x1000))).toBe('ENOENT not-mapped');
    expect(child.unmap(0, 0x10_0000)).toBe(0x2000n);
  });

  it('nobody maps into the shadow by ioctl', () => {
    const { context, child } = small();
    const map = { ioasId: child.shadow.id, flags: IOAS_MAP.READABLE, userVa: HVA, length: 0x1000 };
    expect(refusalOf(() => context.ioasMap(map))).toBe('EPERM shadow-table');
    const all = { ioasId: child.shadow.id, iova: 0, length: 0x1000 };
    expect(refusalOf(() => context.ioasUnmap(all))).toBe('EPERM shadow-table');
    expect(refusalOf(() => new SoftwareNesting(context, 99))).toBe('ENOENT object-id');
    context.destroy({ id: child.shadow.id });
    context.close();
  });
});

const PAGES = 16;
const step = fc.record({
  op: fc.constantFrom('map', 'unmap', 'child', 'childUnmap'),
  at: fc.nat(PAGES - 1),
  to: fc.nat(PAGES - 1),
  n: fc.integer({ min: 1, max: 5 }),
});

describe.each([...DRIVERS, ['the mock', () => mockDriver(), 0] as const])(
  'DMA on %s',
  (_, driver) => {
    it('reaches the page that both tables name, or nothing, whatever changed before', () => {
      const BASE = 0x100_0000;
      const programs = fc.array(step, { maxLength: 12 });
      fc.assert(
        fc.property(programs, (steps) => {
          const made = guest(driver(), 32 * 4096, BASE);
          const { context, dev2, ids, ioasId, process } = made;
          const child = new SoftwareNesting(context, ioasId);
          child.attachDevice(ids[1]);
          const parent = new Map<number, number>();
          const children = new Map<number, number>();
          const bytes = (pages: number) => pages * 4096;
          for (const { op, at, to, n } of steps) {
            const iova = BASE + bytes(at);
            const length = bytes(n);
            const pages = Array.from({ length: n }, (_, i) => i);
            const userVa = HVA + bytes(to);
            const done = refusalOf(() => {
              if (op === 'map') context.ioasMap({ ioasId, flags: FIXED_RW, userVa, length, iova });
              else if (op === 'unmap') context.ioasUnmap({ ioasId, iova, length });
              else if (op === 'child') child.map({ iova, parentIova: BASE + bytes(to), length });
              else child.unmap(iova, length);
            });
            if (done !== 'ok' && done !== 'ENOENT area-cut') continue;
            if (op === 'map') for (const i of pages) parent.set(at + i, to + i);
            else if (op === 'child') for (const i of pages) children.set(at + i, to + i);
            else if (op === 'childUnmap' && done === 'ok')
              for (const i of pages) children.delete(at + i);
            else if (op === 'unmap') {
              const { iopt } = context.find('test', ioasId, 'IOAS');
              for (const i of pages)
                if (iopt.areas.find(iova / 4096 + i, 0) < 0) parent.delete(at + i);
            }
            for (let page = 0; page < PAGES + 5; page++) {
              const target = parent.get(children.get(page) ?? -1);
              const hpa = target === undefined ? -1 : HPA + bytes(target) + 8;
              expect(hpaOf(made, dev2, BASE + bytes(page) + 8, [hpa])).toBe(hpa);
            }
            expect(process.user.lockedPages).toBe(parent.size);
          }
        }),
        { numRuns: 25 },
      );
    });
  },
);
