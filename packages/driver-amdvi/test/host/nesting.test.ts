/** Nested domains and vIOMMUs, over a recorder: what is refused, and what the entries say. */
import type { Domain } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { codeOf, HWPT, map, unmap } from './fixture.ts';
import { COMMANDS, guestCommands, guestDte, guestOf } from './guests.ts';
import { GUEST_EFR, GUEST_EFR_4, recorded } from './recording-unit.ts';

const VALID = [0x74d0_0000_0000_0003n, 0x0000_1002_4688_0042n, 0n, 0n] as const;
const V = 1n;
const TV = 2n;
const IR_IW = 3n << 61n;
const GV = 1n << 55n;
const GCR3 = 1n << 58n;

const hex = (qwords: readonly bigint[]) => qwords.map((q) => q.toString(16).padStart(16, '0'));

const setup = (options: Parameters<typeof recorded>[0] = {}) => {
  const bench = recorded(options);
  const guest = guestOf(bench.unit, bench.device);
  const alloc = (dte: readonly bigint[], flags = 0, type = 3) =>
    guest.backend.allocNested(bench.device, flags, guestDte(dte, type));
  const attach = (domain: Domain) => bench.unit.attach(bench.device, -1, domain);
  const entry = () => hex(bench.registers.entry(bench.device.rid));
  const sent = (act: () => unknown): string[] => {
    const from = bench.registers.log.length;
    act();
    return bench.registers.commands(from);
  };
  return { ...bench, ...guest, alloc, attach, entry, sent };
};

describe('IOMMU_HWPT_DATA_AMD_GUEST: what amd_iommu_alloc_domain_nested refuses', () => {
  it.each([
    ['a valid entry', VALID, 3, 'no error'],
    ['another data type', VALID, 1, 'EOPNOTSUPP'],
    ['Mode 1', [VALID[0] | (1n << 9n), VALID[1], 0n, 0n], 3, 'EINVAL'],
    ['a host root', [VALID[0] | (1n << 12n), VALID[1], 0n, 0n], 3, 'EINVAL'],
    ['V and GV without GCR3 table', [V | TV | GV, 0n, 0n, 0n], 3, 'EINVAL'],
    ['GV alone without GCR3 table', [GV, 0n, 0n, 0n], 3, 'no error'],
    ['GuestPagingMode 2', [VALID[0], VALID[1], 2n << 54n, 0n], 3, 'EINVAL'],
    ['GuestPagingMode 1', [VALID[0], VALID[1], 1n << 54n, 0n], 3, 'no error'],
    ['GLX 3', [VALID[0] | (3n << 56n), VALID[1], 0n, 0n], 3, 'EINVAL'],
    ['GLX 3 without GV', [V | TV | (3n << 56n), 0x42n, 0n, 0n], 3, 'EINVAL'],
    ['a short struct', [VALID[0], VALID[1], 0n], 3, 'EINVAL'],
    ['beyond Linux: a reserved bit', [VALID[0] | 4n, VALID[1], 0n, 0n], 3, 'EINVAL'],
    ['beyond Linux: a reserved bit of the last dword', [...VALID.slice(0, 3), 1n], 3, 'EINVAL'],
  ] as const)('%s', (_, dte, type, code) => {
    const { alloc } = setup();
    expect(codeOf(() => alloc(dte, 0, type))).toBe(code);
  });

  it.each([
    ['five levels on four', GUEST_EFR_4, [VALID[0], VALID[1], 1n << 54n, 0n], 'EOPNOTSUPP'],
    [
      'GLX 2 where GLXSup is 1',
      (GUEST_EFR & ~(1n << 15n)) | (1n << 14n),
      [VALID[0] | (2n << 56n), VALID[1], 0n, 0n],
      'EINVAL',
    ],
    ['PPR without PPRSup', GUEST_EFR & ~2n, VALID, 'EINVAL'],
  ] as const)('%s', (_, efr, dte, code) => {
    const { alloc } = setup({ efr });
    expect(codeOf(() => alloc(dte))).toBe(code);
  });

  it('nest parents need GTSup, GIoSup and GCR3TRPModeSup', () => {
    for (const lacking of [
      { efr: GUEST_EFR & ~(1n << 4n) },
      { efr: GUEST_EFR & ~(1n << 48n) },
      { efr2: 0x800n },
    ]) {
      expect(codeOf(() => setup(lacking))).toBe('EOPNOTSUPP');
    }
  });

  it('linux73: a vIOMMU of any type, and nothing in it', () => {
    const { unit, device, backend } = setup({ emptyViommus: true });
    expect(unit.viommu.supports(device, 77)).toBe(true);
    expect(Object.keys(backend)).toEqual(['destroy']);
    expect(unit.caps.guestStage).toBe(0);
  });
});

