/** The machine that the recordings were made on, as far as they see it. */
import { createMachine, type IommuGroup, type Machine } from '@iommukit/core';
import { vtd } from '@iommukit/driver-vtd';

/** Which tables QEMU's VT-d unit was told to use. */
export type Platform = 'vtd-legacy' | 'vtd-scalable-stage1' | 'vtd-scalable-stage2';

/** CAP and ECAP of the emulated unit; with first-stage tables it has 1 GiB pages (CAP.FS1GP). */
const REGISTERS: Readonly<Record<Platform, { readonly cap: bigint; readonly ecap: bigint }>> = {
  'vtd-legacy': { cap: 0x80d2_008c_222f_0606n, ecap: 0xf0_0f4an },
  'vtd-scalable-stage1': { cap: 0x81d2_008c_222f_0606n, ecap: 0x8800_00f0_0f4an },
  'vtd-scalable-stage2': { cap: 0x80d2_008c_222f_0606n, ecap: 0x4800_80f0_0f4an },
};

/** Devices: two alone in their groups, two behind one bridge. */
export const DEVICES = [
  { name: '0000:00:05.0', group: 'a' },
  { name: '0000:00:06.0', group: 'b' },
  { name: '0000:02:01.0', group: 'cd' },
  { name: '0000:02:02.0', group: 'cd' },
] as const;

/** A machine, and its groups by the names of the recordings. */
export interface Recorded {
  readonly machine: Machine;
  readonly groups: Readonly<Record<string, IommuGroup>>;
}

/** Build the machine with a unit like QEMU's in charge of all devices. */
export const recordedMachine = (platform: Platform): Recorded => {
  const machine = createMachine({ ramBytes: 64 * 2 ** 20 });
  const groups: Record<string, IommuGroup> = {};
  for (const { name, group } of DEVICES) {
    groups[group] = machine.addEndpoint({ rid: name, name, group }).group;
  }
  const scalable = platform !== 'vtd-legacy';
  machine.addUnit(vtd({ scalable, capabilities: { ver: 0x10, ...REGISTERS[platform] } }));
  return { machine, groups };
};
