/** One address space behind several units of several kinds, and forced snooping: S001 A and B, L1-01 to L1-06, the no-snoop matrix. */
import {
  type CoherencyPolicy,
  createMachine,
  createProcess,
  type EndpointOptions,
  HWPT_ALLOC,
  type IommuDriver,
  isIommuError,
  MAP_FLAG,
  openIommufd,
  restoreSnapshot,
  saveSnapshot,
} from '@iommukit/core';
import { amdvi } from '@iommukit/driver-amdvi';
import { smmuv3 } from '@iommukit/driver-smmuv3';
import { mockDriver } from '@iommukit/driver-testkit';
import { vtd } from '@iommukit/driver-vtd';
import { describe, expect, it, type Mock, vi } from 'vitest';
import { FIXED_RW, refusalOf } from './machine.ts';

const HVA = 0x4000_0000;
const IOVA = 0x100_0000;
const PAGES = 8;
/** The unit in front of Intel's graphics: no snoop control. */
const graphics = () => vtd({ capabilities: { ecap: { SC: 0 } }, name: 'igd' });

const setup = (units: Record<string, IommuDriver>, endpoint: Partial<EndpointOptions> = {}) => {
  const machine = createMachine({ ramBytes: 2 ** 25 });
  const devices = Object.entries(units).map(([name, driver], i) => {
    const device = machine.addEndpoint({ rid: 0x20 + 8 * i, name, pasidBits: 8, ...endpoint });
    const unit = machine.addUnit(driver, [device]);
    return { name, device, unit };
  });
  const process = createProcess(machine, { uid: 1000, rlimitMemlockBytes: 2 ** 20 });
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  process.mmap({ addr: HVA, length: PAGES * 4096, flags });
  const context = openIommufd(process, machine);
  const bound = devices.map((entry) => ({ ...entry, devId: context.bindDevice(entry.device) }));
  const of = (name: string) => {
    const found = bound.find((entry) => entry.name === name);
    if (!found) throw new RangeError(`no device ${name}`);
    return found;
  };
  const space = (policy?: CoherencyPolicy) => {
    const { outIoasId: ioasId } = context.ioasAlloc();
    if (policy) context.ioasSetCoherency(ioasId, policy);
    const length = PAGES * 4096;
    context.ioasMap({ ioasId, flags: FIXED_RW, userVa: HVA, length, iova: IOVA });
    return ioasId;
  };
  /** Byte that a device writes and the process sees, or -1 when the DMA is blocked. */
  const roundTrip = (name: string, value: number, pasid = -1) => {
    const options = pasid < 0 ? {} : { pasid };
    if (of(name).device.dmaWrite(IOVA + 4096 + 16, Uint8Array.of(value), options) !== 1) return -1;
    return process.peek(HVA + 4096 + 16, 1)?.[0];
  };
  return { machine, process, context, bound, of, space, roundTrip };
};

const five = () => ({
  vtdA: vtd(),
  vtdB: vtd(),
  smmuA: smmuv3(),
  smmuB: smmuv3(),
  amd: amdvi(),
  mock: mockDriver(),
});

const reasonOf = (call: () => unknown) => {
  try {
    call();
  } catch (error) {
    if (isIommuError(error)) return { code: error.code, ...error.reason };
    throw error;
  }
  return undefined;
};