describe('G.1, G.2: the entry of a nested device', () => {
  it('the worked merge: guest tables over the parent, the DomainID replaced', () => {
    const { parent, alloc, attach, entry, registers, device } = setup();
    map(parent, 2 ** 30, 1);
    attach(alloc(VALID));
    const root = (registers.entry(device.rid)[0] as bigint) & 0x000f_ffff_ffff_f000n;
    const expected = [
      0x74d0_0000_0000_0803n | root,
      (0x0000_1001_4688_0300n & ~0xffffn & ~(1n << 33n)) | 2n,
      0n,
      0n,
    ];
    expect(entry()).toEqual(hex(expected));
  });

  it.each([
    ['V=0: the parent alone', [0n, 0x42n, 0n, 0n], 0x6000_0000_0000_0603n],
    ['TV=0: blocked', [V, 0x42n, 0n, 0n], 0x1n],
    [
      'GV=0: the parent, with the rights of the guest',
      [V | TV | (1n << 61n), 0x42n, 0n, 0n],
      0x2000_0000_0000_0603n,
    ],
    [
      'no right to write',
      [V | TV | GV | GCR3 | (1n << 61n), 0x42n, 0n, 0n],
      0x2480_0000_0000_0603n,
    ],
  ] as const)('%s', (_, dte, q0) => {
    const { alloc, attach, registers, device } = setup();
    attach(alloc(dte));
    const [lo = 0n] = registers.entry(device.rid);
    expect((lo & ~0x000f_ffff_ffff_f000n).toString(16)).toBe(q0.toString(16));
  });

  it('equal DomainIDs of one guest are one of the unit, of two guests two', () => {
    const at = setup();
    const other = guestOf(at.unit, at.device);
    const id = (domain: Domain) => (domain as unknown as { hostDomainId: number }).hostDomainId;
    const [a, b, c] = [VALID, VALID, [VALID[0], 0x43n, 0n, 0n]].map((dte) => at.alloc(dte));
    const d = other.backend.allocNested(at.device, 0, guestDte(VALID));
    expect([a, b, c, d].map((domain) => id(domain as Domain))).toEqual([2, 2, 3, 4]);
    a?.free();
    expect(id(at.alloc([VALID[0], 0x50n, 0n, 0n]))).toBe(5);
    expect(id(at.alloc(VALID))).toBe(2);
    for (const domain of [b, c, d]) domain?.free();
  });

  it('no DomainID left: ENOSPC', () => {
    const { parts, alloc } = setup();
    for (let at = 2; at < 0x1_0000; at++) parts.context.domainIds.take('test');
    expect(codeOf(() => alloc(VALID))).toBe('ENOSPC');
  });

  it('a device whose PASIDs the host uses cannot be nested: EINVAL', () => {
    const { unit, device, alloc, attach } = setup();
    const nested = alloc(VALID);
    attach(unit.identity);
    expect(codeOf(() => attach(nested))).toBe('EINVAL');
    attach(unit.blocking);
    expect(codeOf(() => attach(nested))).toBe('no error');
    expect(codeOf(() => unit.attach(device, 5, nested))).toBe('EOPNOTSUPP');
  });

  it('GCR3 addresses are guest physical: Control.GCR3TRPMode is on', () => {
    const { registers } = setup();
    expect(registers.readReg32(0x1c) & (1 << 26)).not.toBe(0);
  });
});

