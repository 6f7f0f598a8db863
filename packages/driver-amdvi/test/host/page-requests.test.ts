/** The PPR log: groups, what is answered without asking anybody, answers. */
import { describe, expect, it } from 'vitest';
import { codeOf } from './fixture.ts';
import { recorded } from './recording-unit.ts';

const AT = { STATUS: 0x2020, BASE: 0x38, HEAD: 0x2030, TAIL: 0x2038 };
const PPR_INT = 1 << 6;
const PPR_OVERFLOW = 1 << 5;

/** Flags of an entry. */
const READ = 1n << 50n;
const WRITE = 1n << 53n;
const USER = 1n << 54n;
const RVSD = 1n << 55n;
const GN = 1n << 56n;
const LAST = 1n << 41n;

const entry = (flags: bigint, pasid: number, prgi: number, device = 0x108): bigint =>
  (1n << 60n) |
  flags |
  BigInt(device) |
  (BigInt(pasid & 0xffff) << 16n) |
  (BigInt(pasid >>> 16) << 42n) |
  (BigInt(prgi) << 32n);

const setup = (options: Parameters<typeof recorded>[0] = {}) => {
  const bench = recorded(options);
  const { registers, parts, machine } = bench;
  const { pageRequests } = parts;
  if (!pageRequests) throw new Error('no page requests');
  const base =
    (registers.readReg32(AT.BASE + 4) & 0xf_ffff) * 2 ** 32 +
    ((registers.readReg32(AT.BASE) & 0xffff_f000) >>> 0);
  /** The unit logs entries and sends its message; returns the commands it gets back. */
  const log = (...entries: (readonly [bigint, bigint])[]): string[] => {
    const from = registers.log.length;
    for (const [q0, q1] of entries) {
      const tail = registers.readReg32(AT.TAIL);
      for (const [at, q] of [
        [0, q0],
        [8, q1],
      ] as const) {
        machine.memory.write64(base + tail + at, Number(q & 0xffff_ffffn), Number(q >> 32n));
      }
      registers.values.set(AT.TAIL, (tail + 16) % 8192);
    }
    registers.values.set(AT.STATUS, registers.readReg32(AT.STATUS) | PPR_INT);
    pageRequests.service();
    return registers.commands(from);
  };
  return { ...bench, pageRequests, log };
};