describe('one IOAS behind units of every kind', () => {
  it('same memory and same HPA through all; pinned and charged once (L1-02, L1-06)', () => {
    const { context, bound, space, roundTrip, process, machine, of } = setup(five());
    const ioasId = space();
    const hwpts = bound.map(({ devId }) => context.deviceAttach(devId, ioasId));
    // Two VT-d units walk one table; each SMMU wants a domain of its own, as Linux 7.3 has it.
    expect(hwpts[1]).toBe(hwpts[0]);
    expect(new Set(hwpts).size).toBe(5);
    bound.forEach(({ name }, i) => {
      expect([name, roundTrip(name, 100 + i)]).toEqual([name, 100 + i]);
    });
    const frames = hwpts.map((id) => {
      const { domain } = context.find('test', id, 'HWPT_PAGING');
      return domain.iovaToFrame((IOVA + 4096) / 2 ** domain.granuleLg2) * 2 ** domain.granuleLg2;
    });
    expect(new Set(frames).size).toBe(1);
    expect(process.pinnedPages).toBe(PAGES);
    const pfn = (frames[0] as number) / 4096;
    expect(machine.memory.pages.pinCount(pfn)).toBe(1);
    context.ioasUnmap({ ioasId, iova: IOVA, length: PAGES * 4096 });
    for (const { name } of bound) expect([name, roundTrip(name, 1)]).toEqual([name, -1]);
    expect([process.pinnedPages, machine.memory.pages.pinCount(pfn)]).toEqual([0, 0]);
    expect(of('vtdA').unit).not.toBe(of('vtdB').unit);
  });

  it('a copy of the mapping in a second space pins nothing again', () => {
    const { context, space, roundTrip, process, of } = setup(five());
    const first = space();
    const { outIoasId: second } = context.ioasAlloc();
    const length = PAGES * 4096;
    const flags = FIXED_RW;
    context.ioasCopy({
      dstIoasId: second,
      srcIoasId: first,
      flags,
      length,
      dstIova: IOVA,
      srcIova: IOVA,
    });
    context.deviceAttach(of('vtdA').devId, first);
    context.deviceAttach(of('amd').devId, second);
    expect([roundTrip('vtdA', 7), roundTrip('amd', 8)]).toEqual([7, 8]);
    expect(process.pinnedPages).toBe(PAGES);
  });

  it('a HWPT on two compatible VT-d units, by RID and by RID with PASID (L1-03, L1-07, L1-08)', () => {
    const { context, space, roundTrip, of } = setup(five());
    const ptId = space();
    const [a, b] = [of('vtdA').devId, of('vtdB').devId];
    const { outHwptId } = context.hwptAlloc({ devId: a, ptId, flags: HWPT_ALLOC.PASID });
    expect([a, b].map((devId) => context.deviceAttach(devId, outHwptId))).toEqual([
      outHwptId,
      outHwptId,
    ]);
    context.deviceAttach(a, outHwptId, 5);
    context.deviceAttach(b, outHwptId, 9);
    const seen = [roundTrip('vtdA', 1), roundTrip('vtdB', 2)];
    expect([...seen, roundTrip('vtdA', 3, 5), roundTrip('vtdB', 4, 9)]).toEqual([1, 2, 3, 4]);
    expect([roundTrip('vtdA', 5, 9), roundTrip('vtdB', 6, 5)]).toEqual([-1, -1]);
    // S001 A2: an object id is no PASID.
    expect(roundTrip('vtdA', 7, outHwptId)).toBe(-1);
  });

  it.each([
    ['smmuB', 'smmuA', 'domain-fits-unit'],
    ['amd', 'vtdA', 'domain-owner'],
    ['vtdA', 'amd', 'domain-owner'],
    ['mock', 'vtdA', 'domain-owner'],
    ['vtdB', 'mock', 'domain-owner'],
    ['smmuA', 'mock', 'domain-owner'],
    ['mock', 'smmuA', 'domain-owner'],
  ])('%s refuses a HWPT made for %s; a second object works (L1-04)', (name, owner, rule) => {
    const { context, space, roundTrip, of, process } = setup(five());
    const ioasId = space();
    const { outHwptId } = context.hwptAlloc({ devId: of(owner).devId, ptId: ioasId });
    context.deviceAttach(of(owner).devId, outHwptId);
    const attach = () => context.deviceAttach(of(name).devId, outHwptId);
    expect(reasonOf(attach)).toMatchObject({
      code: 'EINVAL',
      rule,
      owner: of(owner).unit.name,
      accepted: expect.stringContaining(of(name).unit.name),
    });
    expect(roundTrip(name, 9)).toBe(-1);
    expect(context.find('test', outHwptId, 'HWPT_PAGING').users).toBe(1);
    const own = context.hwptAlloc({ devId: of(name).devId, ptId: ioasId });
    expect(context.deviceAttach(of(name).devId, own.outHwptId)).toBe(own.outHwptId);
    expect([roundTrip(name, 10), roundTrip(owner, 11)]).toEqual([10, 11]);
    expect(process.pinnedPages).toBe(PAGES);
    // The refused one was the only thing wrong: a replace is refused the same way.
    const replace = () => context.deviceReplace(of(name).devId, outHwptId);
    expect(reasonOf(replace)).toMatchObject({ code: 'EINVAL', rule });
    expect(roundTrip(name, 12)).toBe(12);
  });

  it.each([
    ['levels', { cap: { SAGAW: 4 } }, { cap: { SAGAW: 8 } }, 'CAP.SAGAW'],
    ['snoop control', {}, { ecap: { SC: 0 } }, 'ECAP.SC'],
  ])('two VT-d units that differ in %s share no table, but the space', (_, one, two, what) => {
    const options = { firstStageByDefault: false };
    const { context, space, roundTrip, of } = setup({
      one: vtd({ ...options, capabilities: one }),
      two: vtd({ ...options, capabilities: two }),
    });
    const ptId = space();
    const { outHwptId } = context.hwptAlloc({ devId: of('one').devId, ptId });
    context.deviceAttach(of('one').devId, outHwptId);
    const reason = reasonOf(() => context.deviceAttach(of('two').devId, outHwptId));
    expect(reason).toMatchObject({ code: 'EINVAL', owner: of('two').unit.name });
    expect(reason?.message).toContain(what);
    expect(context.deviceAttach(of('two').devId, ptId)).not.toBe(outHwptId);
    expect([roundTrip('one', 1), roundTrip('two', 2)]).toEqual([1, 2]);
  });
});

