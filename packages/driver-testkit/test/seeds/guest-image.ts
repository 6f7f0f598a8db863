/**
 * The memory that every seed scenario shares, with its exact addresses: guest RAM of 1 GiB (GPA 0 is
 * HVA 0x4000_0000 and HPA 0x1_0000_0000), the words that are in it at time 0, and devices whose DMA
 * is watched on its way to the unit.
 */
import { readFileSync } from 'node:fs';
import {
  createMachine,
  createProcess,
  type Endpoint,
  type EndpointOptions,
  FrameRuns,
  HWPT_ALLOC,
  HWPT_DATA,
  type IommuDriver,
  type IommufdContext,
  MAP_FLAG,
  type Machine,
  openIommufd,
  type Process,
  type TranslationAgent,
  type UnrecoverableFault,
} from '@iommukit/core';
import {
  encodeHwptVtdS1,
  encodeHwptVtdS1Invalidate,
  type VtdCapabilityFields,
  type VtdOptions,
  vtd,
} from '@iommukit/driver-vtd';
import { FIXED_RW } from '../machine.ts';

/** Where guest RAM is: in the program that runs the guest, and in physical memory. */
export const GUEST = { HVA: 0x4000_0000, HPA: 0x1_0000_0000, BYTES: 2 ** 30 } as const;
/** Where the host keeps its own structures; its page-table pool comes first. */
const HOST_TABLES = 0x3_0000_0000;
/** A page of the program for structs. */
const SCRATCH = 0x9000_0000;

/** Guest tables: the top one, an address of one page they map, and where that leads. */
export const X1 = { root: 0x10000, va: 0x2abc, slot: 0x13010, hpa: 0x1_0000_1abc } as const;
/** See {@link X1}. */
export const X2 = {
  root: 0x20000,
  va: 0x7f00_0000_1010,
  slot: 0x23008,
  hpa: 0x1_0000_9010,
} as const;

/** Reasons of VT-d fault records that the scenarios expect. */
export const FAULT = {
  /** First-stage entry not present (SFS.2). */
  FIRST_STAGE: '0x71',
  /** Second-stage entry without permission (SSS.2). */
  SECOND_STAGE: '0x79',
  /** PASID directory entry not present (SPD.2): no PASID of its 64 was ever in use. */
  PASID_DIRECTORY: '0x51',
  /** PASID table entry not present (SPT.2). */
  PASID_ENTRY: '0x59',
} as const;

interface Vectors {
  readonly guestMemory: Readonly<Record<string, string>>;
  readonly stage2: {
    readonly tables: Readonly<Record<string, Readonly<Record<string, string>>>>;
  };
  readonly arm: {
    readonly vste0: Readonly<Record<string, string>>;
    readonly cd: Readonly<Record<string, readonly string[]>>;
    readonly tlbi_nh_asid_asid1: readonly string[];
  };
  readonly abi: Readonly<Record<string, { readonly nr?: string; readonly bytes: string }>>;
}

/** Guest memory, tables and byte strings that were computed without these packages. */
export const VECTORS = JSON.parse(
  readFileSync(
    new URL('../../../vfio-compat/test/data/legacy-vectors.json', import.meta.url),
    'utf8',
  ),
) as Vectors;

/** A request as it reached the unit, and what the unit answered. */
export interface WireRequest {
  readonly rid: number;
  /** -1 = without PASID. */
  readonly pasid: number;
  readonly iovaPfn: number;
  /** Frame, or negative when blocked. */
  readonly pfn: number;
}

/** Note each untranslated request between a device and its unit. */
const watchWire = (device: Endpoint, wire: WireRequest[]): void => {
  const unit = device.agent as TranslationAgent;
  const { translationRequest, translatedPage, pageRequest } = unit;
  device.agent = {
    translatePage: (rid, pasid, iovaPfn, access, offset) => {
      const pfn = unit.translatePage(rid, pasid, iovaPfn, access, offset);
      wire.push({ rid, pasid, iovaPfn, pfn });
      return pfn;
    },
    ...(translationRequest && { translationRequest: translationRequest.bind(unit) }),
    ...(translatedPage && { translatedPage: translatedPage.bind(unit) }),
    ...(pageRequest && { pageRequest: pageRequest.bind(unit) }),
  };
};

/** A unit with 48-bit addresses, as the scenarios have it: both stages have four levels. */
export const vtd48 = (
  options: Omit<VtdOptions, 'capabilities'> = {},
  ecap: VtdCapabilityFields['ecap'] = {},
): IommuDriver =>
  vtd({ ...options, capabilities: { cap: { MGAW: 47, SAGAW: 4, FS5LP: 0 }, ecap } });

/** An IOMMU of a scenario and the devices behind it. */
export interface ScenarioUnit {
  readonly driver: IommuDriver;
  readonly devices: readonly EndpointOptions[];
}

/** A guest's memory, the program that runs it, and devices behind IOMMUs. */
export class Scenario {
  readonly machine: Machine;
  readonly vmm: Process;
  readonly devices: readonly Endpoint[];
  /** Requests of all devices, oldest first. */
  readonly wire: WireRequest[] = [];
  /** Faults that host halves read from their units, oldest first. */
  readonly faults: UnrecoverableFault[] = [];
  #token = 0;

