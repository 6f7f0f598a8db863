/**
 * Guests on SMMUv3s in the memory of the seed scenarios: a vSMMU per guest, their tables, commands
 * as bytes, and what the host wrote for a device, read as hardware finds it.
 */
import { decode } from '@iommukit/bits';
import {
  type Endpoint,
  HWPT_ALLOC,
  HWPT_DATA,
  openIommufd,
  sysIoctl,
  VIOMMU_TYPE,
} from '@iommukit/core';
import {
  type SmmuIommuUnit,
  type SmmuOptions,
  STE,
  STRTAB_BASE,
  smmuv3,
} from '@iommukit/driver-smmuv3';
import { FIXED_RW } from '../machine.ts';
import { nameOf } from '../raw-kit.ts';
import { GUEST, Scenario, VECTORS } from './guest-image.ts';

/** AArch64 tables of a guest: where the CD is, an address they map, its leaf, and where it leads. */
export const A1 = {
  cd: '0x60000',
  va: 0x7f00_0000_1010,
  slot: 0x33008,
  hpa: 0x1_0000_9010,
} as const;
/** See {@link A1}. */
export const A2 = {
  cd: '0x68000',
  va: 0x7f00_0000_1010,
  slot: 0x3b008,
  hpa: 0x1_0000_a010,
} as const;

/** Guest RAM, but for the window that an Arm host keeps for its interrupt controller. */
const RAM = [
  { start: 0, end: 0x800_0000 },
  { start: 0x810_0000, end: GUEST.BYTES },
] as const;

/** `IOMMU_HWPT_INVALIDATE`. */
const HWPT_INVALIDATE = 0x3b8d;
const INVALIDATE_BYTES = 32;
const COMMAND_BYTES = 16;

/** Every unit's devices are fully coherent, which guests need where stage 2 cannot force it. */
const arm = (options: SmmuOptions = {}) => smmuv3({ canWbs: true, ...options });

/** The 16 bytes of a vSTE or of a command, from its two 64-bit words. */
export const wordPair = (w0: bigint | string, w1: bigint | string = 0n): Uint8Array => {
  const bytes = new Uint8Array(COMMAND_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(w0), true);
  view.setBigUint64(8, BigInt(w1), true);
  return bytes;
};

/** vSTE of stage 1 with a guest's CD. */
export const vsteOf = ({ cd }: { readonly cd: string }): Uint8Array =>
  wordPair(VECTORS.arm.vste0[cd] as string);

/** devA, devB, devC: all behind one SMMU, or devB behind one of its own. */
export const LAYOUTS = {
  L1: [['devA', 'devB', 'devC']],
  L2: [['devA', 'devC'], ['devB']],
} as const;

const RIDS = { devA: '00:04.0', devB: '00:05.0', devC: '00:06.0' } as const;
type DeviceName = keyof typeof RIDS;

/** A VMM with guest RAM in one stage 2, and the calls of the scenarios. */
export class ArmVmm {
  readonly scenario: Scenario;
  readonly context: ReturnType<typeof openIommufd>;
  readonly parentId: number;

  constructor(layout: keyof typeof LAYOUTS, options: SmmuOptions = {}) {
    this.scenario = new Scenario(
      LAYOUTS[layout].map((names) => ({
        driver: arm(options),
        devices: names.map((name) => ({ rid: RIDS[name], name, pasidBits: 20, ats: true })),
      })),
    );
    this.context = openIommufd(this.scenario.vmm, this.scenario.machine);
    for (const endpoint of this.scenario.devices) this.context.bindDevice(endpoint);
    const { outIoasId: ptId } = this.context.ioasAlloc();
    const flags = HWPT_ALLOC.NEST_PARENT;
    this.parentId = this.context.hwptAlloc({ devId: this.id('devA'), ptId, flags }).outHwptId;
    for (const { start, end } of RAM) {
      const ram = { userVa: GUEST.HVA + start, length: end - start, iova: start };
      this.context.ioasMap({ ioasId: ptId, flags: FIXED_RW, ...ram });
    }
  }

  device(name: DeviceName): Endpoint {
    return this.scenario.devices.find((each) => each.name === name) as Endpoint;
  }

  /** Devices are bound in their order, before anything else gets an id. */
  id(name: DeviceName): number {
    return this.scenario.devices.findIndex((each) => each.name === name) + 1;
  }

