/** Guests at the edges: foreign parents, tags that come back, names that go, hostile words. */
import { encode } from '@iommukit/bits';
import {
  createMachine,
  type Endpoint,
  HWPT_ALLOC,
  type IommuUnit,
  isIommuError,
  type PagingDomain,
  type UserArray,
  type UserBlob,
  type VeventSink,
} from '@iommukit/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { COMMAND, smmuv3, TLBI } from '../../src/index.ts';
import { CD_OF, guest, LEAF_OF, refusalOf, VA } from './guest.ts';

const NOWHERE: VeventSink = { report: () => false };
const ARM_SMMUV3 = 1;

const blob = (bytes: Uint8Array): UserBlob => ({
  type: 2,
  length: bytes.length,
  copyIn: () => bytes,
  copyOut: () => {},
});

const arrayOf = (bytes: Uint8Array): UserArray => ({
  type: 1,
  entryLength: 16,
  entryCount: bytes.length / 16,
  done: 0,
  copyEntry: (index) => bytes.slice(index * 16, index * 16 + 16),
  copyAll: () => bytes.slice(),
});

describe('parents', () => {
  const twoUnits = (oas: number) => {
    const machine = createMachine({ ramBytes: 2 ** 25 });
    const [a, b] = ['00:04.0', '01:00.0'].map((rid) => machine.addEndpoint({ rid })) as [
      Endpoint,
      Endpoint,
    ];
    const wide = machine.addUnit(smmuv3({ canWbs: true }), [a]);
    const narrow = machine.addUnit(smmuv3({ canWbs: true, capabilities: { idr5: { OAS: oas } } }), [
      b,
    ]);
    return { wide, narrow, a, b };
  };
  const parentOf = (unit: IommuUnit, device: Endpoint, flags: number = HWPT_ALLOC.NEST_PARENT) =>
    unit.allocPaging(device, { flags });
  const init = (unit: IommuUnit, device: Endpoint, parent: PagingDomain) => () =>
    unit.viommu?.init(device, ARM_SMMUV3, parent, undefined, NOWHERE);

  test('tables wider than the unit’s addresses: EINVAL; narrower ones: fine', () => {
    const { wide, narrow, a, b } = twoUnits(2);
    expect(refusalOf(init(narrow, b, parentOf(wide, a)))).toBe('EINVAL nest-parent-width');
    expect(refusalOf(init(wide, a, parentOf(narrow, b)))).toBe('done');
  });

  test('a domain that is no nest parent, and one of another machine: EINVAL', () => {
    const { wide, a } = twoUnits(5);
    const other = twoUnits(5);
    expect(refusalOf(init(wide, a, parentOf(wide, a, 0)))).toBe('EINVAL nest-parent');
    expect(refusalOf(init(wide, a, parentOf(other.wide, other.a)))).toBe('EINVAL nest-parent');
    const direct = (parent: PagingDomain) => () =>
      wide.nesting?.allocNested(a, parent, 0, blob(new Uint8Array(16)));
    expect(refusalOf(direct(parentOf(wide, a, 0)))).toBe('EINVAL nest-parent');
  });
});

describe('VMIDs', () => {
  const FEW = { capabilities: { idr0: { VMID16: 0 } } } as const;

  test('of vIOMMUs and of nested HWPTs come back', () => {
    const { context, viommu, nested, parentId, vste } = guest(FEW);
    for (let round = 0; round < 600; round++) {
      const id = round % 2 === 0 ? viommu(0) : nested(0, parentId, vste({ CONFIG: 4 }));
      context.destroy({ id });
    }
  });

  test('all in use: ENOSPC, and with one given back there is one', () => {
    const { context, viommu } = guest(FEW);
    const ids: number[] = [];
    const fill = () => {
      for (;;) ids.push(viommu(0));
    };
    expect(refusalOf(fill)).toMatch(/^ENOSPC/);
    // 255 VMIDs, one of them the stage 2's own.
    expect(ids).toHaveLength(254);
    context.destroy({ id: ids.pop() as number });
    ids.push(viommu(0));
  });

  test('as Linux 7.3 guests take none', () => {
    const { viommu } = guest({ ...FEW, linux73Vmid: true });
    for (let round = 0; round < 300; round++) viommu(0);
  });
});