describe('J.3 row 14: changes of the parent reach nested devices', () => {
  it('its top grows: the nested entry follows', () => {
    const { parent, alloc, attach, registers, device } = setup();
    attach(alloc(VALID));
    const mode = () => ((registers.entry(device.rid)[0] as bigint) >> 9n) & 7n;
    expect(mode()).toBe(3n);
    map(parent, 2 ** 30, 1);
    expect(mode()).toBe(4n);
  });

  it('dirty tracking: HAD in the nested entry, its translations flushed', () => {
    const at = recorded();
    const { parent, backend } = guestOf(at.unit, at.device, HWPT.NEST_PARENT | HWPT.DIRTY_TRACKING);
    at.unit.attach(
      at.device,
      -1,
      backend.allocNested(at.device, 0, guestDte([V | TV | IR_IW, 0x42n, 0n, 0n])),
    );
    const from = at.registers.log.length;
    parent.dirty?.setTracking(true);
    expect(((at.registers.entry(at.device.rid)[0] as bigint) >> 7n) & 3n).toBe(3n);
    expect(at.registers.commands(from)).toEqual([
      '2000000000000108 0000000000000000',
      '3000000200000000 7ffffffffffff003',
      '4000010820000108 7ffffffffffff001',
    ]);
  });

  it('unmapping: the whole DomainID, and the device TLB under every PASID that it can hold', () => {
    const { parent, alloc, attach, sent } = setup();
    attach(alloc(VALID));
    map(parent, 7, 1);
    const commands = sent(() => unmap(parent, 7));
    expect(commands[0]).toBe('3000000200000000 7ffffffffffff003');
    // GLX 0: 512 PASIDs, and entries without one.
    expect(commands).toHaveLength(1 + 1 + 512);
    expect(commands.at(-1)).toBe('40ff010820010108 7ffffffffffff005');
  });

  it('so too where the host itself uses no PASIDs (no EPHSup)', () => {
    const { unit, parent, alloc, attach, sent } = setup({ efr: GUEST_EFR & ~(1n << 50n) });
    expect(unit.caps.pasidBits).toBe(0);
    attach(alloc(VALID));
    map(parent, 7, 1);
    expect(sent(() => unmap(parent, 7))).toHaveLength(1 + 1 + 512);
  });

  it('a GCR3 table that reaches more PASIDs than can be flushed: no ATS for the device', () => {
    const { alloc, attach, registers, device } = setup();
    attach(alloc([VALID[0] | (2n << 56n), VALID[1], 0n, 0n]));
    expect(((registers.entry(device.rid)[1] as bigint) >> 32n) & 1n).toBe(0n);
  });
});