  constructor(units: readonly ScenarioUnit[]) {
    this.machine = createMachine({ ramBase: GUEST.HPA, ramBytes: GUEST.BYTES });
    this.vmm = createProcess(this.machine);
    mapFixed(this.vmm, GUEST.HVA, GUEST.BYTES);
    // Touch all of it in order, before tables and others take frames.
    const pages = GUEST.BYTES / 4096;
    if (this.vmm.pinRange(GUEST.HVA / 4096, pages, true, new FrameRuns()) !== 0) {
      throw new Error('guest RAM does not fit');
    }
    const base = HOST_TABLES;
    this.machine.memory.addRegion({ name: 'host tables', base, size: 2 ** 25 });
    mapFixed(this.vmm, SCRATCH, 4096);
    this.machine.onFault((fault) => this.faults.push(fault));
    this.devices = units.flatMap(({ driver, devices }) => {
      const endpoints = devices.map((each) => this.machine.addEndpoint(each));
      this.machine.addUnit(driver, endpoints);
      for (const endpoint of endpoints) watchWire(endpoint, this.wire);
      return endpoints;
    });
    for (const [gpa, value] of Object.entries(VECTORS.guestMemory)) {
      this.write(Number(gpa), BigInt(value));
    }
  }

  /** Device by position. */
  device(index: number): Endpoint {
    return this.devices[index] as Endpoint;
  }

  /** The guest writes a table entry. */
  write(gpa: number, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.vmm.poke(GUEST.HVA + gpa, bytes);
  }

  /**
   * A device writes 8 bytes.
   *
   * @returns the HPA that holds them now, or the fault reason that was recorded, `'0x71'`
   */
  dma(device: Endpoint, address: number, pasid?: number): number | string {
    const token = new TextEncoder().encode(`dma${(this.#token++).toString().padStart(5, '0')}`);
    const faults = this.faults.length;
    const written = device.dmaWrite(address, token, pasid === undefined ? {} : { pasid });
    const { pfn } = this.wire.at(-1) as WireRequest;
    if (written === 0) {
      const fault = this.faults[faults];
      return fault ? `0x${fault.reason.toString(16)}` : 'blocked without record';
    }
    const hpa = pfn * 4096 + (address % 4096);
    const found = new Uint8Array(token.length);
    this.machine.memory.copyOut(hpa, found);
    return found.join() === token.join() ? hpa : `${hpa}: nothing arrived`;
  }

  /** A quadword of physical memory. */
  physical(hpa: number): bigint {
    const bytes = new Uint8Array(8);
    this.machine.memory.copyOut(hpa, bytes);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  /** Put a struct into the program's memory; returns its address. */
  struct(bytes: Uint8Array): number {
    this.vmm.poke(SCRATCH, bytes);
    return SCRATCH;
  }

  /** What the struct holds now. */
  readStruct(length: number): Uint8Array {
    return this.vmm.peek(SCRATCH, length) as Uint8Array;
  }
}

const mapFixed = (process: Process, addr: number, length: number): void => {
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  process.mmap({ addr, length, flags });
};

/** Devices under iommufd, guest RAM mapped at GPA in a nest parent (the second stage). */
export interface NestingSetup {
  readonly scenario: Scenario;
  readonly context: IommufdContext;
  readonly devIds: readonly number[];
  readonly ioasId: number;
  /** The second stage: GPA to HPA. */
  readonly parentId: number;
  /** A nested HWPT over a table of the guest, PASID-compatible. */
  nested(root: number, devId?: number, faultId?: number): number;
  /** The guest changed pages of a table. */
  invalidate(hwptId: number, address: number, npages?: number): void;
}

/** See {@link NestingSetup}; the devices are on nothing yet. */
export const nestingSetup = (scenario: Scenario): NestingSetup => {
  const context = openIommufd(scenario.vmm, scenario.machine);
  const devIds = scenario.devices.map((device) => context.bindDevice(device));
  const first = devIds[0] as number;
  const { outIoasId: ioasId } = context.ioasAlloc();
  const flags = HWPT_ALLOC.NEST_PARENT | HWPT_ALLOC.PASID;
  const { outHwptId: parentId } = context.hwptAlloc({ devId: first, ptId: ioasId, flags });
  const ram = { userVa: GUEST.HVA, length: GUEST.BYTES, iova: 0 };
  context.ioasMap({ ioasId, flags: FIXED_RW, ...ram });
  return {
    scenario,
    context,
    devIds,
    ioasId,
    parentId,
    nested: (root, devId = first, faultId) =>
      context.hwptAlloc({
        devId,
        ptId: parentId,
        flags: HWPT_ALLOC.PASID | (faultId === undefined ? 0 : HWPT_ALLOC.FAULT_ID_VALID),
        ...(faultId !== undefined && { faultId }),
        dataType: HWPT_DATA.VTD_S1,
        data: encodeHwptVtdS1({ pgtblAddr: root, addrWidth: 48 }),
      }).outHwptId,
    invalidate: (hwptId, addr, npages = 1) => {
      const data = encodeHwptVtdS1Invalidate([{ addr, npages }]);
      context.hwptInvalidate({ hwptId, dataType: 0, entryLen: 24, entryNum: 1, data });
    },
  };
};