describe('names of devices', () => {
  test('an event of a bypassing device has the name it had when it was attached', () => {
    const world = guest();
    const { context, page } = world;
    const viommuId = world.viommu(0);
    const { queue } = context.veventqAlloc({ viommuId, type: 1, veventqDepth: 8 });
    const hwptId = world.nested(0, viommuId, world.vste({ CONFIG: 4 }));
    const id = world.vdevice(viommuId, 0, 0x33);
    world.attach(0, hwptId);
    expect(page(0, 0x9000, 5)).toBe('C_BAD_SUBSTREAMID');
    const sids = () =>
      queue.readEvents().map(({ data }) => new DataView(data.buffer).getUint32(4, true));
    expect(sids()).toEqual([0x33]);
    context.destroy({ id });
    expect(page(0, 0x9000, 5)).toBe('C_BAD_SUBSTREAMID');
    expect(sids()).toEqual([0x33]);
    context.deviceDetach(world.id(0));
    world.attach(0, hwptId);
    expect(page(0, 0x9000, 5)).toBe('C_BAD_SUBSTREAMID');
    expect(sids()).toEqual([]);
  });
});

describe('hostile words', () => {
  const word = fc.oneof(
    fc.constantFrom(0n, 0xbn, 0x6000bn, 0x9n, 0x1n, 0xfn, 2n ** 64n - 1n),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    // The guest's bits alone, stage 1.
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((w) => (w & 0xf80f_ffff_ffff_fff0n) | 0xbn),
  );
  const command = fc.tuple(
    fc.constantFrom(0x30n, 0x10n, 0x11n, 0x12n, 0x13n, 0x40n, 0x05n, 0x06n, 0x03n, 0x46n, 0x28n),
    fc.oneof(
      fc.constant(0n),
      fc.constant(0x10_0000_0000n),
      fc.nat({ max: 0xffff }).map((asid) => BigInt(asid) << 48n),
      fc.nat({ max: 0xffff }).map((vmid) => BigInt(vmid) << 32n),
      fc.bigInt({ min: 0n, max: 2n ** 56n }),
    ),
    fc.oneof(fc.constant(0n), fc.constant(0x7f00_0000_1001n), word),
  );
  const bytes = (words: readonly bigint[]): Uint8Array => {
    const data = new Uint8Array(words.length * 8);
    const view = new DataView(data.buffer);
    words.forEach((value, at) => {
      view.setBigUint64(at * 8, value, true);
    });
    return data;
  };
  /** @returns whether it was done; a refusal must be an IommuError */
  const attempt = (call: () => void): boolean => {
    try {
      call();
      return true;
    } catch (error) {
      if (isIommuError(error)) return false;
      throw error;
    }
  };

  test('vSTEs, commands and tables of one guest: IommuErrors only, and the other guest stays as it is', () => {
    const world = guest();
    const { units, devices, page, write } = world;
    const [unit, hostile] = [units[0], devices[0]] as [IommuUnit, Endpoint];
    // The victim: device 1 with its own tables; its leaf is changed behind a cached translation, so
    // that any command of the other guest that reaches it shows.
    const viommuId = world.viommu(1);
    world.vdevice(viommuId, 1, 0x10);
    world.attach(1, world.nested(1, viommuId, world.s1(CD_OF.A2)));
    expect(page(1, VA)).toBe(0xa000);
    write(LEAF_OF.A2, 0xcf43n);
    const parent = world.context.find('test', world.parentId, 'HWPT_PAGING').domain;
    const viommu = unit.viommu?.init(hostile, ARM_SMMUV3, parent, undefined, NOWHERE);
    if (!viommu?.allocNested || !viommu.invalidate || !viommu.vdeviceInit) throw new Error('no');
    viommu.vdeviceInit(hostile, 0x10n);
    const { allocNested, invalidate } = viommu;
    let installed = 0;
    let executed = 0;
    fc.assert(
      fc.property(
        fc.tuple(word, word),
        fc.array(command, { maxLength: 6 }),
        fc.tuple(fc.nat({ max: 0xff }), word),
        fc.integer({ min: -1, max: 40 }),
        (vste, commands, [slot, value], pasid) => {
          // The guest's RAM below 0x2_0000 is the hostile guest's alone.
          write(slot * 8, value);
          const isInstalled = attempt(() => {
            const domain = allocNested.call(viommu, hostile, 0, blob(bytes(vste)));
            unit.attach(hostile, -1, domain);
          });
          if (isInstalled) installed++;
          const words = commands.flatMap(([op, hi, w1]) => [op | (hi & ~0xffn), w1]);
          const array = arrayOf(bytes(words));
          if (words.length > 0) attempt(() => invalidate.call(viommu, array));
          expect(array.done).toBeLessThanOrEqual(commands.length);
          executed += array.done;
          hostile.dmaWrite(VA, Uint8Array.of(1), pasid < 0 ? {} : { pasid });
        },
      ),
      { numRuns: 1500 },
    );
    expect(Math.min(installed, executed)).toBeGreaterThan(100);
    expect(page(1, VA)).toBe(0xa000);
    const flush = encode(TLBI, { OPCODE: COMMAND.TLBI_NH_ASID, ASID: 1 });
    world.invalidate(viommuId, [flush]);
    expect(page(1, VA)).toBe(0xc000);
  });
});
