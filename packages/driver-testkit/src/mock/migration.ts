/**
 * State of a mock unit as bytes and back: leaves with their dirty bits, IOTLBs, device caches.
 * @module
 */
import {
  type Domain,
  type DriverObject,
  decodeState,
  encodeState,
  HWPT_ALLOC,
  type MigrationOps,
  type PreparedUnit,
  refuse,
  snapshotCodec,
  type VeventSink,
} from '@iommukit/core';
import {
  MOCK_DEVICE_CACHE_ENTRIES,
  MOCK_HUGE_GRANULE_LG2,
  MOCK_IOTLB_ENTRIES,
} from './constants.ts';
import { MockNestedDomain } from './nested-domain.ts';
import { MockPagingDomain } from './paging-domain.ts';
import type { MockDeviceState, MockUnit } from './unit.ts';
import { MockViommu } from './viommu.ts';

const { blob, bool, int, list, nat, optional, struct, u16, u32, u32s, u64, u8 } = snapshotCodec;

const OP = 'restoreSnapshot';
/** Granules of all leaves together, so that crafted bytes cannot fill memory. */
const MAX_GRANULES = 2 ** 26;
const RIGHTS = 3;

const LEAF = struct({ first: nat, granules: nat, output: nat, prot: u8, dirty: bool });

const PAGING = struct({
  number: u32,
  huge: bool,
  flags: u32,
  tracking: bool,
  leaves: list(LEAF),
});

const VIOMMU = struct({ number: u32, parent: u32, data: optional(blob) });

const NESTED = struct({
  number: u32,
  parent: u32,
  viommu: optional(u32),
  pasidCompatible: bool,
  iotlb: u32s,
});

const DEVICE = struct({
  rid: u16,
  flags: u32,
  cache: u32s,
  /** What is attached, by PASID; -1 = without. */
  domains: list(struct({ pasid: int, number: u32 })),
  viommu: optional(u32),
  virtId: u64,
  failsNext: bool,
  responses: list(struct({ grpid: u32, pasid: int, code: u32 })),
});

const UNIT = struct({
  paging: list(PAGING),
  viommus: list(VIOMMU),
  nested: list(NESTED),
  devices: list(DEVICE),
  flagsByRid: list(struct({ rid: u16, flags: u32 })),
});

type UnitState = snapshotCodec.Stored<typeof UNIT>;
type Numbers = ReadonlyMap<DriverObject, number>;

const bad = (message: string, value: number) =>
  refuse('EINVAL', OP, 'mock-state', message, {
    value,
    accepted: 'the bytes of a mock unit with the same devices',
  });

/** A state of the mock, on its way into a unit. */
class PreparedMock implements PreparedUnit {
  readonly objects = new Map<number, DriverObject>();
  readonly #unit: MockUnit;
  readonly #state: UnitState;

  constructor(unit: MockUnit, state: UnitState, eventsOf: (number: number) => VeventSink) {
    this.#unit = unit;
    this.#state = state;
    this.#checkDevices();
    for (const { number, huge, flags } of state.paging) {
      this.#add(number, unit.makePaging(huge, flags));
    }
    const { machine } = unit.host;
    for (const { number, parent, data } of state.viommus) {
      const over = this.#find(parent, MockPagingDomain);
      const events = eventsOf(number);
      this.#add(number, new MockViommu(unit, machine, over, undefined, events, data));
    }
    for (const { number, parent, viommu, pasidCompatible, iotlb } of state.nested) {
      const over = this.#find(parent, MockPagingDomain);
      const through = viommu === undefined ? undefined : this.#find(viommu, MockViommu);
      if (iotlb.length !== MOCK_IOTLB_ENTRIES) throw bad('an IOTLB of another size', iotlb.length);
      const domain = new MockNestedDomain(unit, over, through, pasidCompatible, 0);
      domain.iotlb.set(iotlb);
      this.#add(number, domain);
    }
    this.#checkLeaves();
  }