describe('AMD IOMMU 2.6: page requests', () => {
  it('a group is handed over when its last request came, and answered once', () => {
    const { log, pageRequests, device, pageFaults, registers } = setup();
    pageRequests.enable(device);
    expect(log([entry(READ | USER | GN, 0x2a345, 0x155), 0x7000n])).toEqual([]);
    expect(pageFaults).toEqual([]);
    expect(log([entry(READ | WRITE | USER | GN | LAST, 0x2a345, 0x155), 0x8000n])).toEqual([]);
    expect(pageFaults).toEqual([
      { pasid: 0x2a345, grpid: 0x155, perm: 1, addressPfn: 7, last: false },
      { pasid: 0x2a345, grpid: 0x155, perm: 3, addressPfn: 8, last: true },
    ]);
    const from = registers.log.length;
    for (const code of [0, 1, 2]) pageRequests.respond(device, 0x2a345, 0x155, code);
    expect(registers.commands(from)).toEqual([
      '7002a34500000108 0000015500000004',
      '7002a34500000108 0000115500000004',
      '7002a34500000108 0000f15500000004',
    ]);
  });

  it('the flags are generic rights: execute, privileged', () => {
    const { log, pageRequests, device, pageFaults } = setup();
    pageRequests.enable(device);
    log([0x1106_03ff_0007_0108n, 0xffff_8000_0000_1000n]);
    expect(pageFaults).toEqual([
      { pasid: 7, grpid: 0x1ff, perm: 1 | 4 | 8, addressPfn: 0xf_fff8_0000_0001, last: true },
    ]);
  });

  it('without PASID: reported, answered with GN=0; in Linux 7.3 a failure', () => {
    const request = [entry(READ | LAST, 0, 3), 0x7000n] as const;
    const ours = setup();
    ours.pageRequests.enable(ours.device);
    expect(ours.log(request)).toEqual([]);
    expect(ours.pageFaults).toMatchObject([{ pasid: -1, perm: 1 }]);
    const linux = setup({ pasidPageRequestsOnly: true });
    linux.pageRequests.enable(linux.device);
    expect(linux.log(request)).toEqual(['7000000000000108 0000f00300000000']);
    expect(linux.pageFaults).toEqual([]);
  });

  it.each([
    ['RVSD', entry(READ | GN | LAST | RVSD, 5, 3)],
    ['PASID 0', entry(READ | GN | LAST, 0, 3)],
  ])('%s: FAILURE, nobody is asked', (_, q0) => {
    const { log, pageRequests, device, pageFaults } = setup();
    pageRequests.enable(device);
    const [answer = ''] = log([q0, 0x7000n]);
    expect(answer).toMatch(/ 0000f00300000004$/);
    expect(pageFaults).toEqual([]);
  });

  it('one bad request fails its whole group', () => {
    const { log, pageRequests, device, pageFaults } = setup();
    pageRequests.enable(device);
    const bad = [entry(READ | GN | RVSD, 5, 3), 0x7000n] as const;
    const last = [entry(READ | GN | LAST, 5, 3), 0x8000n] as const;
    expect(log(bad, last)).toEqual(['7000000500000108 0000f00300000004']);
    expect(pageFaults).toEqual([]);
  });

  it.each([
    ['nobody listens', 0x108],
    ['an unknown device', 0x777],
  ])('%s: INVALID at the last request of the group', (_, id) => {
    const { log, pageFaults } = setup();
    const first = [entry(READ | GN, 5, 3, id), 0x7000n] as const;
    const last = [entry(READ | GN | LAST, 5, 3, id), 0x8000n] as const;
    const rid = id.toString(16).padStart(4, '0');
    expect(log(first, last)).toEqual([`700000050000${rid} 0000100300000004`]);
    expect(pageFaults).toEqual([]);
  });

  it('a stop marker has no answer', () => {
    const { log, pageRequests, device } = setup();
    pageRequests.enable(device);
    expect(log([entry(GN | LAST, 5, 0), 0n])).toEqual([]);
  });

  it('more requests than are kept of one device: the group that passes the limit fails', () => {
    const { log, pageRequests, device, pageFaults } = setup();
    pageRequests.enable(device);
    const group = (prgi: number, count: number) =>
      Array.from({ length: count }, () => log([entry(READ | GN, 5, prgi), 0x7000n]));
    group(1, 2048);
    expect(log([entry(READ | GN | LAST, 5, 2), 0x8000n])).toEqual([
      '7000000500000108 0000f00200000004',
    ]);
    log([entry(GN | READ | LAST, 5, 1), 0n]);
    expect(pageFaults).toEqual([]);
    log([entry(READ | GN | LAST, 5, 3), 0x8000n]);
    expect(pageFaults).toHaveLength(1);
  });

  it('a detach takes what is in the log first, and forgets what can no longer be completed', () => {
    const { log, pageRequests, device, unit, pageFaults } = setup();
    unit.attach(device, -1, unit.identity);
    const domain = unit.allocPaging(device, { flags: 8 });
    unit.attach(device, 5, domain);
    pageRequests.enable(device);
    log([entry(READ | GN, 5, 3), 0x7000n], [entry(READ | GN, 6, 3), 0x7000n]);
    unit.attach(device, 5, unit.blocking);
    log([entry(READ | GN | LAST, 5, 3), 0x9000n], [entry(READ | GN | LAST, 6, 3), 0x9000n]);
    expect(pageFaults.map(({ pasid, addressPfn }) => [pasid, addressPfn])).toEqual([
      [5, 9],
      [6, 7],
      [6, 9],
    ]);
  });

  it('an overflow: the log starts again, incomplete groups are forgotten', () => {
    const { log, pageRequests, device, registers, pageFaults } = setup();
    pageRequests.enable(device);
    log([entry(READ | GN, 5, 3), 0x7000n]);
    registers.values.set(AT.STATUS, registers.readReg32(AT.STATUS) | PPR_OVERFLOW);
    const from = registers.log.length;
    log();
    const control = registers.log
      .slice(from)
      .flatMap((access) =>
        access.kind === 'register' && access.offset === 0x18 ? [access.value] : [],
      )
      .map((value) => Number((value >> 13n) & 7n));
    expect(control).toEqual([4, 7]);
    expect(pageRequests.overflows).toBe(1);
    log([entry(READ | GN | LAST, 5, 3), 0x8000n]);
    expect(pageFaults).toHaveLength(1);
  });

  it('ENODEV for a device without PRI, or a unit that takes no requests', () => {
    const { pageRequests } = setup();
    expect(
      codeOf(() => pageRequests.enable({ name: 'x', rid: 1, pasidBits: 0, ats: true, pri: true })),
    ).toBe('ENODEV');
    expect(recorded({ efr: 0x0012_40c0_0000_0840n }).parts.pageRequests).toBeUndefined();
    expect(recorded({ iotlbSup: false }).unit.pri).toBeUndefined();
    expect(recorded().unit.caps).toMatchObject({ pri: true, ats: true, pasidBits: 20 });
  });
});
