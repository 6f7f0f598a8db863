/**
 * Guests on SMMUv3s: two devices behind one unit, one behind a second, a program with a guest's RAM
 * (GPA 0 to 16 MiB) as the parent's mappings, and in it two sets of tables with the same ASID.
 */
import { encode } from '@iommukit/bits';
import {
  createMachine,
  createProcess,
  type Endpoint,
  HWPT_ALLOC,
  HWPT_DATA,
  IOAS_MAP,
  isIommuError,
  MAP_FLAG,
  openIommufd,
  type UnrecoverableFault,
  VIOMMU_TYPE,
} from '@iommukit/core';
import {
  encodeHwptArmSmmuv3,
  encodeViommuArmSmmuv3Invalidate,
  type SmmuIommuUnit,
  type SmmuOptions,
  STE,
  smmuv3,
} from '../../src/index.ts';

type SteFields = Partial<Record<'CONFIG' | 'S1CDMAX' | 'S1DSS' | 'S1CONTEXTPTR' | 'EATS', number>>;

const HVA = 0x4000_0000;
const RAM_BYTES = 2 ** 24;
const RW = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;

/** A guest address that both tables map, and the guest pages behind it. */
export const VA = 0x7f00_0000_1000;
export const PAGE_OF = { A1: 0x9000, A2: 0xa000 } as const;
/** Guest addresses of the context descriptors. */
export const CD_OF = { A1: 0x6_0000, A2: 0x6_8000 } as const;
/** Leaf of {@link VA} in each table. */
export const LEAF_OF = { A1: 0x3_3008, A2: 0x3_b008 } as const;

/** AArch64 tables of three levels above a leaf, and a CD with ASID 1. */
const writeTables = (write: (gpa: number, value: bigint) => void, which: 'A1' | 'A2'): void => {
  const root = which === 'A1' ? 0x3_0000 : 0x3_8000;
  write(root + 0x7f0, BigInt(root + 0x1003));
  write(root + 0x1000, BigInt(root + 0x2003));
  write(root + 0x2000, BigInt(root + 0x3003));
  write(LEAF_OF[which], BigInt(PAGE_OF[which] + 0xf43));
  write(CD_OF[which], 0x1e205c0003510n);
  write(CD_OF[which] + 8, BigInt(root));
};

/** `CODE rule` of a refusal, or `'done'`. */
export const refusalOf = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    if (isIommuError(error)) return `${error.code} ${error.reason.rule}`;
    throw error;
  }
  return 'done';
};

/** Devices behind their units, and nobody on them. */
export const hardwareOf = (options: SmmuOptions = {}) => {
  const machine = createMachine({ ramBytes: 2 ** 26 });
  const traits = { pasidBits: 20, ats: true, pri: true };
  const devices = ['00:04.0', '00:05.0', '01:00.0'].map((rid) =>
    machine.addEndpoint({ rid, ...traits }),
  );
  const units = [devices.slice(0, 2), devices.slice(2)].map((behind) =>
    machine.addUnit(smmuv3({ canWbs: true, ...options }), behind),
  );
  return { machine, devices, units };
};

/** Everything up and nothing attached. */
const guestMachine = (options: SmmuOptions = {}) => {
  const { machine, devices, units } = hardwareOf(options);
  const faults: UnrecoverableFault[] = [];
  machine.onFault((fault) => faults.push(fault));
  const process = createProcess(machine);
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  process.mmap({ addr: HVA, length: RAM_BYTES, flags });
  const context = openIommufd(process, machine);
  const devIds = devices.map((device) => context.bindDevice(device));
  const write = (gpa: number, value: bigint): void => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    process.poke(HVA + gpa, bytes);
  };
  writeTables(write, 'A1');
  writeTables(write, 'A2');
  const hardware = units.map((unit) => (unit as SmmuIommuUnit).hardware);
  return { machine, devices, units, hardware, faults, process, context, devIds, write };
};

/** A stage 2 with the guest's RAM, and the calls that a VMM makes. */
export const guest = (options: SmmuOptions = {}) => {
  const base = guestMachine(options);
  const { context, devIds, devices, process } = base;
  const id = (device: number): number => devIds[device] as number;
  const { outIoasId: ioasId } = context.ioasAlloc();
  const { outHwptId: parentId } = context.hwptAlloc({
    devId: id(0),
    ptId: ioasId,
    flags: HWPT_ALLOC.NEST_PARENT,
  });
  context.ioasMap({ ioasId, flags: RW, userVa: HVA, length: RAM_BYTES, iova: 0 });
  const vste = (fields: SteFields): Uint8Array =>
    encodeHwptArmSmmuv3(encode(STE, { V: 1, ...fields }));
  const nested = (device: number, ptId: number, data: Uint8Array): number =>
    context.hwptAlloc({ devId: id(device), ptId, dataType: HWPT_DATA.ARM_SMMUV3, data }).outHwptId;
  return {
    ...base,
    ioasId,
    parentId,
    id,
    vste,
    nested,
    /** A vSTE with the CD table at a guest address. */
    s1: (cd: number, fields: SteFields = {}) => vste({ CONFIG: 5, S1CONTEXTPTR: cd, ...fields }),
    viommu: (device: number, hwptId = parentId): number =>
      context.viommuAlloc({ devId: id(device), hwptId, type: VIOMMU_TYPE.ARM_SMMUV3 }).outViommuId,
    vdevice: (viommuId: number, device: number, virtId: number | bigint): number =>
      context.vdeviceAlloc({ viommuId, devId: id(device), virtId }).outVdeviceId,
    attach: (device: number, hwptId: number): number => context.deviceAttach(id(device), hwptId),
    replace: (device: number, hwptId: number): number => context.deviceReplace(id(device), hwptId),
    /** Execute commands; returns entry_num, and the refusal if there was one. */
    invalidate: (hwptId: number, commands: readonly ArrayLike<number>[]): string => {
      const data = encodeViommuArmSmmuv3Invalidate(commands);
      const request = { hwptId, dataType: 1, entryLen: 16, entryNum: commands.length, data };
      return refusalOf(() => context.hwptInvalidate(request));
    },
    /** A device writes a new value at a guest virtual address; which guest page has it? */
    page: (device: number, address: number | bigint, pasid?: number): number | string => {
      const token = new TextEncoder().encode(`t${tokens++}`.padEnd(8));
      const endpoint = devices[device] as Endpoint;
      const before = base.faults.length;
      const written = endpoint.dmaWrite(address, token, pasid === undefined ? {} : { pasid });
      if (written === 0) return base.faults[before]?.name.split(':')[0] ?? 'blocked';
      for (let gpa = 0; gpa < 0x10_0000; gpa += 0x1000) {
        const offset = Number(BigInt(address) & 0xfffn);
        const found = process.peek(HVA + gpa + offset, 8);
        if (found?.join() === token.join()) return gpa;
      }
      return 'elsewhere';
    },
  };
};

let tokens = 0;
