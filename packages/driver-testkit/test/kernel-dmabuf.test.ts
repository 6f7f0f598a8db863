/**
 * What Linux's sources answer where no recording says so: dma-bufs whose memory is taken back.
 *
 * @linux drivers/iommu/iommufd/pages.c
 */
import {
  Access,
  createMachine,
  createProcess,
  exitProcess,
  filesOf,
  type IommufdContext,
  MAP_FLAG,
  openIommufd,
  restoreSnapshot,
  SoftwareNesting,
  saveSnapshot,
  sysIoctl,
} from '@iommukit/core';
import { iommuTest, mockDriver } from '@iommukit/driver-testkit';
import { vtd } from '@iommukit/driver-vtd';
import { beforeEach, describe, expect, it } from 'vitest';
import { type Bench, bench, FIXED_RW, MEMORY, refusalOf } from './machine.ts';

const TEST_CMD = 0x3ba0;
const OP = { DMABUF_GET: 22, DMABUF_REVOKE: 23 } as const;
const LENGTH = 0x3000;
const IOVA = 0x200_0000;
const MOCK_PAGE_LG2 = 11;

const test = ({ fd, process }: IommufdContext, op: number, a: number, b: number): void => {
  const bytes = new Uint8Array(72);
  bytes.set(new Uint8Array(Uint32Array.of(72, op, 0, 0, a, b).buffer));
  process.poke(MEMORY, bytes);
  expect(sysIoctl(process, fd, TEST_CMD, MEMORY)).toBe(0);
};

/** A new dma-buf of `LENGTH` bytes; its descriptor. */
const dmabuf = (context: IommufdContext): number => {
  const fd = filesOf(context.process).nextFd;
  test(context, OP.DMABUF_GET, LENGTH, 0);
  return fd;
};

const setRevoked = (context: IommufdContext, fd: number, revoked: boolean): void =>
  test(context, OP.DMABUF_REVOKE, fd, revoked ? 1 : 0);

let made: Bench;
let context: IommufdContext;
let ioasId: number;
let fd: number;
beforeEach(() => {
  made = bench();
  context = made.context;
  ioasId = context.ioasAlloc().outIoasId;
  fd = dmabuf(context);
});

const mapFile = (iova = IOVA, start = 0, length = LENGTH) =>
  context.ioasMapFile({ ioasId, flags: FIXED_RW, fd, start, length, iova });

/** How many bytes a device writes there: 1, or 0 for a fault. */
const dmaAt = (iova: number): number => made.nic.dmaWrite(iova, Uint8Array.of(1));

/** Whether a HWPT translates an IOVA (its `iova_to_phys`). */
const translates = (hwptId: number, iova: number): boolean => {
  const { domain } = context.find('test', hwptId, 'HWPT_PAGING');
  return domain.iovaToFrame(iova / 2 ** MOCK_PAGE_LG2) >= 0;
};

const attach = (): number => context.deviceAttach(made.devId, ioasId);
const otherHwpt = (): number => context.hwptAlloc({ devId: made.devId, ptId: ioasId }).outHwptId;