  link(objectAt: (number: number) => DriverObject | undefined): () => void {
    const unit = this.#unit;
    const devices = this.#state.devices.map(({ rid, domains, viommu, ...state }) => ({
      rid,
      state: {
        ...state,
        domains: new Map(
          domains.map(({ pasid, number }) => [pasid, attachable(objectAt(number), number)]),
        ),
        viommu: viommu === undefined ? undefined : this.#find(viommu, MockViommu),
      } satisfies MockDeviceState,
    }));
    return () => {
      for (const { number, leaves, tracking } of this.#state.paging) {
        this.#find(number, MockPagingDomain).load(leaves, tracking);
      }
      unit.devices.clear();
      for (const { rid, state } of devices) unit.devices.set(rid, state);
      unit.flagsByRid.clear();
      for (const { rid, flags } of this.#state.flagsByRid) unit.flagsByRid.set(rid, flags);
    };
  }

  discard(): void {}

  #add(number: number, object: DriverObject): void {
    if (this.objects.has(number)) throw bad('a number comes twice', number);
    this.objects.set(number, object);
  }

  #find<T extends DriverObject>(number: number, kind: abstract new (...args: never[]) => T): T {
    const object = this.objects.get(number);
    if (object instanceof kind) return object;
    throw bad(`object ${number} is no ${kind.name}`, number);
  }

  #checkDevices(): void {
    const rids = this.#state.devices.map(({ rid }) => rid).sort((a, b) => a - b);
    const here = [...this.#unit.devices.keys()].sort((a, b) => a - b);
    if (rids.join() !== here.join()) throw bad('other devices than here', rids.length);
    for (const { cache } of this.#state.devices) {
      if (cache.length !== MOCK_DEVICE_CACHE_ENTRIES) throw bad('another cache', cache.length);
    }
  }

  #checkLeaves(): void {
    let granules = 0;
    for (const { number, leaves } of this.#state.paging) {
      const { apertureStartFrame, apertureLastFrame } = this.#find(number, MockPagingDomain);
      let from = apertureStartFrame;
      for (const leaf of leaves) {
        const end = leaf.first + leaf.granules;
        const fits = leaf.first >= from && leaf.granules > 0 && end - 1 <= apertureLastFrame;
        if (!fits || (leaf.prot & RIGHTS) === 0) throw bad('leaves are out of order', leaf.first);
        granules += leaf.granules;
        from = end;
      }
    }
    if (granules > MAX_GRANULES) throw bad('too much is mapped', granules);
  }
}

const attachable = (object: DriverObject | undefined, number: number): Domain => {
  if (object && 'kind' in object) return object;
  throw bad('nothing that can be attached', number);
};

/** Saving and preparing of one mock unit. */
export class MockMigration implements MigrationOps {
  readonly #unit: MockUnit;

  constructor(unit: MockUnit) {
    this.#unit = unit;
  }

  save(numbers: Numbers): Uint8Array {
    const paging: UnitState['paging'] = [];
    const viommus: UnitState['viommus'] = [];
    const nested: UnitState['nested'] = [];
    for (const [object, number] of numbers) {
      if (!isOf(object, this.#unit)) continue;
      if (object instanceof MockPagingDomain) paging.push(savePaging(object, number));
      else if (object instanceof MockViommu) {
        const parent = numberOf(object.parent, numbers);
        viommus.push({ number, parent, data: object.outData });
      } else if (object instanceof MockNestedDomain) {
        nested.push(saveNested(object, number, numbers));
      }
    }
    const devices = [...this.#unit.devices].map(([rid, device]) =>
      saveDevice(rid, device, numbers),
    );
    const flagsByRid = [...this.#unit.flagsByRid].map(([rid, flags]) => ({ rid, flags }));
    return encodeState(UNIT, { paging, viommus, nested, devices, flagsByRid });
  }

  prepare(bytes: Uint8Array, eventsOf: (number: number) => VeventSink): PreparedUnit {
    return new PreparedMock(this.#unit, decodeState(UNIT, bytes, OP), eventsOf);
  }
}

const isOf = (object: DriverObject, unit: MockUnit): boolean =>
  'unit' in object && object.unit === unit;

const numberOf = (object: DriverObject, numbers: Numbers): number => {
  const number = numbers.get(object);
  if (number !== undefined) return number;
  throw refuse('EBUSY', 'saveSnapshot', 'unknown-domain', 'a domain that is no HWPT is attached', {
    accepted: 'domains of HWPTs',
  });
};

const savePaging = (domain: MockPagingDomain, number: number): UnitState['paging'][number] => ({
  number,
  huge: domain.granuleLg2 === MOCK_HUGE_GRANULE_LG2,
  flags:
    (domain.nestParent ? HWPT_ALLOC.NEST_PARENT : 0) |
    (domain.pasidCompatible ? HWPT_ALLOC.PASID : 0) |
    (domain.dirty ? HWPT_ALLOC.DIRTY_TRACKING : 0),
  tracking: domain.dirty?.enabled ?? false,
  leaves: domain.leaves,
});

const saveNested = (
  domain: MockNestedDomain,
  number: number,
  numbers: Numbers,
): UnitState['nested'][number] => ({
  number,
  parent: numberOf(domain.parent, numbers),
  viommu: domain.viommu && numberOf(domain.viommu, numbers),
  pasidCompatible: domain.pasidCompatible,
  iotlb: domain.iotlb,
});

const saveDevice = (
  rid: number,
  { domains, viommu, ...state }: MockDeviceState,
  numbers: Numbers,
): UnitState['devices'][number] => ({
  ...state,
  rid,
  domains: [...domains].map(([pasid, domain]) => ({ pasid, number: numberOf(domain, numbers) })),
  viommu: viommu && numberOf(viommu, numbers),
  responses: state.responses.map(({ grpid, pasid, code }) => ({ grpid, pasid, code })),
});
