import { createMachine, type Endpoint, type Machine } from '@iommukit/core';
import { createVtdHardware, type VtdHardware } from '@iommukit/driver-vtd';
import type { Platform } from './platform.ts';

/** What an emulator has: RAM, a device on a bus, and the model of a VT-d unit between them. */
export interface Emulator {
  readonly machine: Machine;
  readonly endpoint: Endpoint;
  readonly hardware: VtdHardware;
  /** The same, as the guest sees it: registers, RAM, interrupts. */
  readonly platform: Platform;
}

/** Requester id of the one device, 00:04.0. */
export const DEVICE_RID = 0x20;

/** A machine whose IOMMU nobody has programmed yet. */
export const createEmulator = (): Emulator => {
  const machine = createMachine({ ramBytes: 4 * 2 ** 20 });
  const { memory } = machine;
  // The bus's devices send translated requests with their PASID, so the unit must take them.
  const capabilities = { ecap: { PTRS: 1 } };
  const hardware = createVtdHardware({ memory, bus: machine, capabilities });
  const endpoint = machine.addEndpoint({
    rid: DEVICE_RID,
    name: 'device',
    pasidBits: 20,
    ats: true,
    pri: true,
  });
  endpoint.agent = hardware;
  const platform: Platform = {
    readRegister: (offset) => hardware.readReg32(offset),
    writeRegister: (offset, value) => hardware.writeReg32(offset, value),
    readMemory: (address) => memory.read32(address),
    writeMemory: (address, value) => {
      memory.write32(address, value);
    },
    allocPages: (count) => memory.allocPages(count),
    routeInterrupt: (handler) => machine.allocMessageAddress(handler),
  };
  return { machine, endpoint, hardware, platform };
};