describe('iopt_revoke_notify: what was mapped leaves every domain', () => {
  it.each([
    { title: 'taken back', revoked: true },
    { title: 'given again: the notice is the same', revoked: false },
  ])('$title', ({ revoked }) => {
    mapFile();
    // Part of it, and memory and another dma-buf beside it.
    mapFile(IOVA + 0x10_0000, 0x1000, 0x800);
    const memory = { ioasId, flags: FIXED_RW, userVa: MEMORY, length: 0x1000 };
    context.ioasMap({ ...memory, iova: IOVA + LENGTH });
    const other = { ioasId, flags: FIXED_RW, fd: dmabuf(context), start: 0, length: 0x1000 };
    context.ioasMapFile({ ...other, iova: IOVA + LENGTH + 0x1000 });
    const hwpts = [attach(), otherHwpt()];
    const iovas = [IOVA, IOVA + LENGTH - 0x800, IOVA + 0x10_0000];
    const look = () => [
      ...iovas.map(dmaAt),
      ...hwpts.flatMap((hwpt) => iovas.map((iova) => Number(translates(hwpt, iova)))),
    ];
    expect(look()).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1]);
    setRevoked(context, fd, revoked);
    expect(look()).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect([0, 0x800, 0x1000].map((at) => dmaAt(IOVA + LENGTH + at))).toEqual([1, 1, 1]);
    // Areas stay where they are, and go whole.
    expect(refusalOf(() => mapFile())).toMatch(revoked ? 'ENODEV' : 'EEXIST');
    expect(refusalOf(() => context.ioasUnmap({ ioasId, iova: IOVA, length: 0x1000 }))).toMatch(
      'ENOENT',
    );
    expect(context.ioasUnmap({ ioasId, iova: IOVA, length: LENGTH }).length).toBe(BigInt(LENGTH));
  });

  it('iommu_unmap: hardware that remembers translations forgets them (VT-d)', () => {
    const machine = createMachine({ ramBytes: 2 ** 23 });
    const nic = machine.addEndpoint({ rid: '00:04.0' });
    machine.addUnit(vtd());
    const process = createProcess(machine);
    const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
    process.mmap({ addr: MEMORY, length: 0x1000, flags });
    context = openIommufd(process, machine, { extensions: [iommuTest()] });
    made = { ...made, context, process, nic, devId: context.bindDevice(nic) };
    ioasId = context.ioasAlloc().outIoasId;
    fd = dmabuf(context);
    mapFile();
    attach();
    expect(dmaAt(IOVA)).toBe(1);
    setRevoked(context, fd, true);
    expect(dmaAt(IOVA)).toBe(0);
  });

  it('iopt_dmabuf_revoked: mappings stay away when the memory is given again; new ones work', () => {
    mapFile();
    const hwpt = attach();
    setRevoked(context, fd, true);
    setRevoked(context, fd, false);
    expect([dmaAt(IOVA), translates(hwpt, IOVA)]).toEqual([0, false]);
    mapFile(IOVA + LENGTH);
    expect([dmaAt(IOVA), dmaAt(IOVA + LENGTH)]).toEqual([0, 1]);
    setRevoked(context, fd, true);
    expect(dmaAt(IOVA + LENGTH)).toBe(0);
    exitProcess(made.process);
    expect(context.machine.memory.freePageCount).toBe(2 ** 23 / 4096);
  });

  it('iopt_area_fill_domain: a domain that joins gets nothing of it', () => {
    mapFile();
    setRevoked(context, fd, true);
    const hwpt = attach();
    expect([dmaAt(IOVA), translates(hwpt, IOVA), translates(otherHwpt(), IOVA)]).toEqual([
      0,
      false,
      false,
    ]);
    context.ioasUnmap({ ioasId, iova: IOVA, length: LENGTH });
  });

  it('iopt_area_fill_domains: a copy is made, of nothing', () => {
    mapFile();
    const { outIoasId } = context.ioasAlloc();
    const copy = { flags: FIXED_RW, dstIoasId: ioasId, srcIoasId: outIoasId, length: LENGTH };
    context.ioasCopy({
      ...copy,
      dstIoasId: outIoasId,
      srcIoasId: ioasId,
      srcIova: IOVA,
      dstIova: IOVA,
    });
    const hwpt = context.deviceAttach(made.devId, outIoasId);
    expect(dmaAt(IOVA)).toBe(1);
    setRevoked(context, fd, true);
    expect([dmaAt(IOVA), translates(hwpt, IOVA)]).toEqual([0, false]);
    const second = IOVA + 0x10_0000;
    const from = { srcIoasId: ioasId, srcIova: IOVA, dstIoasId: outIoasId, dstIova: second };
    context.ioasCopy({ ...copy, ...from });
    expect(dmaAt(second)).toBe(0);
    expect(context.ioasUnmap({ ioasId: outIoasId, iova: 0, length: 2n ** 64n - 1n }).length).toBe(
      BigInt(2 * LENGTH),
    );
  });

  it('iopt_unfill_domain: domains leave and join an area that lost its memory', () => {
    mapFile();
    attach();
    setRevoked(context, fd, true);
    context.deviceDetach(made.devId);
    attach();
    expect(dmaAt(IOVA)).toBe(0);
    exitProcess(made.process);
    expect(context.machine.memory.freePageCount).toBe(2 ** 23 / 4096);
  });
});

