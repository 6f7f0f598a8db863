/** The machine that the recordings were made on, as far as they see it. */
import {
  createMachine,
  type Endpoint,
  type Machine,
  type VfioDevice,
  type VfioGroup,
} from '@iommukit/core';
import { vtd } from '@iommukit/driver-vtd';
import { vfioGroupOf } from '../../src/index.ts';

/** Which tables QEMU's VT-d unit was told to use. */
export type Platform = 'vtd-legacy' | 'vtd-scalable-stage1';

/** CAP and ECAP of the emulated unit, as the recordings of IOMMU_GET_HW_INFO show them. */
const REGISTERS: Readonly<Record<Platform, { readonly cap: bigint; readonly ecap: bigint }>> = {
  'vtd-legacy': { cap: 0x00d2_008c_222f_0686n, ecap: 0xf0_0f4an },
  'vtd-scalable-stage1': { cap: 0x01d2_008c_222f_0686n, ecap: 0x8800_00f0_0f4an },
};
const HOST_ADDRESS_BITS = 39;

/** Devices: two alone in their groups, two behind one bridge. */
const DEVICES = [
  { letter: 'a', name: '0000:00:05.0', group: 'a' },
  { letter: 'b', name: '0000:00:06.0', group: 'b' },
  { letter: 'c', name: '0000:02:01.0', group: 'cd' },
  { letter: 'd', name: '0000:02:02.0', group: 'cd' },
] as const;

/** A machine, its groups and devices by the names of the recordings. */
export interface Recorded {
  readonly machine: Machine;
  readonly groups: Readonly<Record<string, VfioGroup>>;
  readonly devices: Readonly<Record<string, VfioDevice>>;
}

/** Build the machine with a unit like QEMU's in charge of all devices. */
export const recordedMachine = (platform: Platform): Recorded => {
  const machine = createMachine({ ramBytes: 64 * 2 ** 20 });
  for (const { name, group } of DEVICES) machine.addEndpoint({ rid: name, name, group });
  machine.addUnit(
    vtd({
      scalable: platform !== 'vtd-legacy',
      capabilities: { ver: 0x10, ...REGISTERS[platform] },
      hostAddressBits: HOST_ADDRESS_BITS,
    }),
  );
  const groups: Record<string, VfioGroup> = {};
  const devices: Record<string, VfioDevice> = {};
  for (const { letter, name, group } of DEVICES) {
    const endpoint = machine.endpoints.find((known) => known.name === name) as Endpoint;
    const vfioGroup = vfioGroupOf(machine, endpoint.group);
    groups[group] = vfioGroup;
    devices[letter] = vfioGroup.devices.find(({ device }) => device === endpoint) as VfioDevice;
  }
  return { machine, groups, devices };
};