describe('forced snooping', () => {
  it('S001 B1 to B3: graphics are refused by a coherent space, accepted by a second one', () => {
    const { context, space, roundTrip, of, process } = setup({
      nic: vtd(),
      igd: graphics(),
      third: vtd(),
    });
    const s1 = space('required');
    const shared = context.deviceAttach(of('nic').devId, s1);
    expect(context.find('test', shared, 'HWPT_PAGING').enforceCacheCoherency).toBe(true);
    const objects = context.objects.all().length;
    for (const target of [s1, shared]) {
      expect(reasonOf(() => context.deviceAttach(of('igd').devId, target))).toMatchObject({
        code: 'EINVAL',
        rule: 'coherency-required',
        owner: of('igd').unit.name,
        accepted: expect.stringContaining("'auto' or 'off'"),
      });
    }
    expect(refusalOf(() => context.hwptAlloc({ devId: of('igd').devId, ptId: s1 }))).toBe(
      'EINVAL coherency-required',
    );
    expect(context.objects.all().length).toBe(objects);
    expect(roundTrip('igd', 5)).toBe(-1);
    const s2 = space();
    context.deviceAttach(of('igd').devId, s2);
    expect([roundTrip('igd', 6), roundTrip('nic', 7)]).toEqual([6, 7]);
    // Two map calls: the pages are pinned per call, as in Linux. A copy would share them.
    expect(process.pinnedPages).toBe(2 * PAGES);
    expect(context.deviceAttach(of('third').devId, s1)).toBe(shared);
    expect(roundTrip('third', 8)).toBe(8);
  });

  const BOXES: readonly [number, boolean, boolean, Record<CoherencyPolicy, string>][] = [
    [1, true, true, { auto: 'coherent', required: 'coherent', off: 'may not be' }],
    [2, true, false, { auto: 'coherent', required: 'coherent', off: 'coherent' }],
    [3, false, true, { auto: 'may not be', required: 'refused', off: 'may not be' }],
    [4, false, false, { auto: 'coherent', required: 'refused', off: 'coherent' }],
  ];
  const rows = BOXES.flatMap(([box, enforces, noSnoop, outcome]) =>
    (['auto', 'required', 'off'] as const).flatMap((policy) =>
      [true, false].map((firstStage) => ({ box, enforces, noSnoop, policy, firstStage, outcome })),
    ),
  );

  it.each(rows)(
    'no-snoop matrix 3.4 box $box: unit forces $enforces, device No Snoop $noSnoop, $policy, first stage $firstStage',
    ({ enforces, noSnoop, policy, firstStage, outcome }) => {
      const driver = vtd({
        firstStageByDefault: firstStage,
        ...(!enforces && { capabilities: { ecap: { SC: 0 } } }),
      });
      const { context, space, roundTrip, of } = setup({ dev: driver }, { noSnoop });
      const { devId } = of('dev');
      const ioasId = space(policy);
      const attached = refusalOf(() => context.deviceAttach(devId, ioasId));
      const refused = outcome[policy] === 'refused';
      expect(attached).toBe(refused ? 'EINVAL coherency-required' : 'ok');
      expect(roundTrip('dev', 3)).toBe(refused ? -1 : 3);
      if (refused) return;
      expect(context.deviceIsCoherent(devId)).toBe(outcome[policy] === 'coherent');
      const [hwpt] = context.find('test', ioasId, 'IOAS').hwpts;
      const forced = enforces && policy !== 'off';
      expect([hwpt?.enforceCacheCoherency, hwpt?.domain.enforcesCacheCoherency]).toEqual([
        forced,
        forced,
      ]);
    },
  );

  it('a device without attachment is coherent only when it never uses No Snoop', () => {
    for (const noSnoop of [false, true]) {
      const { context, of } = setup({ dev: vtd() }, { noSnoop });
      expect(context.deviceIsCoherent(of('dev').devId)).toBe(!noSnoop);
    }
  });

  it('a domain made in vain is given back', () => {
    const { context, space, of } = setup({ dev: mockDriver() });
    const { unit, devId } = of('dev');
    const make = vi.spyOn(unit, 'allocPaging');
    const ioasId = space('required');
    const alloc = () => context.hwptAlloc({ devId, ptId: ioasId });
    make.mockImplementationOnce((device, request) => {
      make.mockRestore();
      const domain = unit.allocPaging(device, request);
      freed = vi.spyOn(domain, 'free');
      return domain;
    });
    let freed: Mock = vi.fn();
    expect(refusalOf(alloc)).toBe('EINVAL coherency-required');
    expect(freed).toHaveBeenCalledOnce();
    expect(context.find('test', ioasId, 'IOAS').users).toBe(0);
  });

  it('replacing by a space that insists is refused; the old one goes on', () => {
    const { context, space, roundTrip, of } = setup({ igd: graphics() });
    const { devId } = of('igd');
    context.deviceAttach(devId, space());
    const insists = space('required');
    expect(refusalOf(() => context.deviceReplace(devId, insists))).toBe(
      'EINVAL coherency-required',
    );
    expect(roundTrip('igd', 4)).toBe(4);
    expect(context.find('test', insists, 'IOAS').hwpts.length).toBe(0);
    context.ioasSetCoherency(insists, 'off');
    context.deviceReplace(devId, insists);
    expect(roundTrip('igd', 5)).toBe(5);
  });

  it('a restored space insists as the saved one did, a restored device may use No Snoop', () => {
    const { machine, process, context, space, of } = setup({ igd: graphics() }, { noSnoop: true });
    const ioasId = space('required');
    const bytes = saveSnapshot({ machine, processes: [process], contexts: [context] });
    const other = createMachine({ ramBytes: 2 ** 25 });
    other.addUnit(graphics(), []);
    const { contexts } = restoreSnapshot(bytes, { machine: other });
    const [restored] = contexts;
    const { devId } = of('igd');
    const attach = () => restored?.deviceAttach(devId, ioasId);
    expect(refusalOf(attach)).toBe('EINVAL coherency-required');
    expect(restored?.deviceIsCoherent(devId)).toBe(false);
    restored?.ioasSetCoherency(ioasId, 'auto');
    expect(refusalOf(attach)).toBe('ok');
  });

  it('the policy is set before the first HWPT, on an IOAS, in one of three words', () => {
    const { context, space, of } = setup({ dev: vtd() });
    const ioasId = space();
    const set = (id: number, policy: string) =>
      refusalOf(() => context.ioasSetCoherency(id, policy as CoherencyPolicy));
    expect(set(ioasId, 'always')).toBe('EINVAL coherency-policy');
    expect(set(999, 'auto')).toBe('ENOENT object-id');
    context.deviceAttach(of('dev').devId, ioasId);
    expect(set(ioasId, 'required')).toBe('EBUSY coherency-in-use');
    expect(set(ioasId, 'auto')).toBe('ok');
    context.deviceDetach(of('dev').devId);
    expect(set(ioasId, 'required')).toBe('ok');
  });
});