describe('what is derived from a table, and what carries it', () => {
  it('a software-nested child loses it with its parent', () => {
    mapFile();
    attach();
    const child = new SoftwareNesting(context, ioasId);
    child.attachDevice(made.devId);
    child.map({ iova: 0x100_0000, parentIova: IOVA, length: 0x1000 });
    expect(dmaAt(0x100_0000)).toBe(1);
    setRevoked(context, fd, true);
    expect(dmaAt(0x100_0000)).toBe(0);
    child.map({ iova: 0x100_1000, parentIova: IOVA + 0x1000, length: 0x1000 });
    expect(dmaAt(0x100_1000)).toBe(0);
  });

  it.each([
    { title: 'revoked before', before: true, restored: 0 },
    { title: 'revoked after', before: false, restored: 1 },
  ])('a snapshot: $title', ({ before, restored }) => {
    mapFile();
    attach();
    if (before) {
      setRevoked(context, fd, true);
      setRevoked(context, fd, false);
    }
    const { process } = made;
    const bytes = saveSnapshot({ machine: context.machine, processes: [process] });
    const machine = createMachine({ ramBytes: 2 ** 23 });
    const nic = machine.addEndpoint({ rid: '00:04.0', pasidBits: 20, ats: true, pri: true });
    machine.addUnit(mockDriver());
    const moved = restoreSnapshot(bytes, { machine, ioctlExtensions: [iommuTest()] });
    const [back] = moved.contexts as [IommufdContext];
    expect(nic.dmaWrite(IOVA, Uint8Array.of(1))).toBe(restored);
    back.deviceDetach(made.devId);
    back.deviceAttach(made.devId, ioasId);
    expect(nic.dmaWrite(IOVA, Uint8Array.of(1))).toBe(restored);
    setRevoked(back, fd, true);
    expect(nic.dmaWrite(IOVA, Uint8Array.of(1))).toBe(0);
  });
});

describe('io_pagetable.c, ioas.c: what else asks for the memory', () => {
  it('accesses neither pin nor read it, taken back or not (iopt_pages_rw_access)', () => {
    mapFile();
    const access = Access.create(context, { needsPin: true });
    access.attach('test', context.find('test', ioasId, 'IOAS'));
    const tries = () => [
      refusalOf(() => access.pinPages('test', IOVA, 0x1000, false)),
      refusalOf(() => access.rw('test', made.process, IOVA, new Uint8Array(1), { write: false })),
    ];
    const refused = ['EINVAL dmabuf-access', 'EINVAL dmabuf-access'];
    expect(tries()).toEqual(refused);
    setRevoked(context, fd, true);
    expect(tries()).toEqual(refused);
  });

  it('IOMMU_IOAS_NOIOMMU_GET_PA: EINVAL', () => {
    const machine = createMachine({ ramBytes: 2 ** 23 });
    const device = machine.addEndpoint({ rid: '00:04.0' });
    const process = createProcess(machine);
    const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
    process.mmap({ addr: MEMORY, length: 0x1000, flags });
    const extensions = [iommuTest()];
    context = openIommufd(process, machine, { extensions, noiommu: true });
    ioasId = context.ioasAlloc().outIoasId;
    fd = dmabuf(context);
    mapFile();
    context.deviceAttach(context.bindDevice(device), ioasId);
    const ask = () => context.ioasNoiommuGetPa({ ioasId, iova: IOVA, length: 0x1000 });
    expect(refusalOf(ask)).toBe('ok');
    setRevoked(context, fd, true);
    expect(refusalOf(ask)).toBe('EINVAL dmabuf-revoked');
  });
});