  viommu(name: DeviceName): number {
    const request = { hwptId: this.parentId, type: VIOMMU_TYPE.ARM_SMMUV3 };
    return this.context.viommuAlloc({ devId: this.id(name), ...request }).outViommuId;
  }

  vdevice(viommuId: number, name: DeviceName, virtId: number): number {
    return this.context.vdeviceAlloc({ viommuId, devId: this.id(name), virtId }).outVdeviceId;
  }

  nested(name: DeviceName, ptId: number, data: Uint8Array): number {
    const request = { ptId, dataType: HWPT_DATA.ARM_SMMUV3, data };
    return this.context.hwptAlloc({ devId: this.id(name), ...request }).outHwptId;
  }

  attach(name: DeviceName, hwptId: number): void {
    this.context.deviceAttach(this.id(name), hwptId);
  }

  /** A device in a vSMMU of its own: the whole flow. */
  guest(name: DeviceName, tables: { readonly cd: string }, vsid = 0x10) {
    const viommuId = this.viommu(name);
    const vdeviceId = this.vdevice(viommuId, name, vsid);
    const hwptId = this.nested(name, viommuId, vsteOf(tables));
    this.attach(name, hwptId);
    return { viommuId, vdeviceId, hwptId };
  }

  /**
   * A device whose guest has a table of 16 CDs at GPA 0x60000; requests without PASID use CD 0. The
   * guest writes others by itself.
   */
  cdTableGuest(name: DeviceName) {
    const viommuId = this.viommu(name);
    this.vdevice(viommuId, name, 0x10);
    // S1CDMax 4; S1DSS 2: CD 0 for requests without PASID.
    const vste = wordPair(BigInt(VECTORS.arm.vste0[A1.cd] ?? 0) | (4n << 59n), 2n);
    this.attach(name, this.nested(name, viommuId, vste));
    const writeCd = (index: number, tables: { readonly cd: string }, asid: number): void => {
      const [w0 = '0', w1 = '0'] = VECTORS.arm.cd[tables.cd] ?? [];
      const at = Number(A1.cd) + 64 * index;
      this.scenario.write(at, (BigInt(w0) % 2n ** 48n) + (BigInt(asid) << 48n));
      this.scenario.write(at + 8, BigInt(w1));
    };
    return { viommuId, writeCd };
  }

  /** Where a write of the device arrives, or the code of the event it causes. */
  dma(name: DeviceName, address: number, pasid?: number): number | string {
    return this.scenario.dma(this.device(name), address, pasid);
  }

  /** The raw call, through the program's memory. @returns `[errno name, entry_num]` */
  invalidate(viommuId: number, ...commands: readonly Uint8Array[]): [string, number] {
    const bytes = new Uint8Array(INVALIDATE_BYTES + COMMAND_BYTES * commands.length);
    commands.forEach((command, at) => {
      bytes.set(command, INVALIDATE_BYTES + COMMAND_BYTES * at);
    });
    const view = new DataView(bytes.buffer);
    const at = this.scenario.struct(bytes);
    view.setUint32(0, INVALIDATE_BYTES, true);
    view.setUint32(4, viommuId, true);
    view.setBigUint64(8, BigInt(at + INVALIDATE_BYTES), true);
    view.setUint32(16, 1, true);
    view.setUint32(20, COMMAND_BYTES, true);
    view.setUint32(24, commands.length, true);
    this.scenario.struct(bytes);
    const result = sysIoctl(this.scenario.vmm, this.context.fd, HWPT_INVALIDATE, at);
    const answer = this.scenario.readStruct(INVALIDATE_BYTES);
    return [nameOf(result), new DataView(answer.buffer, answer.byteOffset).getUint32(24, true)];
  }

  /** The stream table entry of a device: register, level 1, level 2. */
  streamEntry(name: DeviceName) {
    const { machine } = this.scenario;
    const { rid } = this.device(name);
    const unit = machine.unitOf(this.device(name)) as SmmuIommuUnit;
    const register = [0, 4].map((at) => unit.hardware.readReg32(STRTAB_BASE.offset + at));
    const base = decode(STRTAB_BASE, Uint32Array.from(register)).ADDR;
    const leaf = this.scenario.physical(base + (rid >> 8) * 8) & 0xf_ffff_ffff_ffc0n;
    const at = Number(leaf) + (rid & 0xff) * 64;
    const words = Array.from({ length: 16 }, (_, word) => machine.memory.read32(at + 4 * word));
    return decode(STE, Uint32Array.from(words));
  }
}