describe('G.4: commands of a guest', () => {
  const DEVICE = 0x21n;

  const ready = () => {
    const at = setup();
    at.backend.vdeviceInit(at.device, DEVICE);
    at.attach(at.alloc(VALID));
    const run = (...commands: (readonly [bigint, bigint])[]) => {
      const array = guestCommands(commands);
      let code = '';
      const words = at.sent(() => {
        code = codeOf(() => at.backend.invalidate(array));
      });
      return { words, code, done: array.done };
    };
    return { ...at, run };
  };

  it.each([
    [
      'INVALIDATE_IOMMU_PAGES, one page of a PASID',
      [0x3000_0042_0002_a345n, 0x7004n],
      '300000020002a345 0000000000007004',
    ],
    [
      'INVALIDATE_IOMMU_PAGES, GN=0',
      [0x3000_0042_0000_0000n, 0x7000n],
      '3000000200000000 7ffffffffffff003',
    ],
    [
      'INVALIDATE_IOTLB_PAGES',
      [0x4245_0021_08a3_0021n, 0x1_7005n],
      '4245010820a30108 0000000000017005',
    ],
    [
      'COMPLETE_PPR_REQUEST',
      [0x7002_a345_0000_0021n, 0x155_0000_0004n],
      '7002a34500000108 0000015500000004',
    ],
  ] as const)('%s with the unit numbers', (_, command, expected) => {
    expect(ready().run(command)).toEqual({ words: [expected], code: 'no error', done: 1 });
  });

  it.each([
    ['a DomainID without domain', [0x3000_0077_0000_0005n, 0x7004n]],
    ['INVALIDATE_DEVTAB_ENTRY: the VMM attaches anew', [0x2000_0000_0000_0021n, 0n]],
    ['PREFETCH_IOMMU_PAGES', [0x6000_0005_0400_0021n, 0x7004n]],
    ['INVALIDATE_INTERRUPT_TABLE', [0x5000_0000_0000_0021n, 0n]],
    ['COMPLETION_WAIT without store', [0x1000_0000_0000_0000n, 0n]],
  ] as const)('%s: done, nothing to send', (_, command) => {
    expect(ready().run(command)).toEqual({ words: [], code: 'no error', done: 1 });
  });

  it('INVALIDATE_IOMMU_ALL: its DomainIDs, nobody else', () => {
    expect(ready().run([0x8000_0000_0000_0000n, 0n]).words).toEqual([
      '3000000200000000 7ffffffffffff003',
    ]);
  });

  it.each([
    ['an unknown command', [0xb000_0000_0000_0000n, 0n]],
    ['command 0', [0n, 0n]],
    ['RESET_VMMIO', [0xa000_0000_0000_0003n, 0n]],
    ['a reserved bit', [0x3100_0042_0000_0005n, 0x7004n]],
    ['a reserved bit of the second qword', [0x3000_0042_0000_0005n, 0x7008n]],
    ['a device that the guest does not have', [0x2000_0000_0000_0022n, 0n]],
    ['an address of ones', [0x3000_0042_0000_0005n, 0xffff_ffff_ffff_f005n]],
    ['a store where the guest has nothing', [0x1000_0000_0900_0001n, 1n]],
  ] as const)('%s: EIO, and the commands before it are done and counted', (_, command) => {
    const { run } = ready();
    const result = run([0x3000_0042_0000_0005n, 0x7004n], command, [
      0x3000_0042_0000_0006n,
      0x7004n,
    ]);
    expect(result).toEqual({ words: ['3000000200000005 0000000000007004'], code: 'EIO', done: 1 });
  });

  it('another data type: EINVAL', () => {
    const { backend } = ready();
    expect(codeOf(() => backend.invalidate(guestCommands([], COMMANDS + 1)))).toBe('EINVAL');
  });

  it('COMPLETION_WAIT stores through the parent, where the guest may write, after what came before', () => {
    const { machine, parent, run, registers } = ready();
    const frame = machine.memory.allocPages(2) / 4096;
    map(parent, 0x9000, frame);
    map(parent, 0x9001, frame + 1, 1, 1);
    expect(run([0x1000_0000_0900_0011n, 0x1122_3344_5566_7788n]).code).toBe('no error');
    expect(registers.qword(frame * 4096 + 0x10)).toBe(0x1122_3344_5566_7788n);
    expect(run([0x1000_0000_0900_1011n, 1n]).code).toBe('EIO');
    expect(registers.qword((frame + 1) * 4096 + 0x10)).toBe(0n);
  });

  it('a device without ATS is not asked to forget', () => {
    const at = setup({ iotlbSup: false });
    at.backend.vdeviceInit(at.device, DEVICE);
    const array = guestCommands([[0x4245_0021_08a3_0021n, 0x7004n]]);
    expect(at.sent(() => at.backend.invalidate(array))).toEqual([]);
    expect(array.done).toBe(1);
  });

  it('a vDEVICE that is gone is no device; ids have 16 bits', () => {
    const { backend, device, run } = ready();
    backend.vdeviceDestroy(device, DEVICE);
    expect(run([0x2000_0000_0000_0021n, 0n]).code).toBe('EIO');
    expect(codeOf(() => backend.vdeviceInit(device, 0x1_0000n))).toBe('EINVAL');
  });
});
